"""The prober: asks one host at a time on a connection that it is handed, many side by side.

It talks to strangers. So everything is bounded: questions at once, the time of each, and the bytes
that are read. No certificate is verified, for a registry with an authority of its own is to be
found too, and nothing that is said is believed but that it is a registry.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from ipaddress import ip_address

from ramfw import __version__
from ramfw.core.probe import Outcome
from ramfw.core.registry_check import Evidence
from ramfw.prober import protocol
from ramfw.wire.registry_answer import RegistryAnswer

AGENT = f"ramfw/{__version__}"
MOST_AT_ONCE = 64
PATIENCE = 5.0
"""Seconds for one question, from the first byte of the handshake."""
QUESTION_PATIENCE = 1.0
"""Seconds in which the daemon must have put its question."""
CHUNK = 4096


def tls_context() -> ssl.SSLContext:
    """TLS as the most lenient client speaks it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # Old registries are registries: what is weak here protects nothing.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_alpn_protocols(["http/1.1"])
    return context


class Prober:
    """Answers the daemon's questions."""

    def __init__(self) -> None:
        self._context = tls_context()
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)

    async def serve(self, asker: socket.socket) -> None:
        """Answer one connection's one question, and close it."""
        with asker:
            try:
                async with self._slots:
                    async with asyncio.timeout(QUESTION_PATIENCE):
                        line, stranger = await _question(asker)
                    with stranger:
                        told = await self.ask(stranger, *protocol.read_question(line))
                    async with asyncio.timeout(QUESTION_PATIENCE):
                        await asyncio.get_running_loop().sock_sendall(asker, protocol.answer(*told))
            except (OSError, TimeoutError, ValueError):
                pass  # the daemon takes a connection that ends for no answer

    async def ask(
        self, stranger: socket.socket, host: str, port: int
    ) -> tuple[Outcome, Evidence | None]:
        """What the server at the other end of a connection is. Raises ValueError."""
        answer = RegistryAnswer(host, port, AGENT)
        # ssl.SSLError is an OSError; a name that TLS cannot have is a ValueError.
        with suppress(OSError, EOFError, TimeoutError, ValueError):
            async with asyncio.timeout(PATIENCE):
                await self._exchange(stranger, _server_name(host), answer)
        if answer.evidence is not None:
            return Outcome.REGISTRY, answer.evidence
        # What is not HTTP is no registry; of what was cut short nobody knows.
        return (Outcome.OTHER if answer.is_whole else Outcome.SILENT), None

    async def _exchange(self, stranger: socket.socket, name: str, answer: RegistryAnswer) -> None:
        reader, writer = await asyncio.open_connection(
            sock=stranger, ssl=self._context, server_hostname=name
        )
        try:
            writer.write(answer.request)
            while not answer.is_whole and (data := await reader.read(CHUNK)):
                answer.receive(data)
            answer.receive(b"")
        finally:
            writer.transport.abort()


async def _question(asker: socket.socket) -> tuple[bytes, socket.socket]:
    """A question's line, and the connection that came with it."""
    await _readable(asker)
    line, descriptors, _, _ = socket.recv_fds(asker, protocol.LONGEST_LINE, 1)
    if len(descriptors) != 1 or not line.endswith(b"\n"):
        for descriptor in descriptors:
            socket.close(descriptor)
        raise ValueError("not a question")
    stranger = socket.socket(fileno=descriptors[0])
    stranger.setblocking(False)  # noqa: FBT003 - the socket module's own form
    return line, stranger


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _server_name(host: str) -> str:
    """What TLS calls the host by: nothing where it is an address (RFC 6066)."""
    try:
        ip_address(host)
    except ValueError:
        return host
    return ""
