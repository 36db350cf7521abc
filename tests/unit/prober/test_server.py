"""The prober on connections that it is handed: what it asks, and how it is bounded."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from ramfw import __version__
from ramfw.core.probe import Outcome
from ramfw.core.registry_check import Evidence
from ramfw.prober import protocol, server
from ramfw.prober.server import Prober
from tests.unit.prober.stranger import (
    PAGE,
    REDIRECT,
    REGISTRY,
    Say,
    drips,
    floods,
    is_silent,
    says,
    stranger,
)

NAME = "registry.example"
Told = tuple[Outcome, Evidence | None]
OTHER, SILENT = (Outcome.OTHER, None), (Outcome.SILENT, None)
FOUND = (Outcome.REGISTRY, Evidence.HEADER)


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[socket.socket]:
    with socket.socket() as connection:
        connection.setblocking(False)  # noqa: FBT003 - the socket module's own form
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
        yield connection


async def ask(port: int, host: str = NAME, named: int = 443) -> Told:
    """Put a question to a prober, with a connection to this port."""
    asker, asked = pair()
    with asker:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Prober().serve(asked))
            async with connected(port) as connection:
                socket.send_fds(asker, [protocol.question(host, named)], [connection.fileno()])
            line = await asyncio.get_running_loop().sock_recv(asker, 4096)
    return protocol.read_answer(line)


def pair() -> tuple[socket.socket, socket.socket]:
    """The daemon's end and the prober's."""
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)  # noqa: FBT003 - the socket module's own form
    return ends


async def told_of(directory: Path, say: Say, *, tls: bool = True) -> Told:
    async with stranger(directory, say, tls=tls) as there:
        return await ask(there.port)


async def test_a_registry_is_asked_by_the_name_that_the_client_used(tmp_path: Path) -> None:
    async with stranger(tmp_path, says(REGISTRY)) as there:
        assert await ask(there.port, named=8443) == FOUND
    assert there.names == [NAME]
    (head,) = there.asked
    assert head.startswith(f"GET /v2/ HTTP/1.1\r\nHost: {NAME}:8443\r\n".encode())
    assert f"\r\nUser-Agent: ramfw/{__version__}\r\n".encode() in head


@pytest.mark.parametrize("host", ["127.0.0.1", "2001:db8::1"])
async def test_an_address_is_no_server_name(tmp_path: Path, host: str) -> None:
    async with stranger(tmp_path, says(REGISTRY)) as there:
        assert await ask(there.port, host) == FOUND
    assert there.names == [None]


async def test_an_odd_name_is_asked_by_or_is_none(tmp_path: Path) -> None:
    async with stranger(tmp_path, says(REGISTRY)) as there:
        assert await ask(there.port, "my_registry.example") == FOUND
    assert there.names == ["my_registry.example"]


async def test_a_name_that_tls_cannot_have_is_silent_and_no_fault(tmp_path: Path) -> None:
    """A client chose it: a prober that failed over it would let others pass unasked."""
    async with stranger(tmp_path, says(REGISTRY)) as there:
        assert await ask(there.port, f"{'a' * 64}.example") == SILENT


async def test_a_page_and_a_redirect_are_no_registry(tmp_path: Path) -> None:
    assert await told_of(tmp_path, says(PAGE)) == OTHER
    async with stranger(tmp_path, says(REDIRECT)) as there:
        assert await ask(there.port) == OTHER
    assert len(there.asked) == 1


async def test_another_protocol_over_tls_is_no_registry(tmp_path: Path) -> None:
    async def say(writer: asyncio.StreamWriter) -> None:
        await says(b"* OK IMAP4rev1 is ready")(writer)
        await is_silent(writer)

    assert await told_of(tmp_path, say) == OTHER


@pytest.mark.parametrize("say", [is_silent, drips])
async def test_who_is_slow_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Say
) -> None:
    monkeypatch.setattr(server, "PATIENCE", 0.3)
    start = time.monotonic()
    assert await told_of(tmp_path, say) == SILENT
    assert time.monotonic() - start < 3


async def test_a_registry_that_is_slow_after_its_head_is_found_at_once(tmp_path: Path) -> None:
    async def say(writer: asyncio.StreamWriter) -> None:
        await says(REGISTRY.replace(b"Content-Length: 0", b"Content-Length: 9"))(writer)
        await is_silent(writer)

    assert await told_of(tmp_path, say) == FOUND


async def test_of_a_body_without_end_only_so_much_is_read(tmp_path: Path) -> None:
    assert await told_of(tmp_path, floods) == OTHER


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2", PAGE[:30]])
async def test_who_ends_before_an_answer_is_silent(tmp_path: Path, said: bytes) -> None:
    assert await told_of(tmp_path, says(said)) == SILENT


async def test_who_speaks_no_tls_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its server waits for the end of a request, which a hello is not."""

    async def say(writer: asyncio.StreamWriter) -> None:
        await says(REGISTRY)(writer)

    monkeypatch.setattr(server, "PATIENCE", 0.3)
    assert await told_of(tmp_path, say, tls=False) == SILENT


@pytest.mark.parametrize(
    ("line", "descriptors"),
    [
        (b"", 0),
        (b"nonsense\n", 1),
        (protocol.question(NAME, 443), 0),
        (protocol.question(NAME, 443)[:-1], 1),
        (protocol.question("a\r\nb", 443), 1),
    ],
)
async def test_what_is_no_question_gets_no_answer_and_leaves_nothing_open(
    tmp_path: Path, line: bytes, descriptors: int
) -> None:
    asker, asked = pair()
    with asker:
        async with (
            stranger(tmp_path, says(REGISTRY)) as there,
            connected(there.port) as connection,
            asyncio.TaskGroup() as tasks,
        ):
            tasks.create_task(Prober().serve(asked))
            if line:
                socket.send_fds(asker, [line], [connection.fileno()] * descriptors)
            else:
                asker.shutdown(socket.SHUT_WR)
            with suppress(ConnectionResetError):  # what was sent was not read to its end
                assert await asyncio.get_running_loop().sock_recv(asker, 4096) == b""
    assert asked.fileno() == -1


async def test_who_asks_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "QUESTION_PATIENCE", 0.1)
    asker, asked = pair()
    with asker:
        await Prober().serve(asked)
    assert asked.fileno() == -1
