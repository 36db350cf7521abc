"""Which entry of a policy permits a name, whatever its port and scope, and whether one is refused.

Pure, and small on purpose: the signer, which must sign for refused names only, asks here.
"""

from __future__ import annotations

from ramfw.core.fqdn import matches
from ramfw.core.policy import Entry, Mode, Policy, ScopeMode, ScopeName, UnknownHosts


def entry_for(policy: Policy, name: str) -> Entry | None:
    """The first entry with a target that covers a canonical name."""
    for entry in policy.entries:
        if any(matches(target.pattern, name) for target in entry.targets):
            return entry
    return None


def is_refused(policy: Policy, name: str, *, is_registry: bool) -> bool:
    """Whether a scope refuses a canonical name.

    A strict scope refuses whatever no entry permits, one of mode `registries` what is a registry,
    and other hosts only if it says so (`unknown`). What asking a host may find is not known here.
    """
    if policy.mode is Mode.AUDIT or entry_for(policy, name) is not None:
        return False
    for scope in ScopeName:
        match policy.scope_mode(scope):
            case ScopeMode.STRICT:
                return True
            case ScopeMode.REGISTRIES:
                if is_registry or policy.unknown_hosts(scope) is UnknownHosts.REFUSE:
                    return True
            case ScopeMode.OFF:
                pass
    return False
