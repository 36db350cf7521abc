"""The DNS questions that scoped sockets and containers asked, to tell their answers by.

Pure. An answer counts only for a question that went to that very server, from that address and
port, with that id, name and type, and within a time in which clients still wait. Names are
canonical (`fqdn`), addresses packed.
"""

from __future__ import annotations

from dataclasses import dataclass

PATIENCE = 30.0
"""Seconds that an answer may take; resolvers of libc give up long before."""
MOST_QUESTIONS = 32_768
"""Questions that are remembered; the oldest go first."""


Asked = tuple[bytes, int, bytes, int, int, str, int]
"""One question: client, its port, server, IP's protocol; the question's id, name and type.

A plain tuple: two are made for each answer that waits, and a named one takes eight times as long.
"""


@dataclass(slots=True)
class Tally:
    """The DNS answers that were shown, and what was wrong with some; since the daemon began."""

    answers: int = 0
    malformed: int = 0
    unasked: int = 0
    """Answers for permitted names that nobody had asked for in this form; they opened nothing."""
    late: int = 0
    """Answers for permitted names that were not held: they opened something after they arrived."""
    changed: int = 0
    """Answers in which ECH keys or h3 were made void."""
    questions_lost: int = 0
    """Times that questions came faster than they were read; their answers count as unasked."""


class Questions:
    """What was asked lately."""

    def __init__(self) -> None:
        self._asked: dict[Asked, float] = {}

    def note(self, asked: Asked, now: float) -> None:
        """Remember a question."""
        self._asked.pop(asked, None)
        self._asked[asked] = now
        if len(self._asked) > MOST_QUESTIONS:
            del self._asked[next(iter(self._asked))]

    def was_asked(self, asked: Asked, now: float) -> bool:
        """Whether this was asked, and not too long ago."""
        when = self._asked.get(asked)
        return when is not None and now - when <= PATIENCE
