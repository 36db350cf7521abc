"""A real DNS server on loopback, by UDP and TCP, that says what a test tells it to say."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Reply = dns.message.Message | bytes
Behaviour = Callable[[dns.message.Message, str], Awaitable[Iterable[Reply]]]


@dataclass
class Server(asyncio.DatagramProtocol):
    """`behaviour(query, "udp" or "tcp")` gives the replies; `asked` are the queries so far."""

    behaviour: Behaviour
    asked: list[tuple[str, dns.message.Message]] = field(default_factory=list)
    group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.group.create_task(self._answer_datagram(data, addr))

    async def _answer_datagram(self, data: bytes, addr: tuple[str, int]) -> None:
        for reply in await self._replies(data, "udp"):
            if self.transport is not None and not self.transport.is_closing():
                self.transport.sendto(reply, addr)

    async def answer_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        for reply in await self._replies(await reader.readexactly(length), "tcp"):
            writer.write(len(reply).to_bytes(2) + reply)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _replies(self, wire: bytes, transport: str) -> list[bytes]:
        query = dns.message.from_wire(wire)
        self.asked.append((transport, query))
        replies = await self.behaviour(query, transport)
        limit = 65535 if transport == "tcp" else max(512, query.payload)
        return [
            reply
            if isinstance(reply, bytes)
            else reply.to_wire(max_size=limit, prefer_truncation=True)
            for reply in replies
        ]


@asynccontextmanager
async def serving(servers: dict[str, Behaviour]) -> AsyncIterator[tuple[int, dict[str, Server]]]:
    """Servers on these loopback addresses, all on one free port: (port, server by address)."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        port = free_port()
        running = {}
        for address, behaviour in servers.items():
            server = Server(behaviour)
            await stack.enter_async_context(_cancelled_at_exit(server.group))
            transport, _ = await loop.create_datagram_endpoint(
                lambda server=server: server,  # type: ignore[misc]
                local_addr=(address, port),
            )
            stack.callback(transport.close)
            stream = await asyncio.start_server(server.answer_stream, address, port)
            await stack.enter_async_context(stream)
            running[address] = server
        yield port, running


@asynccontextmanager
async def _cancelled_at_exit(group: asyncio.TaskGroup) -> AsyncIterator[None]:
    class _OverError(Exception):
        pass

    async def end() -> None:
        raise _OverError

    try:
        async with group:
            yield
            group.create_task(end())
    except* _OverError:
        pass


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def answer(query: dns.message.Message, *records: str) -> dns.message.Message:
    """A response with these records: `name ttl type data`, names without the last dot."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.RA
    for record in records:
        name, ttl, kind, data = record.split()
        response.answer.append(dns.rrset.from_text(f"{name}.", int(ttl), "IN", kind, data))
    return response


def failure(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    response = dns.message.make_response(query)
    response.set_rcode(rcode)
    return response


def zone(*records: str) -> Behaviour:
    """An honest server: of its records, those that fit the question's type, and all CNAMEs."""

    async def behave(query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        kinds = {dns.rdatatype.to_text(query.question[0].rdtype), "CNAME"}
        return [answer(query, *(r for r in records if r.split()[2] in kinds))]

    return behave


def saying(rcode: dns.rcode.Rcode) -> Behaviour:
    async def behave(query: dns.message.Message, _transport: str) -> Iterable[Reply]:
        return [failure(query, rcode)]

    return behave


async def silent(_query: dns.message.Message, _transport: str) -> Iterable[Reply]:
    return []
