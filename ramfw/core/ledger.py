"""The ledger of grants: what the kernel was told, what it should hold, and the way between.

Pure. A place (an address or a range) is `dirty` when what is wanted of it may have changed; a
grant is `stale` when it must go. Both are settled by the next transaction, and what it changes
counts only once it is committed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import cast

from ramfw.core.grants import Permissions, Wanted
from ramfw.core.leases import Leases
from ramfw.core.marks import RESOLVERS
from ramfw.core.places import Place
from ramfw.core.tablestate import FOREIGN, HeldGrant
from ramfw.core.transaction import AddGrant, DeleteGrant, GrantKey, Operation, place_of

MOST_GRANTS_A_TRANSACTION = 4096
"""Bounds how long one transaction holds the kernel's nftables lock."""
WORTH_RENEWING = 20.0
"""Seconds of life that a renewal must add to be sent: less than a lease's grace, so that what is
left outlives the TTL of the answer that was not worth one."""
ROUNDING = 5.0
"""Seconds by which a grant's life may be read longer than it was given: nft rounds."""
SWEEP_EVERY = 60.0
"""Seconds between clearings of grants that the kernel has let expire."""

Changes = Mapping[GrantKey, Wanted | None]
"""What a transaction makes of grants; None: gone."""


class Ledger:
    """All grants that the kernel has acknowledged, and what is to be looked at."""

    def __init__(self) -> None:
        self._grants: dict[str, dict[bytes, Wanted]] = {}
        """By map, and by the packed key."""
        self._dirty: set[Place] = set()
        self._stale: set[GrantKey] = set()
        self._sweep_due = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits to be looked at."""
        return not self._dirty and not self._stale

    def touch(self, places: Iterable[Place]) -> None:
        """What is wanted of these places may have changed."""
        self._dirty.update(places)

    def recheck(self, permissions: Permissions) -> None:
        """Find the grants that new permissions do not cover."""
        self._stale = {
            GrantKey(name, packed)
            for name, held in self._grants.items()
            for packed, grant in held.items()
            if _is_revoked(_stem(name), packed, grant, permissions)
        }

    def start_from(
        self,
        held: Mapping[str, dict[bytes, HeldGrant]],
        permissions: Permissions | None,
        now: float,
        *,
        adopts: bool,
    ) -> None:
        """Take what was read as what there is; the maps of `held` become the ledger's own.

        A daemon that starts adopts what an earlier one left. Later, what the ledger does not know
        was put there by somebody else, and goes. Without `permissions` the caller is to `recheck`
        once they are known.
        """
        before, self._grants = self._grants, {}
        alike: dict[HeldGrant, Wanted] = {}
        for name, grants in held.items():
            # In place: a copy of 100,000 would be the daemon's peak of memory.
            taken = self._grants[name] = cast("dict[bytes, Wanted]", grants)
            for packed, grant in grants.items():
                known = alike.get(grant)
                if known is None:
                    known = alike[grant] = Wanted(grant.entry_id, now + grant.remaining)
                taken[packed] = known
        self._stale = set()
        if permissions is not None:
            self.recheck(permissions)
        if not adopts:
            self._stale |= {
                key
                for key, found in self._all()
                if _is_strange(found, before.get(key.map, {}).get(key.packed))
            }

    def _get(self, key: GrantKey) -> Wanted | None:
        held = self._grants.get(key.map)
        return None if held is None else held.get(key.packed)

    def _put(self, key: GrantKey, wanted: Wanted) -> None:
        held = self._grants.get(key.map)
        if held is None:
            held = self._grants[key.map] = {}
        held[key.packed] = wanted

    def has(self, key: GrantKey) -> bool:
        """Whether the kernel was given it, and has not taken it back since."""
        held = self._grants.get(key.map)
        return held is not None and key.packed in held

    def count(self, name: str) -> int:
        """How many elements of the map are known."""
        return len(self._grants.get(name, ()))

    def of_map(self, name: str) -> Iterable[tuple[bytes, Wanted]]:
        """The elements of the map, by their packed keys."""
        return self._grants.get(name, {}).items()

    def lives_until(self, key: GrantKey, when: float) -> bool:
        """Whether the kernel was given it, for longer than until then."""
        held = self._get(key)
        return held is not None and held.expires > when

    def is_strange(self, key: GrantKey, held: HeldGrant, now: float) -> bool:
        """Whether an element that the kernel holds is not the one that it was given."""
        return _is_strange(Wanted(held.entry_id, now + held.remaining), self._get(key))

    def mend(
        self, strays: Mapping[GrantKey, HeldGrant], missing: Iterable[GrantKey], now: float
    ) -> None:
        """Have elements that nobody granted taken away, and those that are not there given."""
        for key, held in strays.items():
            self._put(key, Wanted(held.entry_id, now + held.remaining))
            self._stale.add(key)
            self._dirty.add(place_of(key.packed))
        for key in missing:
            self._grants.get(key.map, {}).pop(key.packed, None)
            self._dirty.add(place_of(key.packed))

    def sweep(self, now: float) -> None:
        """Forget, now and then, what the kernel has let expire."""
        if self._sweep_due <= now:
            self._sweep_due = now + SWEEP_EVERY
            for held in self._grants.values():
                over = [key for key, grant in held.items() if grant.expires + SWEEP_EVERY <= now]
                for key in over:
                    del held[key]

    def operations(
        self, permissions: Permissions, leases: Leases, now: float, *, replaces: bool
    ) -> tuple[list[Operation], Changes]:
        """The next operations, and what they change; `replaces`: the table is made anew."""
        operations: list[Operation] = []
        changes: dict[GrantKey, Wanted | None] = {}
        alike: dict[Wanted, Wanted] = {}  # the addresses of an answer share one: they are many
        if replaces:
            for key, held in self._all():
                if held.expires > now and key not in self._stale:
                    changes[key] = held
                    operations.append(AddGrant(key, held.entry_id, _timeout(held.expires, now)))
        else:
            for key in self._stale:
                gone = self._get(key)
                if gone is not None and gone.expires > now:
                    operations += _remove(key, gone, now)
                changes[key] = None
        self._stale.clear()
        while self._dirty and len(operations) < MOST_GRANTS_A_TRANSACTION:
            where = self._dirty.pop()
            for key, wanted in permissions.wanted(where, leases, now).items():
                present = None if replaces else self._get(key)
                if key in changes:
                    present = changes[key]
                if present is None or not _is_served(present, wanted):
                    operations += _give(key, present, wanted, now)
                    changes[key] = alike.setdefault(wanted, wanted)
        return operations, changes

    def _all(self) -> Iterable[tuple[GrantKey, Wanted]]:
        for name, held in self._grants.items():
            for packed, wanted in held.items():
                yield GrantKey(name, packed), wanted

    def committed(
        self,
        changes: Changes,
        planned_by: Permissions,
        permissions: Permissions,
        *,
        replaced: bool,
    ) -> None:
        """A transaction is in the kernel; what became stale meanwhile goes with the next."""
        if replaced:
            self._grants.clear()
        for key, wanted in changes.items():
            if wanted is None:
                self._grants.get(key.map, {}).pop(key.packed, None)
            else:
                self._put(key, wanted)
        if permissions is not planned_by:
            self._stale.update(
                key
                for key, wanted in changes.items()
                if wanted is not None
                and _is_revoked(_stem(key.map), key.packed, wanted, permissions)
            )


def additions(wanted: Mapping[GrantKey, Wanted], now: float) -> tuple[AddGrant, ...]:
    """The operations for grants of which the kernel has none yet."""
    # Not from a generator: an answer waits.
    return tuple(
        [
            AddGrant(key, entry_id, _timeout(expires, now))
            for key, (entry_id, expires) in wanted.items()
        ]
    )


@cache
def _stem(name: str) -> str:
    """The stem of a map's name."""
    return name.rstrip("46").removesuffix("_ranges")


def _is_revoked(stem: str, packed: bytes, held: Wanted, permissions: Permissions) -> bool:
    """Whether a grant belongs to no entry, or to a map that its entry left."""
    stems = permissions.stems.get(held.entry_id)
    if stems is None or stem not in stems:
        return True
    return held.entry_id == RESOLVERS and place_of(packed) not in permissions.places()


def _give(key: GrantKey, held: Wanted | None, wanted: Wanted, now: float) -> list[Operation]:
    # Adding what is there changes no timeout before kernel 6.12: add, delete, add.
    operations = [] if held is None else _remove(key, held, now)
    return [*operations, AddGrant(key, wanted.entry_id, _timeout(wanted.expires, now))]


def _is_served(held: Wanted, wanted: Wanted) -> bool:
    same = held.entry_id == wanted.entry_id
    return same and held.expires + WORTH_RENEWING >= wanted.expires


def _timeout(expires: float, now: float) -> int:
    return max(1, math.ceil(expires - now))


def _remove(key: GrantKey, held: Wanted, now: float) -> list[Operation]:
    if held.entry_id == FOREIGN:
        return [DeleteGrant(key)]
    # Deleting an element that has just expired fails; adding it first makes sure that it is there.
    return [AddGrant(key, held.entry_id, _timeout(held.expires, now)), DeleteGrant(key)]


def _is_strange(found: Wanted, known: Wanted | None) -> bool:
    """Whether a grant that was read is not the one that the kernel was given."""
    return (
        known is None
        or known.entry_id != found.entry_id
        or known.expires + ROUNDING < found.expires
    )
