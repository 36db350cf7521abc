"""What the kernel holds of ramfw's table, as it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ramfw.core.ruleset import Ruleset

FOREIGN = 0
"""The entry id of an element that ramfw did not write: another verdict, or no timeout."""


class HeldGrant(NamedTuple):
    """An element of a map, with what is left of its timeout, in seconds."""

    entry_id: int
    remaining: float


@dataclass(frozen=True, slots=True)
class TableState:
    """The rules, and the grants where they were read too (None: only the rules were).

    Grants are by map and by `GrantKey.packed`.
    """

    ruleset: Ruleset
    grants: Mapping[str, dict[bytes, HeldGrant]] | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """What a counter holds."""

    packets: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """All counters of the table: by name, and what live flows carried, by mark value.

    `connections` counts, by an entry's id, those that it has permitted. `unheard` are the
    interfaces on which connections that were turned did not arrive.
    """

    named: Mapping[str, Count]
    live: Mapping[int, Count]
    unheard: frozenset[str] = frozenset()
    connections: Mapping[int, Count] = field(default_factory=dict)
