"""For how long no daemon was there: the time when one last was, beside its control socket.

While none is, what scopes of mode `registries` send passes unread, and the kernel counts it. The
file lies where the kernel's counters do, in memory: both last until the machine's next boot. Times
are seconds since that (CLOCK_BOOTTIME), which nobody can set.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MOST_ABSENCES = 20
"""The latest are remembered."""


@dataclass(frozen=True, slots=True)
class Absence:
    """No daemon was there, and so many connections passed unread."""

    since: float
    until: float
    connections: int


@dataclass(frozen=True, slots=True)
class _Known:
    """What the file says."""

    alive_at: float
    unread: int
    absences: tuple[Absence, ...]


class Alive:
    """The file. What cannot be read or written is not known: nothing here raises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unread: int | None = None
        self.absences: tuple[Absence, ...] = ()

    def begin(self, unread: int) -> None:
        """A daemon is there again; `unread` is the kernel's count of connections until now."""
        self._unread = unread
        before = self._read()
        if before is not None:
            # A table that was made anew counts from nothing.
            passed = unread - before.unread if before.unread <= unread else unread
            found = (Absence(before.alive_at, _now(), passed),) if passed else ()
            self.absences = (*before.absences, *found)[-MOST_ABSENCES:]
        self.show()

    def show(self) -> None:
        """The daemon is there: once a second, and at its end, from `begin` on."""
        if self._unread is None:
            return
        known = asdict(_Known(_now(), self._unread, self.absences))
        new = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):
            new.write_text(json.dumps(known))
            new.rename(self._path)

    def absences_ago(self) -> tuple[dict[str, Any], ...]:
        """The absences in which something passed unread, the latest first (docs/json.md)."""
        now = _now()
        return tuple(
            {
                "since_ago": now - one.since,
                "until_ago": now - one.until,
                "connections": one.connections,
            }
            for one in reversed(self.absences)
        )

    def _read(self) -> _Known | None:
        try:
            known = json.loads(self._path.read_text())
            absences = tuple(
                Absence(float(one["since"]), float(one["until"]), int(one["connections"]))
                for one in known["absences"]
            )
            return _Known(float(known["alive_at"]), int(known["unread"]), absences)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
