"""When each permitted name is asked for next, and how the last question went.

Pure. A name is asked again before its shortest TTL ends; after a failure soon, then less often.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ramfw.core.events import Resolved, ServerReply
from ramfw.core.leases import bounded_ttl

REFRESH_AT = 0.75
"""The part of a TTL after which the name is asked again."""
FIRST_RETRY = 2.0
LAST_RETRY = 60.0
"""Seconds between questions for a name that no server answers; doubled each time up to the last."""


@dataclass(slots=True)
class NameState:
    """One name; times are on the engine's clock, None where the thing never happened."""

    due: float
    asked: bool = False
    ask_again: bool = False
    tried: bool = False
    last_good: float | None = None
    failures: int = 0
    replies: tuple[ServerReply, ...] = ()


class Names:
    """The names to resolve, with the next deadline at hand."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        """`jitter` gives a number from 0 to 1, spread evenly: it keeps questions apart."""
        self._jitter = jitter
        self._states: dict[str, NameState] = {}
        self._due: list[tuple[float, str]] = []

    def replace(self, wanted: Iterable[str], now: float) -> set[str]:
        """Follow these names from now on; the ones that are no longer followed."""
        names = set(wanted)
        gone = set(self._states) - names
        for name in gone:
            del self._states[name]
        for name in sorted(names - set(self._states)):
            self._states[name] = NameState(due=now)
            heapq.heappush(self._due, (now, name))
        return gone

    def ask_all(self, now: float) -> None:
        """Ask for every name anew (other servers are trusted now)."""
        for name, state in self._states.items():
            if state.asked:
                # What is under way asks the servers of before.
                state.ask_again = True
                continue
            state.due = now
            heapq.heappush(self._due, (now, name))

    def take_due(self, now: float) -> list[str]:
        """The names to ask for now; each is taken once until its answer is in."""
        names = []
        while self._due and self._due[0][0] <= now:
            due, name = heapq.heappop(self._due)
            state = self._states.get(name)
            if state is None or state.due != due or state.asked:
                continue
            state.asked = True
            names.append(name)
        return names

    def answered(self, event: Resolved, now: float) -> NameState | None:
        """Note how a question went, and when to ask next; None if nobody follows the name."""
        state = self._states.get(event.name)
        if state is None:
            return None
        state.asked, state.tried, state.replies = False, True, event.replies
        early = 0.9 + 0.1 * self._jitter()
        if event.answers:
            shortest = min(bounded_ttl(answer.ttl) for answer in event.answers)
            state.last_good, state.failures = now, 0
            state.due = now + shortest * REFRESH_AT * early
        else:
            state.failures += 1
            wait = min(FIRST_RETRY * 2 ** min(state.failures - 1, 10), LAST_RETRY)
            state.due = now + wait * early
        if state.ask_again:
            state.due, state.ask_again = now, False
        heapq.heappush(self._due, (state.due, event.name))
        return state

    def next_due(self) -> float | None:
        """When `take_due` has something next."""
        while self._due:
            due, name = self._due[0]
            state = self._states.get(name)
            if state is not None and state.due == due and not state.asked:
                return due
            heapq.heappop(self._due)
        return None

    def state(self, name: str) -> NameState | None:
        """How one name stands."""
        return self._states.get(name)

    def all_tried(self) -> bool:
        """Whether every name has been asked for at least once."""
        return all(state.tried for state in self._states.values())
