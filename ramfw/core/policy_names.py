"""Which entry of a policy permits a name, whatever its port and scope.

Pure, and small on purpose: the signer, which must never sign for a permitted name, asks here.
"""

from __future__ import annotations

from ramfw.core.fqdn import matches
from ramfw.core.policy import Entry, Policy


def entry_for(policy: Policy, name: str) -> Entry | None:
    """The first entry with a target that covers a canonical name."""
    for entry in policy.entries:
        if any(matches(target.pattern, name) for target in entry.targets):
            return entry
    return None
