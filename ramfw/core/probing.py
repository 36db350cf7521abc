"""Which hosts, of those on which nothing is known, are registries: asked once, and remembered.

Pure. Times are seconds on the caller's monotonic clock. In mode `registries` with
`unknown = "probe"` the first connection to such a host waits while the host is asked; nobody else's
traffic may suffer for that, so all is bounded, and what is beyond a bound passes unasked, counted.
Where as many are asked as may be at once, a host stands in line: a connection waits for it no
longer than for any other, but the question is put when its turn comes, and counts from then on. So
slow hosts, which anybody may call on, delay what is found, and keep nothing from being found.

**What is remembered, and for what.** Whoever has a server chooses what it says, and to whom:

- *No registry* counts for a name at one address and port. Who serves a page here and a registry
  there is asked there too. It is forgotten within the hour, for a page may become a registry.
- *A registry* counts for the name at every address and port, for a week: it cannot move away. But
  only once a trusted DNS server has given that address for that name. Otherwise anybody could
  connect to a server of their own, call it by somebody else's name, and have that name refused on
  the whole machine. Until then it counts where it was found.
- *No answer* counts for a minute, so that not each connection waits for it, and each time after
  for twice as long, up to an hour: there is TLS with no HTTP in it.
- A client that sends no name is judged by its server's address.

A server that tells ramfw's question from a client's can hide; this is no wall against it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple, TypeVar

from ramfw.core.addresses import may_open
from ramfw.core.events import HeldSegment
from ramfw.core.opening import Opening
from ramfw.core.probe import Found, Outcome, Place, Probed

LONGEST_WAIT = 2.0
"""Seconds that a connection waits for an answer, at most."""
MOST_WAITING = 256
"""Packets that wait at once."""
MOST_AT_ONCE = 32
"""Hosts that are asked at once."""
MOST_AT_AN_ADDRESS = 4
"""Of them, at one address or IPv6 network: one that is slow takes no more."""
MOST_IN_LINE = 256
MOST_IN_LINE_FOR_AN_ADDRESS = 16
"""Hosts that are to be asked when others were; those of one address or IPv6 network."""
LONGEST_IN_LINE = 30.0
"""Seconds; then the next connection to it begins anew."""
LONGEST_QUESTION = 30.0
"""Seconds after which a question is given up though nothing came of it, not even a failure."""
REGISTRY_KEPT = 7 * 86_400.0
OTHER_KEPT = 3600.0
SILENT_KEPT = 60.0
UNWELL = 5.0
"""Seconds in which nobody waits after the prober could not be asked."""
MOST_FOUND = 1024
MOST_OTHERS = 8192
"""Registries and others that are remembered; the oldest are forgotten first, of each by itself."""

K = TypeVar("K")
V = TypeVar("V")

# Wider than what DNS names hosts by: people do write underscores.
_NAME = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")


class Waiting(NamedTuple):
    """A packet that waits; `flow` tells its flow from a later one in its place."""

    segment: HeldSegment
    opening: Opening
    flow: object
    place: Place
    until: float


class _Other(NamedTuple):
    """A place at which no registry was found, for how long that counts, and until when."""

    outcome: Outcome
    kept: float
    until: float


class Count(StrEnum):
    """What is counted, in questions and in connections."""

    ASKED = "asked"
    FOUND = "found"
    UNASKED = "passed_unasked"
    UNANSWERED = "passed_unanswered"


class Probing:
    """All questions, who waits for them, and what came of them."""

    def __init__(self) -> None:
        self._found: dict[Place, Found] = {}
        self._by_name: dict[str, Found] = {}
        self._others: dict[Place, _Other] = {}
        self._under_way: dict[Place, float] = {}
        self._line: dict[Place, float] = {}
        self._waiting: dict[int, Waiting] = {}
        self._unwell_until = float("-inf")
        self.changes = 0
        """How often what is known of registries has changed."""
        self.questions: list[Place] = []
        """What is to be asked, until it is taken."""
        self.counts: Counter[Count] = Counter()
        self.hindrance = ""
        """Why nobody is to be asked at all."""
        self.problem = ""
        """Why the prober could not be asked the last time; empty where it could."""

    # -- what is known -------------------------------------------------------------------------

    def known(self, place: Place, now: float) -> Found | Outcome | None:
        """What is remembered: a registry here or of this name, or that it was no registry."""
        for found in (self._by_name.get(place.name), self._found.get(place)):
            if found is not None and now < found.when + REGISTRY_KEPT:
                return found
        other = self._others.get(place)
        return other.outcome if other is not None and now < other.until else None

    def registry_of(self, name: str, now: float) -> Found | None:
        """The registry of this name, at best the one that is refused everywhere."""
        for found in (self._by_name.get(name), *reversed(self._found.values())):
            if found and found.place.name == name and now < found.when + REGISTRY_KEPT:
                return found
        return None

    def registries(self, now: float) -> Iterable[Found]:
        """All registries that were found, the latest first."""
        return (f for f in reversed(self._found.values()) if now < f.when + REGISTRY_KEPT)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    # -- asking --------------------------------------------------------------------------------

    def wait(
        self, segment: HeldSegment, opening: Opening, flow: object, place: Place, now: float
    ) -> bool:
        """Ask, or stand in line; whether the packet waits. If not, it passes, counted."""
        since = self._under_way.get(place, self._line.get(place))
        if since is None:
            if not self._may_ask(place, now):
                self.counts[Count.UNASKED] += 1
                return False
            since = now
            if self._has_room(place):
                self._ask(place, now)
            elif not self._stands_in_line(place, now):
                self.counts[Count.UNASKED] += 1
                return False
        until = since + LONGEST_WAIT
        if until <= now:
            self.counts[self._unfinished(place)] += 1
            return False
        if len(self._waiting) >= MOST_WAITING:
            self.counts[Count.UNASKED] += 1
            return False
        self._waiting[segment.handle] = Waiting(segment, opening, flow, place, until)
        return True

    def _may_ask(self, place: Place, now: float) -> bool:
        return now >= self._unwell_until and not self.hindrance and _can_be_asked(place)

    def _has_room(self, place: Place) -> bool:
        if len(self._under_way) >= MOST_AT_ONCE:
            return False
        return _near(place, self._under_way) < MOST_AT_AN_ADDRESS

    def _ask(self, place: Place, now: float) -> None:
        self._under_way[place] = now
        self.questions.append(place)
        self.counts[Count.ASKED] += 1

    def _stands_in_line(self, place: Place, now: float) -> bool:
        here = _near(place, self._line)
        if len(self._line) >= MOST_IN_LINE or here >= MOST_IN_LINE_FOR_AN_ADDRESS:
            return False
        self._line[place] = now
        return True

    def _go_on(self, now: float) -> None:
        """Ask those whose turn has come: the first in line whose address has room."""
        for place, since in list(self._line.items()):
            if since + LONGEST_IN_LINE <= now:
                del self._line[place]
            elif self._has_room(place):
                del self._line[place]
                self._ask(place, now)

    def _unfinished(self, place: Place) -> Count:
        """As what a connection is counted that has waited long enough."""
        return Count.UNASKED if place in self._line else Count.UNANSWERED

    def answered(self, event: Probed, now: float) -> list[Waiting]:
        """What came of a question; the packets that waited for it."""
        self._under_way.pop(event.place, None)
        if event.outcome is Outcome.UNASKED:
            self.problem, self._unwell_until = event.problem, now + UNWELL
        else:
            self.problem = ""
        waited = [one for one in self._waiting.values() if one.place == event.place]
        if self.problem:
            waited += [one for one in self._waiting.values() if one.place in self._line]
            self._line.clear()
        for one in waited:
            del self._waiting[one.segment.handle]
        match event.outcome:
            case Outcome.REGISTRY if event.evidence is not None:
                self.counts[Count.FOUND] += 1
                self._others.pop(event.place, None)
                self._keep(Found(event.place, event.evidence, now))
            case Outcome.OTHER:
                self._let_be(event, OTHER_KEPT, now)
            case Outcome.SILENT:
                before = self._others.get(event.place)
                again = 2 * before.kept if before and before.outcome is Outcome.SILENT else 0.0
                self._let_be(event, min(max(SILENT_KEPT, again), OTHER_KEPT), now)
                self.counts[Count.UNANSWERED] += len(waited)
            case _:
                self.counts[Count.UNASKED] += len(waited)
        self._go_on(now)
        return waited

    def _let_be(self, event: Probed, kept: float, now: float) -> None:
        other = _Other(event.outcome, kept, now + kept)
        _remember(self._others, event.place, other, MOST_OTHERS)

    def given(self, name: str, addresses: Iterable[bytes]) -> bool:
        """A trusted server gave these addresses for a name: whether it is refused everywhere now.

        True only for the news.
        """
        told = set(addresses)
        known = next(
            (f for p, f in self._found.items() if p.name == name and p.address in told), None
        )
        if known is None or known.everywhere:
            return False
        self._keep(replace(known, everywhere=True))
        return True

    def recall(self, found: Iterable[Found]) -> None:
        """Take in the registries that were found before this daemon began, the latest first."""
        for known in reversed(tuple(found)):
            self._keep(known)
        self.changes = 0

    def _keep(self, known: Found) -> None:
        self.changes += 1
        _remember(self._found, known.place, known, MOST_FOUND)
        if known.everywhere:
            _remember(self._by_name, known.place.name, known, MOST_FOUND)

    # -- time ----------------------------------------------------------------------------------

    def overdue(self, now: float) -> list[Waiting]:
        """The packets that wait no longer."""
        gone = [place for place, at in self._under_way.items() if at + LONGEST_QUESTION <= now]
        for place in gone:
            del self._under_way[place]
        self._go_on(now)
        # Not in order: who comes while a question is under way waits only for what is left.
        late = [one for one in self._waiting.values() if one.until <= now]
        for one in late:
            del self._waiting[one.segment.handle]
            self.counts[self._unfinished(one.place)] += 1
        return late

    def next_deadline(self) -> float | None:
        """When `overdue` has something to do."""
        if not self._waiting:
            return None
        return min(one.until for one in self._waiting.values())


def _can_be_asked(place: Place) -> bool:
    """Whether the question may be put there, and can name its host."""
    return may_open(place.address) and (not place.name or _NAME.fullmatch(place.name) is not None)


def _network(place: Place) -> bytes:
    """An IPv4 address, or the network of an IPv6 one, of which one machine may have all."""
    return place.address[:8]


def _near(place: Place, places: Iterable[Place]) -> int:
    """How many of the places are at its address or in its network."""
    network = _network(place)
    return sum(_network(one) == network for one in places)


def _remember(known: dict[K, V], key: K, value: V, most: int) -> None:
    known.pop(key, None)
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]
