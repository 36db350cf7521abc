"""The daemon's loop: readers are called by the wait itself, and all else is as in any loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from ramfw.loop import Loop

Pair = tuple[socket.socket, socket.socket]
PATIENCE = 5.0


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a loop as the daemon's, and close that."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(asyncio.wait_for(work, PATIENCE))


@pytest.fixture
def pair() -> Iterator[Pair]:
    here, there = socket.socketpair()
    here.setblocking(False)  # noqa: FBT003 - the socket module's own form
    with here, there:
        yield here, there


second = pair


def test_a_reader_is_called_and_what_it_sets_off_runs(pair: Pair) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        loop.add_reader(pair[0], lambda: heard.put_nowait(pair[0].recv(10)))
        pair[1].send(b"one")
        assert await heard.get() == b"one"
        pair[1].send(b"two")
        assert await heard.get() == b"two"
        assert loop.remove_reader(pair[0])
        assert not loop.remove_reader(pair[0])
        pair[1].send(b"three")
        await asyncio.sleep(0)
        assert heard.empty()

    run(story())


def test_a_reader_that_raises_is_told_and_the_others_go_on(pair: Pair, second: Pair) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        told: list[object] = []
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))

        def broken() -> None:
            pair[0].recv(10)
            raise ValueError("a packet that nobody can read")

        loop.add_reader(pair[0], broken)
        loop.add_reader(second[0].fileno(), lambda: heard.put_nowait(second[0].recv(10)))
        for there in (pair[1], second[1]):
            there.send(b"at once")
        assert await heard.get() == b"at once"
        assert [str(error) for error in told] == ["a packet that nobody can read"]

    run(story())


def test_a_reader_may_take_the_other_away_whose_packet_came_with_its_own(
    pair: Pair, second: Pair
) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        called: list[str] = []
        done = loop.create_future()

        def first_of_them(name: str, other: socket.socket) -> None:
            called.append(name)
            loop.remove_reader(other)
            if not done.done():
                done.set_result(None)

        loop.add_reader(pair[0], first_of_them, "one", second[0])
        loop.add_reader(second[0], first_of_them, "other", pair[0])
        for there in (pair[1], second[1]):
            there.send(b"at once")
        await done
        await asyncio.sleep(0)
        assert len(set(called)) == 1

    run(story())


def test_what_is_asyncios_own_works_beside_readers(pair: Pair, second: Pair) -> None:
    """Streams, timers, threads and signals go through the same wait."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        called = asyncio.Event()

        def reader() -> None:
            pair[0].recv(10)
            called.set()

        loop.add_reader(pair[0], reader)
        incoming, outgoing = await asyncio.open_connection(sock=second[0])
        second[1].setblocking(False)  # noqa: FBT003 - the socket module's own form
        await loop.sock_sendall(second[1], b"a line\n")
        assert await incoming.readline() == b"a line\n"
        # More than the socket takes at once: it is waited for until it can be written.
        outgoing.write(bytes(1 << 20))
        size = 0
        while size < 1 << 20:
            size += len(await loop.sock_recv(second[1], 1 << 16))
        await outgoing.drain()
        outgoing.close()
        assert await asyncio.to_thread(lambda: "threads") == "threads"
        pair[1].send(b"still")
        await called.wait()

    run(story())


def test_what_asyncio_waited_for_is_forgotten_and_its_number_is_free_again(pair: Pair) -> None:
    """A file that is opened next has the number of one that was closed."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        here, there = socket.socketpair()
        here.setblocking(False)  # noqa: FBT003 - the socket module's own form
        waiting = loop.create_task(loop.sock_recv(here, 10))
        await asyncio.sleep(0)
        there.send(b"asyncio's")
        assert await waiting == b"asyncio's"
        number = here.fileno()
        here.close()
        there.close()
        again = socket.socket(fileno=os.dup2(pair[0].fileno(), number))
        heard: asyncio.Queue[bytes] = asyncio.Queue()
        loop.add_reader(again, lambda: heard.put_nowait(again.recv(10)))
        pair[1].send(b"the next one's")
        assert await heard.get() == b"the next o"
        assert loop.remove_reader(again)
        again.close()

    run(story())
