"""The explainer: takes refused connections, says why in their own protocol, and closes them.

It talks to strangers. So everything is bounded: connections at once (a new one pushes out the
oldest), the bytes and the time of each, and the certificates that are kept.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import NamedTuple

from ramfw.core.fqdn import canonical
from ramfw.core.policy_names import entry_for
from ramfw.core.refusal_message import as_registry, refusal_message
from ramfw.explainer.answer import Asked, Conversation
from ramfw.explainer.contexts import Contexts
from ramfw.explainer.policy_cache import PolicyCache
from ramfw.explainer.tls import CHUNK, MOST_RECEIVED, Peek, TlsStream

MOST_AT_ONCE = 512
FIRST_BYTE = 0.8
"""Seconds in which a client must begin to speak. Some wait for the server's greeting: they are
refused then, before a person notices."""
PATIENCE = 4.0
"""Seconds that a whole connection may take."""
LINGER = 1.0
"""Seconds that a client may go on sending before it reads the answer."""
MOST_LINGERING = 1 << 20
"""Bytes of that; they are thrown away."""

MOST_DIGITS = 5
"""Of a port."""

_TLS_HANDSHAKE = b"\x16"
_SO_ORIGINAL_DST = 80  # linux/netfilter_ipv4.h, and IP6T_SO_ORIGINAL_DST
_SOCKADDR_IN = struct.Struct("!HH4s8x")
_SOCKADDR_IN6 = struct.Struct("!HH4x16s4x")
_V4_MAPPED = "::ffff:"


class Explainer:
    """Answers connections, one by one and many at a time."""

    def __init__(self, policy: Path, signer: Path) -> None:
        self._policies = PolicyCache(policy)
        self._contexts = Contexts(signer)
        self._peek = Peek()
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection, and close it, whatever comes."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio starts this as a task
        if len(self._open) >= MOST_AT_ONCE:
            oldest, its_writer = next(iter(self._open.items()))
            del self._open[oldest]
            _reset(its_writer)
            oldest.cancel()
        self._open[task] = writer
        try:
            async with asyncio.timeout(PATIENCE):
                await self._serve(reader, writer)
        except (OSError, EOFError, TimeoutError, ValueError):  # ssl.SSLError is an OSError
            _reset(writer)
        except asyncio.CancelledError:
            pass  # pushed out; nobody awaits this task
        finally:
            self._open.pop(task, None)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wanted = original_destination(writer.get_extra_info("socket"))
        async with asyncio.timeout(FIRST_BYTE):
            first = await reader.read(CHUNK)
        if not first:
            return
        if first.startswith(_TLS_HANDSHAKE):
            await self._over_tls(TlsStream(reader, writer, first), wanted)
        else:
            await self._in_plain(reader, writer, first, wanted)
        await _linger(reader, writer)

    async def _over_tls(self, stream: TlsStream, wanted: Wanted) -> None:
        name = _canonical(await stream.server_name(self._peek))
        message = self._message(name, wanted)
        host = name or wanted.address
        policy = self._policies.last_good
        may_be_signed = bool(name and policy and policy.explainer.ca)
        context = await self._contexts.get(host, message, may_be_signed=may_be_signed)
        await stream.handshake(context)
        conversation = Conversation()
        while (asked := conversation.receive(await stream.read())) is None:
            pass
        # Inside, the host is the one that the certificate was made for.
        await stream.write(conversation.answer(asked, host, message))

    async def _in_plain(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        first: bytes,
        wanted: Wanted,
    ) -> None:
        conversation = Conversation()
        received = len(first)
        asked = conversation.receive(first)
        while asked is None:
            data = await reader.read(CHUNK)
            received += len(data)
            if received > MOST_RECEIVED:
                raise EOFError
            asked = conversation.receive(data)
        name = _named(asked)
        host, message = name or wanted.address, self._message(name, wanted, _shown(asked, name))
        writer.write(conversation.answer(asked, host, message))
        await writer.drain()

    def _message(self, name: str, wanted: Wanted, shown: str = "") -> str:
        """What a person is told. A permitted name was refused for its place, which is told."""
        policy = self._policies.last_good
        place = f"{wanted.address} port {wanted.port}"
        host = shown or name or place
        if name and policy is not None and entry_for(policy, name) is not None:
            host = f"{name} at {place}"
        return refusal_message(policy, host)


class Wanted(NamedTuple):
    """Where a client wanted to go."""

    address: str
    port: int


def original_destination(connection: socket.socket) -> Wanted:
    """Where the client wanted to go before its connection was turned here.

    Conntrack remembers it (SO_ORIGINAL_DST, ip(7)); where it was not turned, the local end.
    """
    local, port = connection.getsockname()[:2]
    is_v4 = connection.family == socket.AF_INET or local.startswith(_V4_MAPPED)
    level, form = (socket.SOL_IP, _SOCKADDR_IN) if is_v4 else (socket.IPPROTO_IPV6, _SOCKADDR_IN6)
    try:
        told = connection.getsockopt(level, _SO_ORIGINAL_DST, form.size)
    except OSError:
        return Wanted(local.removeprefix(_V4_MAPPED), port)
    _, port, packed = form.unpack(told)
    return Wanted(str(IPv4Address(packed) if is_v4 else IPv6Address(packed)), port)


def _canonical(name: str) -> str:
    """The name in its canonical form; empty where it is none."""
    try:
        return canonical(name)
    except ValueError:
        return ""


def _named(asked: Asked) -> str:
    """The name that a plain request is for."""
    host, _, port = asked.host.rpartition(":")
    return _canonical(host if host and port.isdigit() else asked.host)


def _shown(asked: Asked, name: str) -> str:
    """The name as people are told it: with its port where that is a part of it, as of a proxy."""
    port = asked.host.rpartition(":")[2]
    if asked.method != "CONNECT" or not name or not port.isdecimal() or len(port) > MOST_DIGITS:
        return name
    return as_registry(name, int(port))


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Let the client read: to close on bytes that it still sends would take the answer back."""
    writer.write_eof()
    received = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while received < MOST_LINGERING and (data := await reader.read(CHUNK)):
                received += len(data)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Have the connection end at once, with a reset: nothing of it stays in the kernel."""
    connection: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
