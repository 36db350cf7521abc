"""Entry ids: which id an entry's flows carry, from its first day to after its last.

Pure. An id stays with its entry over reloads and restarts, so that running downloads go on, and
is never given to another entry while a flow of the old one may still carry it: conntrack's marks
are asked (`held`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ramfw.core.marks import FIRST_ENTRY_ID, LAST_ID
from ramfw.core.permit_rules import CONNECTIONS
from ramfw.core.permitted import NumberedEntry
from ramfw.core.policy import Entry, Grant
from ramfw.core.ruleset import NumberedElement, Ruleset


def number(entry_id: int, entry: Entry) -> NumberedEntry:
    """What the compiler must know of an entry."""
    return NumberedEntry(entry_id, entry.label, entry.digest, entry.expects_name)


class OutOfIdsError(Exception):
    """Live flows carry the ids of so many entries of former policies that too few are left."""

    def __init__(self, wanted: int, left: int) -> None:
        super().__init__(
            f"{wanted:,} entries are new, and {left:,} ids are free until connections that former "
            "policies permitted have ended: the policy before stays in force; reload again later"
        )


@dataclass(slots=True)
class Numbering:
    """The ids of the policy in force, in its order."""

    entries: dict[int, Entry] = field(default_factory=dict)
    numbered: dict[int, NumberedEntry] = field(default_factory=dict)
    _adopted: dict[str, NumberedEntry] = field(default_factory=dict)

    def adopt(self, ruleset: Ruleset) -> None:
        """Take over the ids of a table that an earlier daemon left."""
        for element in _numbered(ruleset):
            if FIRST_ENTRY_ID <= element.entry_id <= LAST_ID:
                digest, _, label = element.comment.partition(" ")
                self._adopted[digest] = NumberedEntry(element.entry_id, label, digest)

    def assign(self, entries: Iterable[Entry], held: frozenset[int]) -> None:
        """Number the entries of a new policy; `held` are the ids that live flows carry.

        Raises OutOfIdsError, and changes nothing, where there are too few others.
        """
        before = _Before(self.entries)
        taken: dict[int, Entry] = {}
        numbered: dict[int, NumberedEntry] = {}
        fresh: list[tuple[int, Entry]] = []
        order: list[int] = []
        for position, entry in enumerate(entries):
            known = self._known(entry, before, taken)
            if known is None:
                fresh.append((position, entry))
                order.append(-1)
                continue
            taken[known.entry_id] = entry
            numbered[known.entry_id] = number(known.entry_id, entry)
            order.append(known.entry_id)
        used = set(taken) | set(self.numbered) | held
        used |= {n.entry_id for n in self._adopted.values()}
        free = [i for i in range(FIRST_ENTRY_ID, LAST_ID + 1) if i not in used][: len(fresh)]
        if len(free) < len(fresh):
            raise OutOfIdsError(len(fresh), len(free))
        for entry_id, (position, entry) in zip(free, fresh, strict=True):
            new = number(entry_id, entry)
            taken[new.entry_id], numbered[new.entry_id] = entry, new
            order[position] = new.entry_id
        self._adopted.clear()
        self.entries = {entry_id: taken[entry_id] for entry_id in order}
        self.numbered = {entry_id: numbered[entry_id] for entry_id in order}

    def _known(
        self, entry: Entry, before: _Before, taken: dict[int, Entry]
    ) -> NumberedEntry | None:
        """The number an entry had: the same entry, or one that permitted no more than it does."""
        adopted = self._adopted.get(entry.digest)
        if adopted and adopted.entry_id not in taken:
            return adopted
        free = (entry_id for entry_id in before.like(entry) if entry_id not in taken)
        return next((self.numbered[entry_id] for entry_id in free), None)


def _numbered(ruleset: Ruleset) -> Iterator[NumberedElement]:
    for named in ruleset.sets:
        if named.name == CONNECTIONS:
            yield from (e for e in named.elements or () if isinstance(e, NumberedElement))


class _Before:
    """The entries of the policy before, found without comparing each with each.

    One whose grants are all among those of another has its own first grant among them.
    """

    def __init__(self, entries: Mapping[int, Entry]) -> None:
        self._entries = entries
        self._by_first: dict[Grant | None, list[tuple[int, int]]] = {}
        for position, (entry_id, entry) in enumerate(entries.items()):
            first = min(entry.grants, default=None)
            self._by_first.setdefault(first, []).append((position, entry_id))

    def like(self, entry: Entry) -> list[int]:
        """The ids of those that permit the same, then of its own with less, each in order."""
        wanted = entry.grants
        near = sorted(found for grant in (*wanted, None) for found in self._by_first.get(grant, ()))
        same, grown = [], []
        for _, entry_id in near:
            old = self._entries[entry_id]
            grants = old.grants
            if grants == wanted:
                same.append(entry_id)
            if (old.kind, old.label) == (entry.kind, entry.label) and grants <= wanted:
                grown.append(entry_id)
        return same + grown
