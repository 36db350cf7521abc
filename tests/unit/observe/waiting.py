"""Stands for a socket that does not block: all that waits in it, and then nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable


class WaitingSocket:
    """Gives one datagram after the other, or fails as the kernel would."""

    def __init__(self, waiting: Iterable[bytes | OSError]) -> None:
        self.waiting = deque(waiting)

    def recv(self, _: int) -> bytes:
        if not self.waiting:
            raise BlockingIOError
        first = self.waiting.popleft()
        if isinstance(first, OSError):
            raise first
        return first
