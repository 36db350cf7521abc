"""The slow audit of elements: what the kernel holds, against what it is believed to hold.

Pure. Elements rely on the kernel's acknowledgement; this finds what went otherwise all the same,
or was done by somebody who was not seen. A map is gone through piece by piece, while grants come
and go. So what looks wrong once is only suspected, and counts when it looks so in the next pass.
To be mistaken does no harm: what is wanted is given again in the same transaction.

Memory is bounded: every element is looked at in each pass for being one that nobody granted, but
only a part of the map, another in each pass, for being missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ramfw.core.ledger import Ledger
from ramfw.core.tablestate import HeldGrant
from ramfw.core.transaction import GrantKey

MOST_AT_ONCE = 8192
"""Elements of a map that are looked for in one pass."""
MOST_SUSPECTS = 1024
"""Beyond, the whole table is read."""
SHORTEST_LIFE = 5.0
"""Seconds that an element must have left to be missed."""


class Drift(NamedTuple):
    """What a pass has shown: elements that nobody granted, granted ones that are not there.

    `hopeless`: too much for one by one, or an element that ramfw cannot have written.
    """

    strays: dict[GrantKey, HeldGrant]
    missing: list[GrantKey]
    hopeless: bool = False


NO_DRIFT = Drift({}, [])


class Audit:
    """One pass after the other through the maps of grants."""

    def __init__(self) -> None:
        self._suspected: set[GrantKey] = set()
        self._missed: set[GrantKey] = set()
        self._parts: dict[str, int] = {}
        self.forget()

    def forget(self) -> None:
        """Begin anew: what is believed was read just now, or is about to be."""
        self._map = ""
        self._expected: set[bytes] = set()
        self._strays: dict[GrantKey, HeldGrant] = {}
        self._hopeless = False
        self._suspected.clear()
        self._missed.clear()

    @property
    def suspects(self) -> bool:
        """Whether something is suspected, so that the next pass should not wait."""
        return bool(self._suspected or self._missed)

    def seen(
        self,
        name: str,
        found: Iterable[tuple[bytes | None, HeldGrant]],
        ledger: Ledger,
        now: float,
    ) -> None:
        """Look at a piece of the map; the first of a pass says what is to be found in it."""
        if name != self._map:
            self._begin(name, ledger, now)
        for packed, held in found:
            if packed is None:
                self._hopeless = True
                continue
            self._expected.discard(packed)
            key = GrantKey(name, packed)
            if ledger.is_strange(key, held, now):
                self._strays[key] = held
                if len(self._strays) > MOST_SUSPECTS:
                    self._hopeless = True
                    return

    def _begin(self, name: str, ledger: Ledger, now: float) -> None:
        self._map, self._strays, self._hopeless = name, {}, False
        parts = 1 + ledger.count(name) // MOST_AT_ONCE
        part = self._parts.get(name, 0) % parts
        self._expected = {
            packed
            for packed, grant in ledger.of_map(name)
            if grant.expires > now + SHORTEST_LIFE and (parts == 1 or hash(packed) % parts == part)
        }

    def ended(self, name: str, ledger: Ledger, now: float) -> Drift:
        """The pass through the map is over: what was suspected before, and is so again."""
        if name != self._map:
            self._begin(name, ledger, now)
        missing = {
            key
            for key in (GrantKey(name, packed) for packed in self._expected)
            if ledger.lives_until(key, now + SHORTEST_LIFE)
        }
        strays, hopeless = self._strays, self._hopeless or len(missing) > MOST_SUSPECTS
        confirmed = Drift(
            {key: held for key, held in strays.items() if key in self._suspected},
            sorted(missing & self._missed),
            hopeless,
        )
        self._suspected = {k for k in self._suspected if k.map != name} | set(strays)
        self._suspected -= set(confirmed.strays)
        self._missed = {k for k in self._missed if k.map != name} | missing
        self._missed -= set(confirmed.missing)
        if missing <= set(confirmed.missing):
            self._parts[name] = self._parts.get(name, 0) + 1
        self._map, self._expected, self._strays = "", set(), {}
        return confirmed
