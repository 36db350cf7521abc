"""A TLS server on loopback that says to its clients what a test tells it to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.unit.explainer.authority import make_authority

Say = Callable[[asyncio.StreamWriter], Awaitable[None]]
REGISTRY = (
    b"HTTP/1.1 401 Unauthorized\r\nDocker-Distribution-Api-Version: registry/2.0\r\n"
    b'WWW-Authenticate: Basic realm="r"\r\nContent-Length: 0\r\n\r\n'
)
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"
REDIRECT = b"HTTP/1.1 307 T\r\nLocation: https://127.0.0.1/v2/\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Stranger:
    """Where it listens; what it was asked, and by which server names."""

    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)


def says(what: bytes) -> Say:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(what)
        await writer.drain()

    return say


async def is_silent(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drips(writer: asyncio.StreamWriter) -> None:
    """A header without end, a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def floods(writer: asyncio.StreamWriter) -> None:
    """A body without end, as fast as it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


@asynccontextmanager
async def stranger(directory: Path, say: Say, *, tls: bool = True) -> AsyncIterator[Stranger]:
    """Serve until the block ends."""
    told = Stranger()
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(OSError, EOFError):
            told.asked.append(await reader.readuntil(b"\r\n\r\n"))
            await say(writer)
        writer.close()

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*make_authority(directory))
        context.sni_callback = lambda _socket, name, _context: told.names.append(name)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        for task in tasks:
            if task is not None:
                task.cancel()
        server.close()
