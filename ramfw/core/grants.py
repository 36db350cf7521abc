"""Grants: what leases and the policy's own addresses open, as elements of the maps.

Pure. A grant is wanted while an entry of the policy permits it: by a lease of a name that the
entry names, by an address that root wrote, or, for the trusted DNS servers, by their being so.
Where several entries permit the same address and port, the first in the policy has the flow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from ramfw.core.compiler import EVERY_SCOPE, map_name, map_stems
from ramfw.core.events import Address
from ramfw.core.leases import Leases
from ramfw.core.marks import RESOLVERS
from ramfw.core.policy import Entry, Network, Policy, Protocol
from ramfw.core.transaction import GrantKey

LIFE_OF_STATIC = 6 * 3600.0
"""Seconds that an address from the policy itself lives in the kernel; renewed at half of it."""

DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class Permission:
    """What one entry opens on an address, wherever the address came from."""

    order: int
    entry_id: int
    stems: tuple[str, ...]
    protocol: str
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A grant that should be in the kernel until `expires`."""

    entry_id: int
    expires: float


class Permissions:
    """The policy in force, arranged to tell what a name, or a network, opens."""

    def __init__(
        self, policy: Policy | None, entries: dict[int, Entry], servers: Iterable[Address]
    ) -> None:
        self._exact: dict[str, list[Permission]] = {}
        self._below: dict[str, list[Permission]] = {}
        self._static: dict[Network, list[Permission]] = {}
        self.stems: dict[int, frozenset[str]] = {RESOLVERS: frozenset({EVERY_SCOPE})}
        if policy is None:
            return
        for order, (entry_id, entry) in enumerate(entries.items(), start=1):
            stems = map_stems(entry, policy)
            self.stems[entry_id] = frozenset(stems)
            self._add(Permission(order, entry_id, stems, str(entry.protocol), entry.ports), entry)
        for server in servers:
            for protocol in Protocol:
                permission = Permission(0, RESOLVERS, (EVERY_SCOPE,), str(protocol), (DNS_PORT,))
                self._static.setdefault(ip_network(server), []).append(permission)

    def _add(self, base: Permission, entry: Entry) -> None:
        for network in entry.networks:
            self._static.setdefault(network, []).append(base)
        for target in entry.targets:
            permission = Permission(
                base.order, base.entry_id, base.stems, base.protocol, target.ports
            )
            if target.is_wildcard:
                self._below.setdefault(target.pattern.removeprefix("*."), []).append(permission)
            else:
                self._exact.setdefault(target.pattern, []).append(permission)

    def exact_names(self) -> Iterable[str]:
        """The names that can be resolved ahead."""
        return self._exact.keys()

    def networks(self) -> Iterable[Network]:
        """The addresses and ranges that need no lease."""
        return self._static.keys()

    def of_name(self, name: str) -> list[Permission]:
        """What a lease of this name opens; empty where the name is not permitted."""
        found = list(self._exact.get(name, ()))
        if self._below:
            parent = name
            while parent := parent.partition(".")[2]:
                found += self._below.get(parent, ())
        return found

    def is_exact(self, name: str) -> bool:
        """Whether an entry names it, so that it is resolved ahead and always may be learned."""
        return name in self._exact

    def wanted(self, network: Network, leases: Leases, now: float) -> dict[GrantKey, Wanted]:
        """All grants on one address or range, the first entry of the policy before others."""
        found: dict[GrantKey, tuple[int, Wanted]] = {}
        for permission, expires in self._reasons(network, leases, now):
            for key in _keys(network, permission):
                held = found.get(key)
                if held and (held[0], -held[1].expires) <= (permission.order, -expires):
                    continue
                found[key] = (permission.order, Wanted(permission.entry_id, expires))
        return {key: wanted for key, (_, wanted) in found.items()}

    def _reasons(
        self, network: Network, leases: Leases, now: float
    ) -> Iterator[tuple[Permission, float]]:
        for permission in self._static.get(network, ()):
            yield permission, now + LIFE_OF_STATIC
        if network.prefixlen == network.max_prefixlen:
            for name, lease in leases.of_address(network.network_address).items():
                for permission in self.of_name(name):
                    yield permission, lease.expires


def _keys(network: Network, permission: Permission) -> Iterator[GrantKey]:
    is_range = network.prefixlen < network.max_prefixlen
    for stem in permission.stems:
        name = map_name(stem, network, is_range=is_range)
        for port in permission.ports:
            yield GrantKey(name, network, permission.protocol, port)
