"""TLS on a connection whose first bytes were read already, with a certificate found by its name.

OpenSSL reads the hello: first on a connection that is thrown away, which tells the name, then on
the one that is answered. A certificate can be asked for in between, without a thread.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

CHUNK = 16 * 1024
"""Bytes that are read at once."""
MOST_RECEIVED = 64 * 1024
"""Bytes that a client may send in all: a hello, its part of the handshake, a request."""

T = TypeVar("T")


class Peek:
    """Reads the name in a hello; what it would answer is thrown away."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = self._note
        self._name: str | None = None

    def name(self, peeked: ssl.SSLObject) -> str:
        """The name, empty where there is none.

        Raises ssl.SSLWantReadError until the hello is whole, ssl.SSLError where it is none.
        """
        self._name = None
        try:
            peeked.do_handshake()
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError:
            if self._name is None:
                raise
        return self._name or ""

    def _note(self, _: object, name: str | None, __: object) -> int:
        self._name = name or ""
        return ssl.ALERT_DESCRIPTION_ACCESS_DENIED


class TlsStream:
    """The server's side of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._hello = bytearray(first)
        self._received = len(first)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    async def server_name(self, peek: Peek) -> str:
        """The name in the hello, as the client wrote it; empty where it has none.

        Raises ssl.SSLError where it is no hello, EOFError where it ends too early.
        """
        incoming = ssl.MemoryBIO()
        peeked = peek.context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        incoming.write(self._hello)
        while True:
            try:
                return peek.name(peeked)
            except ssl.SSLWantReadError:
                more = await self._more()
                self._hello += more
                incoming.write(more)

    async def handshake(self, context: ssl.SSLContext) -> None:
        """Answer the hello. Raises ssl.SSLError where the client does not like it."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(self._hello)
        self._hello.clear()
        await self._pumped(self._tls.do_handshake)

    async def read(self) -> bytes:
        """Some bytes that the client sent; empty at its end. Raises ssl.SSLError."""
        try:
            return await self._pumped(lambda: self._object.read(CHUNK))
        except (EOFError, ssl.SSLZeroReturnError):
            return b""

    async def write(self, data: bytes) -> None:
        """Send bytes, and then that no more come. Raises ssl.SSLError, OSError."""
        self._object.write(data)
        with suppress(ssl.SSLError):  # the client's own end is not waited for
            self._object.unwrap()
        await self._flush()

    @property
    def _object(self) -> ssl.SSLObject:
        assert self._tls is not None  # noqa: S101 - after the handshake
        return self._tls

    async def _pumped(self, work: Callable[[], T]) -> T:
        while True:
            try:
                result = work()
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await self._more())
            except ssl.SSLError:
                await self._flush()  # the alert that says why
                raise
            else:
                await self._flush()
                return result

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            self._writer.write(data)
            await self._writer.drain()

    async def _more(self) -> bytes:
        data = await self._reader.read(CHUNK)
        self._received += len(data)
        if not data or self._received > MOST_RECEIVED:
            raise EOFError
        return data
