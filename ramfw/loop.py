"""The daemon's event loop: what the kernel holds for it is read as soon as the wait for it ends.

asyncio would make each readable socket a call for its next turn. On the way of a packet that waits
for its verdict that costs as much as the half of judging it, so readers are called here by the
selector itself. To them and to tasks all else is as in any loop: a reader that raises is told to
the loop's exception handler, and whatever it sets off has its turn when the readers are through.
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
from collections.abc import Callable
from typing import Protocol

_MOST_EVENTS = 64
"""File descriptors that are told as readable together; the others are told next."""


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


_FileDescriptorLike = int | _HasFileno
_Ready = list[tuple[selectors.SelectorKey, int]]


class _Selector(selectors.EpollSelector):
    """Calls readers itself, and tells only of what is asyncio's own."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        """`failed` is told what a reader raises."""
        super().__init__()
        self.readers: dict[int, Callable[[], object]] = {}
        self._failed = failed
        # The same epoll instance: asked without the steps of the class above.
        self._epoll = select.epoll.fromfd(os.dup(self.fileno()))

    def close(self) -> None:
        self.readers.clear()
        self._epoll.close()
        super().close()

    def select(self, timeout: float | None = None) -> _Ready:
        try:
            events = self._epoll.poll(timeout, _MOST_EVENTS)
        except InterruptedError:
            return []
        ready: _Ready = []
        for number, mask in events:
            # One that was called before may have taken this one away.
            if (reader := self.readers.get(number)) is not None:
                try:
                    reader()
                except Exception as error:  # noqa: BLE001 - the loop's handler decides
                    self._failed(error)
            elif (key := self.get_map().get(number)) is not None:
                told = selectors.EVENT_READ if mask & ~select.EPOLLOUT else 0
                told |= selectors.EVENT_WRITE if mask & ~select.EPOLLIN else 0
                ready.append((key, told & key.events))
        return ready


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose `add_reader` is for what must not wait."""

    def __init__(self) -> None:
        self._calling = _Selector(self._reader_failed)
        super().__init__(self._calling)

    def add_reader(
        self, fd: _FileDescriptorLike, callback: Callable[..., object], *args: object
    ) -> None:
        """Call it whenever the file is readable, in this thread."""
        number = fd if isinstance(fd, int) else fd.fileno()
        if number not in self._calling.readers:
            self._calling.register(number, selectors.EVENT_READ)
        self._calling.readers[number] = (lambda: callback(*args)) if args else callback

    def remove_reader(self, fd: _FileDescriptorLike) -> bool:
        """Call it no more; whether it was. asyncio takes its own away by this, too."""
        number = fd if isinstance(fd, int) else fd.fileno()
        if self._calling.readers.pop(number, None) is None:
            return super().remove_reader(number)
        self._calling.unregister(number)
        return True

    def _reader_failed(self, error: Exception) -> None:
        self.call_exception_handler({"message": "a reader failed", "exception": error})
