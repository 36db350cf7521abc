"""The check of names: what becomes of each packet that the kernel holds for it.

Pure. `Flows` puts first bytes together, `ServerNames` judges them; here is what lies between: in
which scope a flow is, which entry it was judged to be, and that this becomes its id in the kernel
once the server has taken the bytes that were judged. Until then its packets come by here.

What the server says is copied, not held, and read before the packets that wait; where copies were
lost, all that they may have told is forgotten. A flow that is not known is refused; in mode
`registries`, where other people's traffic is more important, it is read from here on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeVar

from ramfw.core import flows as first_bytes
from ramfw.core import server_names
from ramfw.core.catalog import NO_CATALOG
from ramfw.core.commands import Fate, Told
from ramfw.core.events import Copied, HeldSegment
from ramfw.core.expected import Expected
from ramfw.core.flows import Flows
from ramfw.core.leases import Leases
from ramfw.core.marks import EXPECTED, LAST_EXPECTED_ID, LISTEN, PASSED, REFUSED
from ramfw.core.opening import Hello, Opening, Request, Unfinished
from ramfw.core.policy import Entry, Mode, Policy, ScopeMode, ScopeName, UnknownHosts
from ramfw.core.probe import Found, Outcome, Place, Probed
from ramfw.core.probing import Count, Probing, Waiting
from ramfw.core.refusal_message import refusal_message
from ramfw.core.server_names import (
    Connection,
    Judgement,
    Pass,
    Permit,
    ServerNames,
    Unknown,
)

T = TypeVar("T")
Reader = Callable[[bytes, Unfinished | None], Unfinished | Opening]

MOST_SETTLED = 1 << 16
"""Judged flows, and settled ones of which no packet has come by since; the oldest are forgotten."""
MOST_REFUSALS = 200
"""Refusals that are remembered; the oldest go first."""
MOST_REFUSED_FLOWS = 1024
"""Flows for which it is known why, until the kernel's copy of the refused packet comes."""
LONGEST_TOLD = 5.0
"""Seconds for which packets of a flow whose client was told why are dropped that were on their way
here before: a reset for one of them would overtake the answer."""
MOST_ALIKE = 1024
"""Hellos and requests whose judgement is remembered; then it begins anew."""
NOTHING_KNOWN = "nothing is known about this host"
REGISTRY = "it was asked, and is a registry that is not permitted"
_UNSEEN = first_bytes.Refuse(first_bytes.Reason.UNSEEN)


@dataclass(frozen=True, slots=True)
class NameRefusal:
    """A connection that was refused by what its first bytes were."""

    when: float
    scope: ScopeName
    address: str
    port: int
    name: str
    reason: str


class NameCheck:
    """All flows whose names are awaited."""

    def __init__(self, read: Reader, ended: Callable[[bytes], Opening]) -> None:
        """`read` and `ended` are those of `wire.first_bytes`."""
        self._readers = read, ended
        self._flows = Flows(read, ended)
        self._judged: dict[Hashable, int] = {}
        self._settled: dict[Hashable, int] = {}
        self._names = ServerNames({}, NO_CATALOG)
        self._alike: dict[tuple[Hashable, ...], tuple[Judgement, int | None]] = {}
        self._unseen: dict[Hashable, int] = {}
        """Flows that were read from where they were: nobody knows that a server opened them."""
        self.expected = Expected()
        self.probing = Probing()
        self._policy: Policy | None = None
        self.judged: Counter[str] = Counter()
        """How many openings were permitted, passed and refused."""
        self.refusals: dict[tuple[str, int, str], NameRefusal] = {}
        self._by_flow: dict[Hashable, NameRefusal] = {}
        self._told: list[Told] = []
        self._told_at: dict[Hashable, float] = {}

    def follow(self, policy: Policy, entries: Mapping[int, Entry], now: float) -> None:
        """Judge by this policy from now on; flows of entries that are gone are refused."""
        self._policy, self._names = policy, ServerNames(entries, policy.catalog)
        self._alike.clear()
        for known in (self._judged, self._settled):
            gone = [key for key, i in known.items() if i != PASSED and i not in entries]
            for key in gone:
                del known[key]
                self._flows.refused(key, now)

    # -- what was seen -------------------------------------------------------------------------

    def copied(self, copies: Iterable[Copied], now: float, *, lost: bool) -> None:
        """Take in what servers said; `lost` tells that some of it did not come."""
        if lost:
            self._flows = Flows(*self._readers)
            self._judged.clear()
            self._settled.clear()
        for copy in copies:
            if copy.opens:
                if self._flows.opened(copy.key, copy.acknowledged, now, copy.number):
                    self._unseen.pop(copy.key, None)
                    self._settled.pop(copy.key, None)
                    self._judged.pop(copy.key, None)
                    self._told_at.pop(copy.key, None)
            elif self._flows.acknowledged(copy.key, copy.acknowledged, now):
                entry_id = self._judged.pop(copy.key, None)
                if entry_id is not None:
                    _remember(self._settled, copy.key, entry_id)

    def held(self, segment: HeldSegment, leases: Leases, now: float) -> Fate | None:
        """What becomes of a packet with data that waits; None where its host is asked first."""
        settled = self._settled.pop(segment.key, None)
        if settled is not None:
            return Fate(segment.handle, settled)
        verdict = self._segment(segment, now)
        if isinstance(verdict, first_bytes.Judge):
            return self._judge(segment, verdict.opening, leases, now)
        if verdict == _UNSEEN and self._mode(segment.scope) is ScopeMode.REGISTRIES:
            self.judged["unseen"] += 1
            self._flows.opened(segment.key, segment.sequence, now)
            _remember(self._unseen, segment.key, 0)
            verdict = self._segment(segment, now)
        match verdict:
            case first_bytes.PassOn():
                # More of the client came before the server's word: it may say no other.
                is_judged = segment.key in self._judged
                return Fate(segment.handle, LISTEN[segment.scope] if is_judged else None)
            case first_bytes.Drop():
                return Fate(segment.handle, dropped=True)
            case first_bytes.Judge(opening):
                return self._judge(segment, opening, leases, now)
            case first_bytes.Refuse(reason):
                if now < self._told_at.get(segment.key, -math.inf) + LONGEST_TOLD:
                    return Fate(segment.handle, dropped=True)
                return self._refuse(segment, "", reason, now)

    def _segment(self, segment: HeldSegment, now: float) -> first_bytes.Verdict:
        return self._flows.segment(
            segment.key, segment.sequence, segment.payload, now, segment.flags
        )

    def _mode(self, scope: ScopeName) -> ScopeMode:
        return self._policy.scope_mode(scope) if self._policy else ScopeMode.STRICT

    def _judge(
        self, segment: HeldSegment, opening: Opening, leases: Leases, now: float
    ) -> Fate | None:
        answered = leases.names_of(segment.destination)
        judgement, entry_id = self._judgement(segment, opening, answered)
        if entry_id is not None:
            self.judged["passed" if entry_id == PASSED else "permitted"] += 1
            return self._go_on(segment, entry_id, now)
        if isinstance(judgement, Unknown) and self._unknown(segment.scope) is UnknownHosts.PROBE:
            return self._unknown_host(segment, opening, judgement, now)
        self._flows.refused(segment.key, now)
        if isinstance(judgement, server_names.Refuse):
            name, detail = judgement.name, judgement.detail
            reason = f"{judgement.reason}: {detail}" if detail else str(judgement.reason)
        else:
            name = (judgement.host if isinstance(judgement, Unknown) else None) or ""
            reason = NOTHING_KNOWN
        self._tell(segment, opening, name, now)
        return self._refuse(segment, name, reason, now)

    def _go_on(self, segment: HeldSegment, entry_id: int, now: float) -> Fate:
        """The packet goes on whose flow was judged well; the kernel settles it, if it may."""
        key = segment.key
        _remember(self._judged, key, entry_id)
        # Of a flow that was not seen to begin, nobody knows what its server acknowledges.
        is_told = entry_id <= LAST_EXPECTED_ID and key not in self._unseen
        if is_told and self.expected.may(key, now) and (number := self._flows.expected(key, now)):
            return Fate(segment.handle, EXPECTED | entry_id, expects=number)
        self._flows.permitted(key, now)
        return Fate(segment.handle)

    def _judgement(
        self, segment: HeldSegment, opening: Opening, answered: tuple[str, ...]
    ) -> tuple[Judgement, int | None]:
        """What the first bytes come to, and the id that the flow gets, None where it is refused.

        Of a hello or a request like one before it is what that came to.
        """
        where = segment.destination, segment.port, segment.scope
        alike: tuple[Hashable, ...] | None = None
        if isinstance(opening, Hello):
            alike = (opening.server_name, opening.encrypted, *where, answered)
        elif isinstance(opening, Request):
            asked = opening.host, opening.port, opening.target, opening.registry_api
            alike = (*asked, *where, answered)
        if alike is not None and (known := self._alike.get(alike)) is not None:
            return known
        mode, address = self._mode(segment.scope), ip_address(segment.destination)
        connection = Connection(address, segment.port, segment.scope, mode, answered)
        judgement = self._names.judge(opening, connection)
        found = judgement, self._entry_of(judgement, segment.scope)
        if alike is not None:
            if len(self._alike) >= MOST_ALIKE:
                self._alike.clear()
            self._alike[alike] = found
        return found

    def _entry_of(self, judgement: Judgement, scope: ScopeName) -> int | None:
        """The id that the flow gets; None where it is refused."""
        match judgement:
            case Permit():
                return judgement.entry_id
            case Pass():
                return PASSED
            case Unknown() if self._unknown(scope) is UnknownHosts.ALLOW:
                return PASSED
            case _:
                return None

    def _unknown_host(
        self, segment: HeldSegment, opening: Opening, judgement: Unknown, now: float
    ) -> Fate | None:
        """What becomes of a connection to a host that is asked whether it is a registry."""
        place = Place(judgement.host or "", segment.destination, judgement.port)
        known = self.probing.known(place, now)
        if isinstance(known, Found):
            return self._end_wait(segment, opening, known, now)
        if known is Outcome.SILENT:
            self.probing.counts[Count.UNANSWERED] += 1
        if known is None:
            flow = self._flows.asked(segment.key)
            # Behind a proxy the host is elsewhere. And where no server is known to have answered
            # this client, another filter may keep the two apart: this is no way round it.
            if judgement.proxied or segment.key in self._unseen:
                self.probing.counts[Count.UNASKED] += 1
            elif self.probing.wait(segment, opening, flow, place, now):
                return None
        return self._end_wait(segment, opening, None, now)

    def probed(self, event: Probed, now: float) -> tuple[Fate, ...]:
        """A host was asked: what becomes of the packets that waited for it."""
        waited = self.probing.answered(event, now)
        return tuple(self._after_wait(one, now) for one in waited)

    def _after_wait(self, waited: Waiting, now: float) -> Fate:
        if self._flows.asked(waited.segment.key) is not waited.flow:
            # It was refused meanwhile, or forgotten, or another has its place.
            return Fate(waited.segment.handle, dropped=True)
        known = self.probing.known(waited.place, now)
        found = known if isinstance(known, Found) else None
        return self._end_wait(waited.segment, waited.opening, found, now)

    def _end_wait(
        self, segment: HeldSegment, opening: Opening, found: Found | None, now: float
    ) -> Fate:
        # The policy may be another one than when the wait began.
        unknown, mode = self._unknown(segment.scope), self._mode(segment.scope)
        is_open = mode is ScopeMode.REGISTRIES and unknown is not UnknownHosts.REFUSE
        if found is None and is_open:
            self.judged["passed"] += 1
            self._flows.permitted(segment.key, now)
            _remember(self._judged, segment.key, PASSED)
            return Fate(segment.handle)
        self._flows.refused(segment.key, now)
        name, reason = ("", NOTHING_KNOWN) if found is None else (found.place.name, REGISTRY)
        self._tell(segment, opening, name, now)
        return self._refuse(segment, name, reason, now)

    def _unknown(self, scope: ScopeName) -> UnknownHosts:
        return self._policy.unknown_hosts(scope) if self._policy else UnknownHosts.REFUSE

    def _refuse(self, segment: HeldSegment, name: str, reason: str, now: float) -> Fate:
        self._judged.pop(segment.key, None)
        self.judged["refused"] += 1
        address = str(ip_address(segment.destination))
        what = (address, segment.port, name)
        refusal = NameRefusal(now, segment.scope, *what, str(reason))
        _remember(self.refusals, what, refusal, MOST_REFUSALS)
        _remember(self._by_flow, segment.key, refusal, MOST_REFUSED_FLOWS)
        return Fate(segment.handle, REFUSED)

    def take_refusal(self, flow: Hashable) -> NameRefusal | None:
        """Why this flow was refused: told once, to whoever sees the kernel's copy of its packet."""
        return self._by_flow.pop(flow, None)

    def _tell(self, segment: HeldSegment, opening: Opening, name: str, now: float) -> None:
        """Have its sender told why; in audit mode it goes on."""
        if self._policy is None or self._policy.mode is Mode.AUDIT:
            return
        host = name or str(ip_address(segment.destination))
        message = refusal_message(self._policy, host)
        told = Told(segment.handle, segment.scope, segment.packet, opening, host, message)
        self._told.append(told)
        _remember(self._told_at, segment.key, now, MOST_REFUSED_FLOWS)

    def take_told(self) -> tuple[Told, ...]:
        """What is to be told of the packets that were refused since."""
        told = tuple(self._told)
        self._told.clear()
        return told

    # -- time ----------------------------------------------------------------------------------

    def expire(self, now: float) -> tuple[Fate, ...]:
        """Forget flows that ran out of time: what they still send is refused.

        What becomes of packets that waited long enough for their host's answer.
        """
        late = tuple(self._after_wait(one, now) for one in self.probing.overdue(now))
        for expired in self._flows.expire(now):
            self._judged.pop(expired.key, None)
        return late

    def next_deadline(self) -> float | None:
        """When `expire` has something to do."""
        times = (self._flows.next_deadline(), self.probing.next_deadline())
        return min((time for time in times if time is not None), default=None)


def _remember(known: dict[Any, T], key: Hashable, value: T, most: int = MOST_SETTLED) -> None:
    """As the latest; the oldest is forgotten where there are too many."""
    known.pop(key, None)
    known[key] = value
    if len(known) > most:
        del known[next(iter(known))]
