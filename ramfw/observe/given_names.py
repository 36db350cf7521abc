"""For which names an address was given lately, of those that the policy does not permit.

So that a refusal can say which name was asked for. An answer counts if its question was seen; its
addresses are read only when somebody asks. Of permitted names only the last are known, for some
seconds: a registry may have sent its client on to the refused host.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from ramfw.core.events import Address
from ramfw.core.questions import Asked, Questions
from ramfw.wire.dns_message import Question, answers

KEPT_FOR = 300.0
"""Seconds; clients that keep an answer longer are rare, and then no name is told."""
MOST_KEPT = 2048
MOST_NAMES = 4
"""Names that are told of one address."""
SENT_ON_WITHIN = 5.0
"""Seconds after which a refusal has nothing to do with a permitted name any more."""
MOST_PERMITTED = 64


class Known(NamedTuple):
    """What was asked for around a refused connection.

    `names` are those of its address; `after` is the permitted one that the same client, or who
    asked for these names, or for a socket of this host anybody, had asked for last.
    """

    names: tuple[str, ...] = ()
    after: str = ""


@dataclass(frozen=True, slots=True)
class _Given:
    client: bytes
    asked: Question
    payload: bytes
    until: float


@dataclass(slots=True)
class GivenNames:
    """Answers for names that nothing permits, the latest last."""

    _questions: Questions = field(default_factory=Questions)
    _unchecked: deque[tuple[Asked, Question, bytes]] = field(
        default_factory=lambda: deque(maxlen=MOST_KEPT)
    )
    _given: deque[_Given] = field(default_factory=lambda: deque(maxlen=MOST_KEPT))
    _permitted: deque[tuple[bytes, str, float]] = field(
        default_factory=lambda: deque(maxlen=MOST_PERMITTED)
    )

    def note_question(self, asked: Asked, now: float) -> None:
        """Remember a question."""
        self._questions.note(asked, now)

    def note_answer(self, was: Asked, asked: Question, payload: bytes) -> None:
        """Remember an answer, until its question has been looked for."""
        self._unchecked.append((was, asked, payload))

    def note_permitted(self, client: bytes, name: str, now: float) -> None:
        """Remember for a moment that somebody was told a permitted name's address."""
        self._permitted.append((client, name, now))

    def check(self, now: float) -> None:
        """Drop the answers to which no question was seen; to be called when questions were read."""
        while self._unchecked:
            was, asked, payload = self._unchecked.popleft()
            if self._questions.was_asked(was, now):
                self._given.append(_Given(was[0], asked, payload, now + KEPT_FOR))

    def known(self, address: Address, client: Address, now: float, *, here: bool) -> Known:
        """What is known of a refused connection; `here`: of a socket on this host."""
        found = self._given_for(address, client, now)
        if not found:
            return Known()
        # Who connects by IPv6 may ask by IPv4, and an engine asks in a container's place.
        askers = frozenset({client.packed, *found.values()})
        return Known(tuple(found), self._after(askers, now, here=here))

    def _after(self, askers: frozenset[bytes], now: float, *, here: bool) -> str:
        for asker, name, when in reversed(self._permitted):
            if now - when > SENT_ON_WITHIN:
                break
            if asker in askers or here:
                return name
        return ""

    def of(self, address: Address, client: Address, now: float) -> tuple[str, ...]:
        """The names, the latest first: those that this client asked for, or else anybody."""
        return tuple(self._given_for(address, client, now))

    def _given_for(self, address: Address, client: Address, now: float) -> dict[str, bytes]:
        """The same, each with who asked for it last."""
        packed = address.packed
        found: dict[str, bytes] = {}
        for given in reversed(self._given):
            if given.until <= now:
                break
            if packed not in given.payload or given.asked.name in found:
                continue
            said = answers(given.payload, given.asked)
            if said is not None and any(ip_address(a) == address for a in said.addresses):
                found[given.asked.name] = given.client
        own = {name: asker for name, asker in found.items() if asker == client.packed}
        return dict(list((own or found).items())[:MOST_NAMES])
