"""Events of nf_tables become what the engine is told; so does it that some were lost."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from ramfw.core.events import TableTouched
from ramfw.errors import ObserveError
from ramfw.observe import tamper
from ramfw.observe.tamper import TamperWatch
from tests.unit.observe.waiting import WaitingSocket
from tests.unit.wire.test_nft_events import generation, of_table

LOST = TableTouched(0, "")
OVERFLOW = OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
OTHERS = of_table(b"other", port=7) + generation(7, 4712, b"fail2ban")
STRANGER = of_table(b"ramfw", port=42) + generation(42, 4711, b"nft")


class Story:
    """A watch whose socket has this, and what it told, each with how much was left by then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *waiting: bytes | OSError) -> None:
        monkeypatch.setattr(tamper, "own_ports", frozenset)
        self.kernel = WaitingSocket(waiting)
        self.watch = TamperWatch.__new__(TamperWatch)
        self.watch._touched = set()
        self.watch._socket = self.kernel  # type: ignore[assignment]
        self.told: list[tuple[TableTouched, int]] = []
        self.other_rules = 0
        self.idle = asyncio.Event()
        monkeypatch.setattr(asyncio.get_running_loop(), "sock_recv", self._wait)

    async def _wait(self, kernel: WaitingSocket, size: int) -> bytes:
        """As the loop does: at once where something is there."""
        try:
            return kernel.recv(size)
        except BlockingIOError:
            self.idle.set()
            await asyncio.Event().wait()
            raise

    async def _listen(self) -> None:
        async for event in self.watch.changes():
            if isinstance(event, TableTouched):
                self.told.append((event, len(self.kernel.waiting)))
            else:
                self.other_rules += 1

    async def ends(self) -> list[tuple[TableTouched, int]]:
        """What was told when nothing is left."""
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen())
            await self.idle.wait()
            listening.cancel()
        return self.told


async def test_who_changes_the_table_is_told_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = Story(monkeypatch, OTHERS, STRANGER, OTHERS)
    assert await story.ends() == [(TableTouched(4711, "nft"), 1)]
    assert story.other_rules == 2


async def test_a_loss_is_told_once_when_all_that_was_kept_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until then the kernel drops what comes, without a word: a look before that misses it."""
    story = Story(monkeypatch, OVERFLOW, OTHERS, STRANGER, OTHERS, OVERFLOW, OTHERS)
    assert await story.ends() == [(TableTouched(4711, "nft"), 3), (LOST, 0)]


async def test_a_loss_with_nothing_behind_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await Story(monkeypatch, OVERFLOW).ends() == [(LOST, 0)]


async def test_while_more_comes_for_ever_it_is_told_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tamper, "_LONGEST_UNTOLD", 0.0)
    story = Story(monkeypatch, OVERFLOW, OTHERS, OTHERS)
    assert await story.ends() == [(LOST, 1), (LOST, 0), (LOST, 0)]


async def test_half_of_a_commit_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of it was lost; what the same process does next is another table's."""
    story = Story(monkeypatch, of_table(b"ramfw", port=42), OVERFLOW, generation(42, 4711, b"nft"))
    assert await story.ends() == [(LOST, 0)]


async def test_others_have_their_turn_in_a_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, *[OTHERS] * 1000)
    turns: list[int] = []

    async def beat() -> None:
        while True:
            turns.append(len(story.kernel.waiting))
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(beat())
        await story.ends()
        beating.cancel()
    assert len([left for left in turns if 0 < left < 1000]) > 5


async def test_another_failure_is_none_of_these(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story(monkeypatch, OSError(errno.EBADF, os.strerror(errno.EBADF)))
    with pytest.raises(ObserveError, match="nf_tables' events: Bad file"):
        await anext(story.watch.changes())
