"""The leases of an earlier daemon, as text that outlives it, and as an event.

Pure. Of names that are listed in the policy the addresses are asked for anew at a start; those that
only a wildcard permits are known from answers that clients had, and clients keep them. So these
come first, and both are bounded. The times are seconds since the machine's boot, which the text
names: after another boot nobody has an answer of before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from ipaddress import ip_address
from itertools import islice
from typing import Any, NamedTuple

from ramfw.core.leases import GRACE, LONGEST_STALE, LONGEST_TTL, Lease, Leases

MOST_KEPT = 10_000
"""Addresses."""
LONGEST_LEASE = max(LONGEST_TTL, LONGEST_STALE) + GRACE
"""Seconds: no lease is longer, whatever a text says."""


class KeptLease(NamedTuple):
    """Addresses of a name that one answer gave."""

    name: str
    addresses: tuple[bytes, ...]
    lease: Lease


class LeasesRecalled(NamedTuple):
    """What an earlier daemon had learned, with times on this one's clock."""

    kept: tuple[KeptLease, ...]


def write(leases: Leases, is_listed: Callable[[str], bool], boot: str, offset: float) -> str:
    """What `read` takes; `offset` is the time since boot less that of the leases' clock."""
    names = sorted(leases.names(), key=is_listed)
    rows = (
        [
            name,
            str(ip_address(address)),
            lease.server,
            lease.learned + offset,
            lease.expires + offset,
        ]
        for name in names
        for address, lease in leases.of_name(name).items()
    )
    return json.dumps({"version": 1, "boot": boot, "leases": list(islice(rows, MOST_KEPT))}) + "\n"


def read(text: str, boot: str, now: float, offset: float) -> LeasesRecalled:
    """What still counts at `now`, on the clock of `now`; nothing of another boot.

    Raises ValueError.
    """
    try:
        kept = json.loads(text)
        if kept["version"] != 1:
            raise ValueError("another version")
        if kept["boot"] != boot:
            return LeasesRecalled(())
        rows = (_kept(row, offset) for row in islice(kept["leases"], MOST_KEPT))
        return LeasesRecalled(tuple(row for row in rows if _counts(row.lease, now)))
    except (KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"not what was written: {error}") from error


def _kept(row: list[Any], offset: float) -> KeptLease:
    name, address, server, learned, expires = row
    lease = Lease(server, float(learned) - offset, float(expires) - offset)
    is_text = isinstance(name, str) and isinstance(server, str)
    if not is_text or not math.isfinite(lease.learned) or not math.isfinite(lease.expires):
        raise ValueError("a row has another form")
    return KeptLease(name, (ip_address(address).packed,), lease)


def _counts(lease: Lease, now: float) -> bool:
    return lease.learned <= now < lease.expires <= now + LONGEST_LEASE
