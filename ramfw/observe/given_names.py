"""For which names an address was given lately, of those that the policy does not permit.

So that a refusal can say which name was asked for. An answer counts if its question was seen; its
addresses are read only when somebody asks. Nothing is kept of permitted names.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address

from ramfw.core.events import Address
from ramfw.core.questions import Asked, Questions
from ramfw.wire.dns_message import Question, answers

KEPT_FOR = 300.0
"""Seconds; clients that keep an answer longer are rare, and then no name is told."""
MOST_KEPT = 2048
MOST_NAMES = 4
"""Names that are told of one address."""


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

    def note_question(self, asked: Asked, now: float) -> None:
        """Remember a question."""
        self._questions.note(asked, now)

    def note_answer(self, was: Asked, asked: Question, payload: bytes) -> None:
        """Remember an answer, until its question has been looked for."""
        self._unchecked.append((was, asked, payload))

    def check(self, now: float) -> None:
        """Drop the answers to which no question was seen; to be called when questions were read."""
        while self._unchecked:
            was, asked, payload = self._unchecked.popleft()
            if self._questions.was_asked(was, now):
                self._given.append(_Given(was.client, asked, payload, now + KEPT_FOR))

    def of(self, address: Address, client: Address, now: float) -> tuple[str, ...]:
        """The names, the latest first: those that this client asked for, or else anybody."""
        packed = address.packed
        found: dict[str, bool] = {}
        for given in reversed(self._given):
            if given.until <= now:
                break
            if packed not in given.payload or given.asked.name in found:
                continue
            said = answers(given.payload, given.asked)
            if said is not None and any(ip_address(a) == address for a in said.addresses):
                found[given.asked.name] = given.client == client.packed
        own = [name for name, is_own in found.items() if is_own]
        return tuple((own or list(found))[:MOST_NAMES])
