"""Leases: which name an address was given for, and until when that counts.

Pure. Times are seconds on the caller's monotonic clock. A lease outlives the answer's TTL by a
grace, because clients keep an answer for the whole TTL and connect after it; the name is asked
again well before. Several names on one address each have a lease of their own. Addresses are
packed: there may be 100,000.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from typing import NamedTuple

SHORTEST_TTL = 10.0
"""Seconds. A smaller TTL is taken as this, so that no name is asked for without pause."""
LONGEST_TTL = 3600.0
"""Seconds. A larger TTL is taken as this, so that a wrong answer does not stay for days."""
GRACE = 30.0
"""Seconds that a lease outlives its TTL: a client's own cache, and a slow start of a connection."""
LONGEST_STALE = 3600.0
"""Seconds after the last good answer up to which it is served on while no server gives one."""


class Lease(NamedTuple):
    """An address of a name; `server` gave it at `learned`, it counts until `expires`.

    The addresses of one answer share one.
    """

    server: str
    learned: float
    expires: float


def bounded_ttl(ttl: float) -> float:
    """The TTL within its bounds, in seconds."""
    return min(max(ttl, SHORTEST_TTL), LONGEST_TTL)


def expiry(ttl: float, now: float) -> float:
    """When the lease ends of an address that was given now with this TTL."""
    return now + min(max(ttl, SHORTEST_TTL), LONGEST_TTL) + GRACE


class Leases:
    """All leases, found by name and by address, with the next expiry at hand."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[bytes, Lease]] = {}
        # Nearly every address has one name: a set for each would be most of the memory.
        self._by_address: dict[bytes, str | set[str]] = {}
        # When a name is looked at next: no lease of it ends before. Others in the heap are void.
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self.changes = 0
        """How often something was learned."""

    def learn(
        self, name: str, addresses: Iterable[bytes], ttl: float, server: str, now: float
    ) -> list[bytes]:
        """Remember an answer; the addresses whose leases it changed."""
        return self._keep(name, addresses, Lease(server, now, expiry(ttl, now)))

    def recall(self, name: str, addresses: Iterable[bytes], lease: Lease) -> list[bytes]:
        """Remember what an earlier daemon learned; the addresses whose leases it changed."""
        return self._keep(name, addresses, lease)

    def prolong(self, name: str, last_good: float, asked_next: float) -> list[bytes]:
        """Serve the last good answer until the next one may come, at most LONGEST_STALE long."""
        until = min(asked_next + GRACE, last_good + LONGEST_STALE)
        changed = []
        for address, lease in list(self._by_name.get(name, {}).items()):
            if lease.learned >= last_good:
                changed += self._keep(name, (address,), lease._replace(expires=until))
        return changed

    def _keep(self, name: str, addresses: Iterable[bytes], lease: Lease) -> list[bytes]:
        held = self._by_name.get(name)
        if held is None:
            held = {}
        changed = []
        for address in addresses:
            present = held.get(address)
            if present is None:
                self._name_address(address, name)
            elif lease.expires <= present.expires:
                # It was given again all the same: a cache's TTL counts down to the same end.
                held[address] = lease._replace(expires=present.expires)
                continue
            held[address] = lease
            changed.append(address)
        if changed:
            self.changes += 1
            self._by_name[name] = held
            self._look_at(name, lease.expires)
        return changed

    def _look_at(self, name: str, when: float) -> None:
        if when < self._due.get(name, when + 1):
            self._due[name] = when
            heapq.heappush(self._heap, (when, name))

    def _name_address(self, address: bytes, name: str) -> None:
        names = self._by_address.setdefault(address, name)
        if isinstance(names, set):
            names.add(name)
        elif names != name:
            self._by_address[address] = {names, name}

    def expire(self, now: float) -> list[bytes]:
        """Forget what has ended; the addresses that lost a name."""
        changed: list[bytes] = []
        while self._heap and self._heap[0][0] <= now:
            when, name = heapq.heappop(self._heap)
            if self._due.get(name) != when:
                continue
            held = self._by_name[name]
            over = [address for address, lease in held.items() if lease.expires <= now]
            self._drop(name, over)
            changed += over
            if held:
                del self._due[name]
                self._look_at(name, min(lease.expires for lease in held.values()))
        return changed

    def forget(self, name: str) -> list[bytes]:
        """Drop all leases of a name that is no longer permitted."""
        addresses = list(self._by_name.get(name, ()))
        self._drop(name, addresses)
        return addresses

    def _drop(self, name: str, addresses: Iterable[bytes]) -> None:
        held = self._by_name.get(name, {})
        for address in addresses:
            del held[address]
            names = self._by_address[address]
            if isinstance(names, set) and len(names) > 1:
                names.discard(name)
            else:
                del self._by_address[address]
        if not held:
            self._by_name.pop(name, None)
            self._due.pop(name, None)

    def of_name(self, name: str) -> dict[bytes, Lease]:
        """The leases of a name, by address."""
        return dict(self._by_name.get(name, {}))

    def of_address(self, address: bytes) -> list[tuple[str, Lease]]:
        """The names on an address, each with its lease, in order."""
        names = self._by_address.get(address, ())
        if isinstance(names, str):
            return [(names, self._by_name[names][address])]
        return [(name, self._by_name[name][address]) for name in sorted(names)]

    def names_of(self, address: bytes) -> tuple[str, ...]:
        """The names on an address, in order."""
        names = self._by_address.get(address, ())
        return (names,) if isinstance(names, str) else tuple(sorted(names))

    def names(self) -> tuple[str, ...]:
        """All names that hold a lease."""
        return tuple(self._by_name)

    def __len__(self) -> int:
        """How many names hold a lease."""
        return len(self._by_name)

    def __contains__(self, name: str) -> bool:
        """Whether the name holds a lease."""
        return name in self._by_name

    def addresses(self) -> Collection[bytes]:
        """All addresses on which there is a lease."""
        return self._by_address.keys()

    def next_expiry(self) -> float | None:
        """When `expire` is due next; None where there is no lease."""
        while self._heap:
            when, name = self._heap[0]
            if self._due.get(name) == when:
                return when
            heapq.heappop(self._heap)
        return None
