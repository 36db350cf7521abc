"""boot_rules(...) -> the transaction that a machine's boot begins with, before any daemon.

Pure. It puts the table in place of any other in one commit, and names nothing that a machine does
not have yet: of cgroups only the engines' slice, which is made before. It holds no address, so
nothing is permitted until the daemon has asked the trusted servers; and no watch of DNS answers,
since nobody listens yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from ramfw.core.compiler import compile_ruleset
from ramfw.core.permitted import NumberedEntry
from ramfw.core.plan import Machine
from ramfw.core.policy import Policy, ScopeName
from ramfw.core.reconcile import diff
from ramfw.core.ruleset import CgroupElement
from ramfw.core.transaction import AddTable, DeleteTable, Transaction

ENGINES_SLICE = "engines.slice"
"""The cgroup, below the v2 root, that the boot unit makes and keeps."""


def boot_rules(
    policy: Policy,
    entries: Iterable[NumberedEntry] = (),
    uplinks: frozenset[str] = frozenset(),
    nft_prefix: str = "",
    *,
    by_cgroup: bool = True,
) -> Transaction:
    """The rules of the policy, with the entries' ids, and nothing permitted yet.

    Nobody reads names yet, so scopes are as where names cannot be read.
    """
    policy = policy.by_addresses()
    kept: frozenset[CgroupElement] = frozenset()
    if any(fnmatchcase(ENGINES_SLICE, pattern) for pattern in policy.engines.cgroups):
        kept = frozenset({CgroupElement(nft_prefix + ENGINES_SLICE, 1)})
    machine = Machine(uplinks, {ScopeName.ENGINES: kept}, by_cgroup=by_cgroup)
    whole, _ = diff(compile_ruleset(policy, machine, entries), None)
    return (AddTable(), DeleteTable(), *whole)
