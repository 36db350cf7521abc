"""What answers open that name only addresses not known before: the usual case, decided quickly.

Pure. While an answer waits, its leases need not be written down: where nothing else concerns its
addresses, what they open follows from the policy alone, and is what `Permissions.wanted` will say
once they are learned.
"""

from __future__ import annotations

from collections.abc import Iterable

from ramfw.core.addresses import may_open
from ramfw.core.events import HeldAnswer
from ramfw.core.grants import Permissions, Wanted
from ramfw.core.leases import Leases, expiry
from ramfw.core.ledger import Ledger
from ramfw.core.transaction import GrantKey


def fresh_grants(
    answers: Iterable[HeldAnswer],
    permissions: Permissions,
    leases: Leases,
    ledger: Ledger,
    now: float,
) -> dict[GrantKey, Wanted] | None:
    """The grants that the answers add; None where it is not as simple as that.

    Simple: one entry permits each name, and no address has a lease or a grant already.
    """
    known = leases.addresses()
    found: dict[GrantKey, Wanted] = {}
    for _, name, addresses, ttl, _ in answers:
        permitting = permissions.of_name(name)
        if len(permitting) != 1:
            return None
        permission = permitting[0]
        wanted = Wanted(permission.entry_id, expiry(ttl, now))
        for address in addresses:
            if address in known:
                return None
            keys = permission.keys(address) if may_open(address) else ()
            for key in keys:
                if key in found or ledger.has(key):
                    return None
                found[key] = wanted
    return found
