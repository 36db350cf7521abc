"""Refusals: the rule that shows them, and what is remembered of them.

Pure. The kernel copies the first packet of a refused connection, and only so many in a second.
The same refusal that comes again is counted on, not told again; the oldest is forgotten when there
are too many. Nothing is kept of what was permitted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ramfw.core.events import Refusal
from ramfw.core.policy import ScopeName
from ramfw.core.ruleset import Limit, Log, Rule

REFUSAL_GROUP = 5355
"""NFLOG's group; it is the network namespace's own."""
LONGEST_COPY = 128
"""Bytes of a packet that are copied: its headers."""
PER_SECOND = 50
BURST = 100
"""Packets that each of the rules copies at most."""
MOST_REMEMBERED = 1024
AGAIN_AFTER = 60.0
"""Seconds after which a refusal that goes on is told again, with its number."""
TOLD_PER_SECOND = 2.0
TOLD_BURST = 100.0
"""Lines for the journal; `ramfw log` has the others too."""
JUST_NOW = 60.0
"""Seconds after a refusal for which its name may be signed for, so that it can be explained."""
REVOKED = "revoked"
HTTPS = 443
MESSAGE_ID = "9b00c6f4c38e4779bbcd25cbd2b16fa9"
"""How the journal knows a refusal: journalctl MESSAGE_ID=..."""


class Word(StrEnum):
    """The second word of a copied packet's prefix."""

    REFUSED = "refused"
    AUDITED = "audited"


def log_refusal(scope: ScopeName | None, *, audited: bool = False) -> Rule:
    """The rule that shows a refusal; None for a connection whose permission was taken back."""
    word = Word.AUDITED if audited else Word.REFUSED
    prefix = f"{scope} {word}" if scope else f"{REVOKED} {word}"
    return Limit(PER_SECOND, BURST), Log(REFUSAL_GROUP, LONGEST_COPY, prefix)


@dataclass(frozen=True, slots=True)
class Record:
    """A refusal, and how often it was seen. Times are on the engine's clock.

    `number` grows with each sight, so that a reader can ask for what is new.
    """

    number: int
    refusal: Refusal
    first: float
    last: float
    count: int = 1


class Refusals:
    """What was refused lately, the latest last."""

    def __init__(self) -> None:
        self._records: dict[Refusal, Record] = {}
        self._told: dict[Refusal, tuple[float, int]] = {}
        self._number = 0
        self._may_tell = TOLD_BURST
        self._since = 0.0
        self.untold = 0
        """Refusals that came too fast for the journal."""

    def note(self, refusal: Refusal, now: float) -> Record | None:
        """Remember it; the record, if it is to be told now."""
        self._number += 1
        # A client tries again from another port.
        key = replace(refusal, source_port=0, cgroup=None, after="")
        before = self._records.pop(key, None)
        if before is None:
            record = Record(self._number, refusal, now, now)
        else:
            record = replace(
                before, number=self._number, refusal=refusal, last=now, count=before.count + 1
            )
        self._records[key] = record
        if len(self._records) > MOST_REMEMBERED:
            oldest = next(iter(self._records))
            del self._records[oldest]
            self._told.pop(oldest, None)
        return record if self._is_to_be_told(key, record, now) else None

    def since(self, number: int, viewer: int) -> Iterator[Record]:
        """The records that were new or seen again after that number, in that order.

        Root sees all, another user what that user's own programs sent.
        """
        return (
            record
            for record in self._records.values()
            if record.number > number and viewer in (0, record.refusal.uid)
        )

    def was_refused(self, name: str, now: float) -> bool:
        """Whether a connection to a name was refused just now, whoever's it was."""
        return any(
            name in record.refusal.names
            and now - record.last < JUST_NOW
            and not record.refusal.audited
            for record in self._records.values()
        )

    @property
    def latest(self) -> int:
        """The number of the latest sight."""
        return self._number

    def _is_to_be_told(self, key: Refusal, record: Record, now: float) -> bool:
        if key in self._told and now - self._told[key][0] < AGAIN_AFTER:
            return False
        self._may_tell = min(TOLD_BURST, self._may_tell + (now - self._since) * TOLD_PER_SECOND)
        self._since = now
        if self._may_tell < 1.0:
            self.untold += 1
            return False
        self._may_tell -= 1.0
        self._told[key] = (now, record.count)
        return True


def sentence(record: Record) -> str:
    """The record in words."""
    refusal = record.refusal
    verb = "would be refused" if refusal.audited else "refused"
    times = f", {record.count} times" if record.count > 1 else ""
    said = f"{verb}: {_who(refusal)} to {_where(refusal)}: {refusal.why}{times}"
    if not (lines := hint(refusal)):
        return said
    return f"{said}; {refusal.after} may have sent the client there: {' '.join(lines.split())}"


def _who(refusal: Refusal) -> str:
    if refusal.scope is None:
        return f"a connection from {refusal.source}"
    if refusal.uid is not None:
        return f"{refusal.scope} (uid {refusal.uid})"
    return f"{refusal.scope} ({refusal.source})"


def _where(refusal: Refusal) -> str:
    address = f"{refusal.destination} port {refusal.port}/{refusal.protocol}"
    return f"{' or '.join(refusal.names)} at {address}" if refusal.names else address


def hint(refusal: Refusal) -> str:
    """Lines of a policy that would permit a host to which a registry may have sent its client."""
    if not refusal.after or not refusal.names:
        return ""
    ports = f"\nports = [{refusal.port}]" if refusal.port != HTTPS else ""
    return f'[[allow]]\nhost = "{refusal.names[0]}"{ports}'


def facts(record: Record, now: float) -> dict[str, Any]:
    """The record as `ramfw log` and `ramfw status` give it (docs/json.md)."""
    refusal = record.refusal
    return {
        "number": record.number,
        "first_ago": now - record.first,
        "last_ago": now - record.last,
        "count": record.count,
        "scope": str(refusal.scope or ""),
        "audited": refusal.audited,
        "reason": refusal.why,
        "source": str(refusal.source),
        "source_port": refusal.source_port,
        "address": str(refusal.destination),
        "port": refusal.port,
        "protocol": refusal.protocol,
        "names": list(refusal.names),
        "uid": refusal.uid,
        "cgroup": refusal.cgroup,
        "after": refusal.after,
        "hint": hint(refusal),
    }


def journal_fields(record: Record) -> tuple[tuple[str, str], ...]:
    """The record for the journal, each fact under a name of its own."""
    refusal = record.refusal
    fields = {
        "MESSAGE_ID": MESSAGE_ID,
        "RAMFW_SCOPE": str(refusal.scope or ""),
        "RAMFW_REASON": refusal.why,
        "RAMFW_AUDITED": "1" if refusal.audited else "0",
        "RAMFW_SOURCE": str(refusal.source),
        "RAMFW_ADDRESS": str(refusal.destination),
        "RAMFW_PORT": str(refusal.port),
        "RAMFW_PROTOCOL": refusal.protocol,
        "RAMFW_NAME": " ".join(refusal.names),
        "RAMFW_UID": "" if refusal.uid is None else str(refusal.uid),
        "RAMFW_CGROUP": "" if refusal.cgroup is None else str(refusal.cgroup),
        "RAMFW_COUNT": str(record.count),
    }
    return tuple(fields.items())
