"""Leases: which name an address was given for, and until when that counts.

Pure. Times are seconds on the caller's monotonic clock. A lease outlives the answer's TTL by a
grace, because clients keep an answer for the whole TTL and connect after it; the name is asked
again well before. Several names on one address each have a lease of their own.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count

from ramfw.core.events import Address, Answer

SHORTEST_TTL = 10.0
"""Seconds. A smaller TTL is taken as this, so that no name is asked for without pause."""
LONGEST_TTL = 3600.0
"""Seconds. A larger TTL is taken as this, so that a wrong answer does not stay for days."""
GRACE = 30.0
"""Seconds that a lease outlives its TTL: a client's own cache, and a slow start of a connection."""
LONGEST_STALE = 3600.0
"""Seconds after the last good answer up to which it is served on while no server gives one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """One address of one name; `server` gave it at `learned`, it counts until `expires`."""

    server: str
    learned: float
    expires: float


def bounded_ttl(ttl: float) -> float:
    """The TTL within its bounds, in seconds."""
    return min(max(ttl, SHORTEST_TTL), LONGEST_TTL)


class Leases:
    """All leases, found by name and by address, with the next expiry at hand."""

    def __init__(self) -> None:
        self._by_name: dict[str, dict[Address, Lease]] = {}
        self._by_address: dict[Address, set[str]] = {}
        # The number keeps addresses of two families from being compared.
        self._expiries: list[tuple[float, int, str, Address]] = []
        self._numbers = count()

    def learn(self, name: str, answers: Iterable[Answer], now: float) -> set[Address]:
        """Remember an answer; the addresses whose leases it changed."""
        changed = set()
        for answer in answers:
            expires = now + bounded_ttl(answer.ttl) + GRACE
            if self._keep(name, answer.address, Lease(answer.server, now, expires)):
                changed.add(answer.address)
        return changed

    def prolong(self, name: str, last_good: float, asked_next: float) -> set[Address]:
        """Serve the last good answer until the next one may come, at most LONGEST_STALE long."""
        until = min(asked_next + GRACE, last_good + LONGEST_STALE)
        changed = set()
        for address, lease in list(self._by_name.get(name, {}).items()):
            prolonged = Lease(lease.server, lease.learned, until)
            if lease.learned >= last_good and self._keep(name, address, prolonged):
                changed.add(address)
        return changed

    def _keep(self, name: str, address: Address, lease: Lease) -> bool:
        held = self._by_name.setdefault(name, {})
        present = held.get(address)
        if present is not None and lease.expires <= present.expires:
            # It was given again all the same: a cache's TTL counts down to the same end.
            held[address] = Lease(lease.server, lease.learned, present.expires)
            return False
        held[address] = lease
        self._by_address.setdefault(address, set()).add(name)
        heapq.heappush(self._expiries, (lease.expires, next(self._numbers), name, address))
        return True

    def expire(self, now: float) -> set[Address]:
        """Forget what has ended; the addresses that lost a name."""
        changed = set()
        while self._expiries and self._expiries[0][0] <= now:
            _, _, name, address = heapq.heappop(self._expiries)
            lease = self._by_name.get(name, {}).get(address)
            if lease is not None and lease.expires <= now:
                self._drop(name, address)
                changed.add(address)
        return changed

    def forget(self, name: str) -> set[Address]:
        """Drop all leases of a name that is no longer permitted."""
        addresses = set(self._by_name.get(name, {}))
        for address in addresses:
            self._drop(name, address)
        return addresses

    def _drop(self, name: str, address: Address) -> None:
        held = self._by_name[name]
        del held[address]
        if not held:
            del self._by_name[name]
        names = self._by_address[address]
        names.discard(name)
        if not names:
            del self._by_address[address]

    def of_name(self, name: str) -> dict[Address, Lease]:
        """The leases of a name, by address."""
        return dict(self._by_name.get(name, {}))

    def of_address(self, address: Address) -> dict[str, Lease]:
        """The leases on an address, by name."""
        names = self._by_address.get(address, ())
        return {name: self._by_name[name][address] for name in sorted(names)}

    def names(self) -> tuple[str, ...]:
        """All names that hold a lease."""
        return tuple(self._by_name)

    def __len__(self) -> int:
        """How many names hold a lease."""
        return len(self._by_name)

    def addresses(self) -> tuple[Address, ...]:
        """All addresses on which there is a lease."""
        return tuple(self._by_address)

    def next_expiry(self) -> float | None:
        """When `expire` is due next; None where there is no lease."""
        while self._expiries:
            expires, _, name, address = self._expiries[0]
            lease = self._by_name.get(name, {}).get(address)
            if lease is not None and lease.expires == expires:
                return expires
            heapq.heappop(self._expiries)
        return None
