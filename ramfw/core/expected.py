"""For which flows the kernel may be told what their servers will acknowledge (`settle_rules`).

Pure. The kernel forgets by time alone what it was told, so it may still know it when another
connection has the same addresses, ports and numbers, and must not be told of that one, too. Times
are seconds on the caller's monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable

from ramfw.core.settle_rules import MOST_REMEMBERED, REMEMBERED_FOR

STALE_AFTER = 3.0 * REMEMBERED_FOR
"""Seconds after which the kernel has forgotten: a verdict may be late, but a daemon that stands
still for five is killed."""


class Expected:
    """The flows of which the kernel may still remember something."""

    def __init__(self) -> None:
        self._known: set[Hashable] = set()
        self._by_time: deque[tuple[float, Hashable]] = deque()
        self._not_before = -math.inf

    def inherit(self, now: float) -> None:
        """The kernel may remember what an earlier daemon told it: tell it nothing for a while."""
        self._not_before = now + STALE_AFTER

    def may(self, key: Hashable, now: float) -> bool:
        """Whether the kernel may be told of this flow now; then it is taken to have been."""
        times, known = self._by_time, self._known
        while times and times[0][0] <= now:
            known.discard(times.popleft()[1])
        if key in known or now < self._not_before or len(times) >= MOST_REMEMBERED:
            return False
        known.add(key)
        times.append((now + STALE_AFTER, key))
        return True
