"""The ledger of grants: what the kernel was told, what it should hold, and the way between.

Pure. A network (an address or a range) is `dirty` when what is wanted of it may have changed; a
grant is `stale` when it must go. Both are settled by the next transaction, and what it changes
counts only once it is committed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from ramfw.core.events import Address
from ramfw.core.grants import Permissions, Wanted
from ramfw.core.leases import Leases
from ramfw.core.marks import RESOLVERS
from ramfw.core.policy import Network
from ramfw.core.tablestate import FOREIGN, HeldGrant
from ramfw.core.transaction import AddGrant, DeleteGrant, GrantKey, Operation

MOST_GRANTS_A_TRANSACTION = 4096
"""Bounds how long one transaction holds the kernel's nftables lock."""
WORTH_RENEWING = 20.0
"""Seconds of life that a renewal must add to be sent: less than a lease's grace, so that what is
left outlives the TTL of the answer that was not worth one."""
SWEEP_EVERY = 60.0
"""Seconds between clearings of grants that the kernel has let expire."""

Changes = Mapping[GrantKey, Wanted | None]
"""What a transaction makes of grants; None: gone."""


class Ledger:
    """All grants that the kernel has acknowledged, and what is to be looked at."""

    def __init__(self) -> None:
        self.grants: dict[GrantKey, Wanted] = {}
        self._dirty: set[Network] = set()
        self._stale: set[GrantKey] = set()
        self._sweep_due = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether nothing waits to be looked at."""
        return not self._dirty and not self._stale

    def touch(self, addresses: Iterable[Address]) -> None:
        """What is wanted of these addresses may have changed."""
        self._dirty.update(_alone(address) for address in addresses)

    def touch_networks(self, networks: Iterable[Network]) -> None:
        """The same, for ranges too."""
        self._dirty.update(networks)

    def recheck(self, permissions: Permissions) -> None:
        """Find the grants that new permissions do not cover."""
        self._stale = {k for k, held in self.grants.items() if _is_revoked(k, held, permissions)}

    def start_from(
        self, held: Mapping[GrantKey, HeldGrant], permissions: Permissions, now: float
    ) -> None:
        """Take what was read as what there is."""
        self.grants = {key: Wanted(g.entry_id, now + g.remaining) for key, g in held.items()}
        self.recheck(permissions)

    def sweep(self, now: float) -> None:
        """Forget, now and then, what the kernel has let expire."""
        if self._sweep_due <= now:
            self._sweep_due = now + SWEEP_EVERY
            over = [key for key, held in self.grants.items() if held.expires + SWEEP_EVERY <= now]
            for key in over:
                del self.grants[key]

    def operations(
        self, permissions: Permissions, leases: Leases, now: float, *, replaces: bool
    ) -> tuple[list[Operation], Changes]:
        """The next operations, and what they change; `replaces`: the table is made anew."""
        operations: list[Operation] = []
        changes: dict[GrantKey, Wanted | None] = {}
        if replaces:
            for key, held in self.grants.items():
                if held.expires > now and key not in self._stale:
                    changes[key] = held
                    operations.append(AddGrant(key, held.entry_id, _timeout(held.expires, now)))
        else:
            for key in self._stale:
                gone = self.grants.get(key)
                if gone is not None and gone.expires > now:
                    operations += _remove(key, gone, now)
                changes[key] = None
        self._stale.clear()
        while self._dirty and len(operations) < MOST_GRANTS_A_TRANSACTION:
            network = self._dirty.pop()
            for key, wanted in permissions.wanted(network, leases, now).items():
                present = None if replaces else self.grants.get(key)
                if key in changes:
                    present = changes[key]
                if not _is_served(present, wanted):
                    operations += _renew(key, present, wanted, now)
                    changes[key] = wanted
        return operations, changes

    def committed(self, changes: Changes, permissions: Permissions, *, replaced: bool) -> None:
        """A transaction is in the kernel; what became stale meanwhile goes with the next."""
        if replaced:
            self.grants.clear()
        for key, wanted in changes.items():
            if wanted is None:
                self.grants.pop(key, None)
                continue
            self.grants[key] = wanted
            if _is_revoked(key, wanted, permissions):
                self._stale.add(key)


def _alone(address: Address) -> Network:
    """The range of one address; from its number, for its text would be parsed again."""
    number = int(address)
    return IPv4Network(number) if isinstance(address, IPv4Address) else IPv6Network(number)


def _is_revoked(key: GrantKey, held: Wanted, permissions: Permissions) -> bool:
    """Whether a grant belongs to no entry, or to a map that its entry left."""
    stem = key.map.rstrip("46").removesuffix("_ranges")
    if stem not in permissions.stems.get(held.entry_id, frozenset()):
        return True
    return held.entry_id == RESOLVERS and key.network not in permissions.networks()


def _is_served(held: Wanted | None, wanted: Wanted) -> bool:
    return (
        held is not None
        and held.entry_id == wanted.entry_id
        and held.expires + WORTH_RENEWING >= wanted.expires
    )


def _timeout(expires: float, now: float) -> int:
    return max(1, math.ceil(expires - now))


def _remove(key: GrantKey, held: Wanted, now: float) -> list[Operation]:
    if held.entry_id == FOREIGN:
        return [DeleteGrant(key)]
    # Deleting an element that has just expired fails; adding it first makes sure that it is there.
    return [AddGrant(key, held.entry_id, _timeout(held.expires, now)), DeleteGrant(key)]


def _renew(key: GrantKey, held: Wanted | None, wanted: Wanted, now: float) -> list[Operation]:
    # Adding what is there changes no timeout before kernel 6.12: add, delete, add.
    operations = [] if held is None else _remove(key, held, now)
    return [*operations, AddGrant(key, wanted.entry_id, _timeout(wanted.expires, now))]
