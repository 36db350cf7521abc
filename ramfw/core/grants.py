"""Grants: what leases and the policy's own addresses open, as elements of the maps.

Pure. A grant is wanted while an entry of the policy permits it: by a lease of a name that the
entry names, by an address that root wrote, or, for the trusted DNS servers, by their being so.
Where several entries permit the same address and port, the first in the policy has the flow.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple, TypeVar

from ramfw.core.events import Address
from ramfw.core.leases import Leases
from ramfw.core.marks import RESOLVERS
from ramfw.core.permitted import EVERY_SCOPE, map_name, map_stems
from ramfw.core.places import Place, is_range, network, place
from ramfw.core.policy import Entry, Policy, Protocol
from ramfw.core.transaction import GrantKey, packed_key, packed_service

T = TypeVar("T")

LIFE_OF_STATIC = 6 * 3600.0
"""Seconds that an address from the policy itself lives in the kernel; renewed at half of it."""

DNS_PORT = 53
MOST_NAMES_AT_HAND = 256
"""Names whose permissions are kept at hand; beyond, all are looked up anew. Few, so that they stay
in a CPU's cache: an answer waits."""


@dataclass(frozen=True, slots=True)
class Permission:
    """What one entry opens on an address, wherever the address came from."""

    order: int
    entry_id: int
    stems: tuple[str, ...]
    services: tuple[bytes, ...]

    def keys(self, where: Place) -> list[GrantKey]:
        """The elements that open it there."""
        opened = _opened(self.stems, self.services, len(where))
        if is_range(where):
            return [GrantKey(name, packed_key(where, service)) for name, service in opened]
        return [GrantKey(name, where + service) for name, service in opened]


class Wanted(NamedTuple):
    """A grant that should be in the kernel until `expires`."""

    entry_id: int
    expires: float


class Permissions:
    """The policy in force, arranged to tell what a name, or a place, opens."""

    def __init__(
        self, policy: Policy | None, entries: dict[int, Entry], servers: Iterable[Address]
    ) -> None:
        self._exact: dict[str, tuple[Permission, ...]] = {}
        self._below: dict[str, tuple[Permission, ...]] = {}
        self._static: dict[Place, tuple[Permission, ...]] = {}
        self._at_hand: dict[str, tuple[Permission, ...]] = {}
        self.stems: dict[int, frozenset[str]] = {RESOLVERS: frozenset({EVERY_SCOPE})}
        if policy is None:
            return
        for order, (entry_id, entry) in enumerate(entries.items(), start=1):
            self._add(order, entry_id, entry, map_stems(entry, policy))
        for server in servers:
            for protocol in Protocol:
                services = (packed_service(protocol, DNS_PORT),)
                permission = Permission(0, RESOLVERS, (EVERY_SCOPE,), services)
                _append(self._static, place(server), permission)

    def _add(self, order: int, entry_id: int, entry: Entry, stems: tuple[str, ...]) -> None:
        self.stems[entry_id] = _as_set(stems)

        def on(ports: tuple[int, ...]) -> Permission:
            services = _services(entry.protocol, ports)
            return Permission(order, entry_id, stems, services)

        for one in entry.networks:
            _append(self._static, place(one), on(entry.ports))
        for target in entry.targets:
            if target.is_wildcard:
                _append(self._below, target.pattern.removeprefix("*."), on(target.ports))
            else:
                _append(self._exact, target.pattern, on(target.ports))

    def exact_names(self) -> Iterable[str]:
        """The names that can be resolved ahead."""
        return self._exact.keys()

    def places(self) -> Collection[Place]:
        """The addresses and ranges that need no lease."""
        return self._static.keys()

    def of_name(self, name: str) -> tuple[Permission, ...]:
        """What a lease of this name opens; empty where the name is not permitted."""
        found = self._at_hand.get(name)
        if found is None:
            found = self._exact.get(name, ())
            parent = name if self._below else ""
            while parent := parent.partition(".")[2]:
                found += self._below.get(parent, ())
            if len(self._at_hand) >= MOST_NAMES_AT_HAND:
                self._at_hand.clear()
            self._at_hand[name] = found
        return found

    def is_exact(self, name: str) -> bool:
        """Whether an entry names it, so that it is resolved ahead and always may be learned."""
        return name in self._exact

    def wanted(self, where: Place, leases: Leases, now: float) -> dict[GrantKey, Wanted]:
        """All grants on one address or range, the first entry of the policy before others."""
        reasons = [(p, now + LIFE_OF_STATIC) for p in self._static.get(where, ())]
        for name, lease in leases.of_address(where):
            reasons += [(permission, lease.expires) for permission in self.of_name(name)]
        if len(reasons) > 1:
            reasons.sort(key=lambda reason: (reason[0].order, -reason[1]))
        found: dict[GrantKey, Wanted] = {}
        for permission, expires in reasons:
            wanted = Wanted(permission.entry_id, expires)
            for key in permission.keys(where):
                found.setdefault(key, wanted)
        return found


def _append(found: dict[T, tuple[Permission, ...]], key: T, one: Permission) -> None:
    found[key] = (*found.get(key, ()), one)


@cache
def _as_set(stems: tuple[str, ...]) -> frozenset[str]:
    """One for all entries: they are few, and entries may be 10,000."""
    return frozenset(stems)


@lru_cache
def _services(protocol: Protocol, ports: tuple[int, ...]) -> tuple[bytes, ...]:
    return tuple(packed_service(protocol, port) for port in ports)


@cache
def _opened(
    stems: tuple[str, ...], services: tuple[bytes, ...], size: int
) -> tuple[tuple[str, bytes], ...]:
    """The maps for places of this size, which tells the family, and what is opened in each."""
    like, ranges = network(bytes(size)), is_range(bytes(size))
    maps = [map_name(stem, like, is_range=ranges) for stem in stems]
    return tuple((name, service) for name in maps for service in services)
