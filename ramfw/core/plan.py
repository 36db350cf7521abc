"""Plan: what the parts of the ruleset have in common, for one policy on one machine.

Pure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from ramfw.core.events import Address
from ramfw.core.marks import MarkLayout
from ramfw.core.name_rules import marked, set_mark
from ramfw.core.policy import Mode, Policy, ScopeMode, ScopeName
from ramfw.core.ruleset import (
    ACCEPT,
    CgroupElement,
    Field,
    Match,
    Rule,
    SetMark,
    SetRef,
    SocketCgroup,
)
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm

DNS_OVER_TLS = 853
"""A port of no registry; but who asks other servers there learns what ramfw does not."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the rules must know of this machine, as observed."""

    uplinks: frozenset[str] = frozenset()
    cgroups: Mapping[ScopeName, frozenset[CgroupElement]] | None = None
    servers: frozenset[Address] = frozenset()
    watch: WatchForm = WatchForm.NONE
    names: bool = False
    """Whether first bytes can be held: where answers can, and nobody else listens for them."""
    turning: Turning = Turning.NONE
    by_cgroup: bool = True
    """Whether rules can match a socket's cgroup; without, only the host as a whole is judged."""
    tells_answers: bool = False
    """Whether somebody listens for copies of answers that need not be held."""


def bridges_name(patterns: Iterable[str]) -> str:
    """The set of interface patterns, named after its contents: it is never changed in place.

    nft 1.0.6 cannot delete a wildcard from a set, and a set that is flushed and filled in one
    commit may match nothing for an instant (kernels before 6.17).
    """
    text = " ".join(sorted(patterns))
    return f"bridges_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Plan:
    """The policy as it is meant here, with what follows from it."""

    policy: Policy
    machine: Machine

    @classmethod
    def of(cls, policy: Policy, machine: Machine) -> Plan:
        """Where first bytes cannot be read the policy goes by addresses alone."""
        reads_names = machine.names and machine.watch.holds
        return cls(policy if reads_names else policy.by_addresses(), machine)

    @cached_property
    def marks(self) -> MarkLayout:
        return MarkLayout(self.policy.mark_mask)

    @property
    def audit(self) -> bool:
        return self.policy.mode is Mode.AUDIT

    @cached_property
    def bridges(self) -> str:
        """The set of the interfaces that containers are behind."""
        return bridges_name(self.policy.containers.interfaces)

    @cached_property
    def scopes(self) -> tuple[ScopeName, ...]:
        return self.policy.scopes

    @property
    def checks_names(self) -> bool:
        return self.machine.names and self.machine.watch.holds and bool(self.scopes)

    @property
    def forwards(self) -> bool:
        """Whether forwarded packets are judged."""
        return ScopeName.CONTAINERS in self.scopes

    def mode(self, scope: ScopeName) -> ScopeMode:
        return self.policy.scope_mode(scope)

    def mark(self, entry_id: int) -> SetMark:
        return set_mark(self.marks, entry_id)

    def marked(self, entry_id: int, *, negated: bool = False) -> Match:
        return marked(self.marks, entry_id, negated=negated)

    def to_bridges(self) -> Rule:
        """What goes to containers, not out, is left alone."""
        return (
            Match(Field.OIFNAME, SetRef(self.bridges)),
            Match(Field.OIFNAME, SetRef("uplinks"), negated=True),
            ACCEPT,
        )

    def from_bridges(self) -> Rule:
        """Matches what containers send."""
        return (
            Match(Field.IIFNAME, SetRef(self.bridges)),
            Match(Field.IIFNAME, SetRef("uplinks"), negated=True),
        )

    def cgroup_levels(self) -> list[tuple[ScopeName, int]]:
        """Which levels the patterns reach: one set and one rule for each."""
        if not self.machine.by_cgroup:
            return []
        patterns = {
            ScopeName.ENGINES: self.policy.engines.cgroups,
            ScopeName.CONTAINERS: self.policy.containers.cgroups,
        }
        return [
            (scope, level)
            for scope, globs in patterns.items()
            if scope in self.scopes
            for level in sorted({glob.count("/") + 1 for glob in globs})
        ]

    def by_cgroup(self) -> Iterable[tuple[ScopeName, Match]]:
        """Whose a socket is: what matches one in a scope's cgroups, engines before containers."""
        for scope, level in self.cgroup_levels():
            yield scope, Match(SocketCgroup(level), SetRef(f"{scope}_{level}"))

    def cgroups_at(self, scope: ScopeName, level: int) -> Iterable[CgroupElement]:
        found = (self.machine.cgroups or {}).get(scope, frozenset())
        return (cgroup for cgroup in found if cgroup.level == level)
