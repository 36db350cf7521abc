"""The daemon's side of a question: whatever becomes of server and prober, one answer comes."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from ramfw.core.probe import Outcome, Place, Probed
from ramfw.core.registry_check import Evidence
from ramfw.prober import asking
from ramfw.prober.server import Prober
from tests.unit.prober.stranger import REGISTRY, says, stranger

MARK = 5
Serve = Callable[[socket.socket], Awaitable[None]]


@pytest.fixture(autouse=True)
def unprivileged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback may be asked, and another option stands for the mark, which takes a right to set."""
    monkeypatch.setattr(asking, "MARK", socket.SO_PRIORITY)
    monkeypatch.setattr(asking, "may_open", lambda _: True)


@asynccontextmanager
async def prober(path: Path, serve: Serve) -> AsyncIterator[None]:
    """Whoever is at the prober's socket, for one question."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003 - the socket module's own form

        async def accept() -> None:
            asked, _ = await asyncio.get_running_loop().sock_accept(listener)
            with asked:
                asked.setblocking(False)  # noqa: FBT003 - the same
                await serve(asked)

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(accept())
            yield
            task.cancel()


def place(port: int) -> Place:
    return Place("registry.example", ip_address("127.0.0.1").packed, port)


def answers(line: bytes) -> Serve:
    async def serve(asked: socket.socket) -> None:
        await asyncio.get_running_loop().sock_recv(asked, 4096)
        if line:
            await asyncio.get_running_loop().sock_sendall(asked, line)

    return serve


async def hangs(_: socket.socket) -> None:
    await asyncio.Event().wait()


async def test_a_registry_is_found_on_a_connection_that_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[int] = []
    asks = Prober.ask

    async def ask(self: Prober, connection: socket.socket, host: str, port: int) -> Any:  # noqa: ANN401
        marks.append(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY))
        return await asks(self, connection, host, port)

    monkeypatch.setattr(Prober, "ask", ask)
    async with stranger(tmp_path, says(REGISTRY)) as there:
        async with prober(tmp_path / "p.sock", Prober().serve):
            met = await asking.ask(tmp_path / "p.sock", place(there.port), MARK)
        assert met == Probed(place(there.port), Outcome.REGISTRY, Evidence.HEADER)
    assert marks == [MARK]


async def test_a_server_that_is_not_there_is_silent(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    async with prober(tmp_path / "p.sock", hangs):
        met = await asking.ask(tmp_path / "p.sock", place(port), MARK)
    assert met == Probed(place(port), Outcome.SILENT)


@pytest.mark.parametrize("line", [b"", b"nonsense\n", b"x" * 5000, b'{"outcome":"registry"}\n'])
async def test_a_prober_that_ends_or_answers_nonsense_is_none(tmp_path: Path, line: bytes) -> None:
    async with (
        stranger(tmp_path, says(REGISTRY)) as there,
        prober(tmp_path / "p.sock", answers(line)),
    ):
        met = await asking.ask(tmp_path / "p.sock", place(there.port), MARK)
    assert (met.outcome, met.evidence) == (Outcome.UNASKED, None)
    assert met.problem == f"the prober at {tmp_path}/p.sock ended"


async def test_no_prober_is_told_before_anybody_is_connected_to(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)  # noqa: FBT003 - the socket module's own form
        port = server.getsockname()[1]
        met = await asking.ask(tmp_path / "p.sock", place(port), MARK)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert met.outcome is Outcome.UNASKED
    assert "No such file" in met.problem


async def test_a_prober_that_hangs_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.2)
    start = time.monotonic()
    async with stranger(tmp_path, says(REGISTRY)) as there, prober(tmp_path / "p.sock", hangs):
        met = await asking.ask(tmp_path / "p.sock", place(there.port), MARK)
    assert met.outcome is Outcome.UNASKED
    assert "does not answer" in met.problem
    assert time.monotonic() - start < 3


async def test_a_server_that_takes_no_connection_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "LONGEST_CONNECT", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        crowd = [socket.socket() for _ in range(3)]
        for one in crowd:
            one.setblocking(False)  # noqa: FBT003 - the socket module's own form
            one.connect_ex(("127.0.0.1", port))
        async with prober(tmp_path / "p.sock", hangs):
            met = await asking.ask(tmp_path / "p.sock", place(port), MARK)
        for one in crowd:
            one.close()
    assert met.outcome is Outcome.SILENT


async def test_special_addresses_are_never_connected_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine does not ask; nor would this."""
    monkeypatch.undo()
    met = await asking.ask(tmp_path / "p.sock", place(443), MARK)
    assert met.problem == "its address has a special use"


async def test_without_the_right_to_mark_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not marked might be held by the very daemon that waits for it."""
    monkeypatch.setattr(asking, "MARK", -1)
    async with prober(tmp_path / "p.sock", hangs):
        met = await asking.ask(tmp_path / "p.sock", place(443), MARK)
    assert met.outcome is Outcome.UNASKED
    assert "cannot be asked" in met.problem
