"""The chains of a scope: what it leaves alone, what it permits, and how it refuses.

Pure. A scope is strict (what no entry permits is refused) or in mode `registries` (all passes until
its name is read).
"""

from __future__ import annotations

from collections.abc import Iterable

from ramfw.core.marks import AUDITED, REFUSED, UNDECIDED
from ramfw.core.permit_rules import PERMIT
from ramfw.core.permitted import NumberedEntry, tags
from ramfw.core.plan import DNS_OVER_TLS, Plan
from ramfw.core.policy import ScopeMode, ScopeName
from ramfw.core.refusals import log_refusal
from ramfw.core.ruleset import (
    ACCEPT,
    DROP,
    VERDICTS,
    Chain,
    Count,
    Dispatch,
    Field,
    FlagsMatch,
    InSet,
    Jump,
    Match,
    NamedSet,
    Remember,
    Rule,
    SetRef,
    Untag,
    goto,
)
from ramfw.core.watch_rules import WatchForm

ENTRIES = "entries"
"""The map from an entry's id to what becomes of a flow to an address of it."""


def scope_sets(plan: Plan) -> Iterable[NamedSet]:
    """The ports that strict scopes judge, and the cgroups by which sockets are told."""
    for scope, ports in (
        (ScopeName.CONTAINERS, plan.policy.containers.registry_ports),
        (ScopeName.HOST, plan.policy.host.registry_ports),
    ):
        if plan.mode(scope) is ScopeMode.STRICT:
            judged = frozenset({*ports, DNS_OVER_TLS})
            yield NamedSet(f"{scope}_ports", ("inet_service",), elements=judged)
    for scope, level in plan.cgroup_levels():
        found = frozenset(plan.cgroups_at(scope, level))
        yield NamedSet(f"{scope}_{level}", ("cgroupsv2",), elements=found)


def entries_map(plan: Plan, live: Iterable[NumberedEntry]) -> NamedSet:
    """Where a flow to an address of an entry goes: its name may have to be read first.

    Apart from the grants: an element with a jump has all others of its map validated again.
    """
    jumps = frozenset(
        Jump(
            entry.entry_id,
            "undecided" if plan.checks_names and entry.expects_name else PERMIT,
        )
        for entry in live
    )
    return NamedSet(ENTRIES, ("classid",), data=VERDICTS, elements=jumps)


def scope_chains(plan: Plan, scope: ScopeName) -> Iterable[Chain]:
    """The chains that judge, refuse and guard a scope."""
    if plan.mode(scope) is ScopeMode.REGISTRIES:
        yield from _registries_chains(plan, scope)
        return
    outside = _outside(plan, scope)
    judge, refuse, guard = f"judge_{scope}", f"refuse_{scope}", f"guard_{scope}"
    no_flow = Match(Field.CT_STATE, frozenset({"invalid", "untracked"}))
    not_syn = FlagsMatch(frozenset({"fin", "syn", "rst", "ack"}), frozenset({"syn"}), negated=True)
    yield Chain(
        judge,
        (
            *outside,
            (no_flow, goto(refuse)),
            (Match(Field.UDP_DPORT, 443), goto(refuse)),
            # With nf_conntrack_tcp_loose (the default) a mid-stream packet counts as new.
            (Match(Field.CT_STATE, frozenset({"new"})), not_syn, goto(refuse)),
            *_lookups(plan, scope),
            *_unsettle(plan, scope),
            (plan.marked(0, negated=True), ACCEPT),
            *_first_try(plan),
            (goto(refuse),),
        ),
    )
    if plan.audit:
        audited = (Count(f"{scope}_audited"), plan.mark(AUDITED))
        yield Chain(refuse, (log_refusal(scope, audited=True), audited))
        return
    refused = (Count(f"{scope}_refused"), plan.mark(REFUSED))
    yield Chain(refuse, (log_refusal(scope), refused))
    yield Chain(
        guard,
        (
            *outside,
            log_refusal(scope),
            (Count(f"{scope}_refused"),),
            (Match(Field.CT_STATE, frozenset({"invalid"})), DROP),
            (goto("refusal"),),
        ),
    )


def _registries_chains(plan: Plan, scope: ScopeName) -> Iterable[Chain]:
    """Of a scope in which only registries are refused, by name, wherever they are."""
    invalid = Match(Field.CT_STATE, frozenset({"invalid", "untracked"}))
    # From a container, what conntrack cannot follow would leave with an address of its own.
    of_no_flow = DROP if scope is ScopeName.CONTAINERS and not plan.audit else ACCEPT
    yield Chain(
        f"judge_{scope}",
        (
            plan.to_bridges(),
            (Match(Field.OIFNAME, "lo"), ACCEPT),
            (Match(Field.L4PROTO, "tcp", negated=True), ACCEPT),
            (invalid, of_no_flow),
            *_lookups(plan, scope),
            (plan.marked(UNDECIDED), goto(f"unsettle_{scope}")),
            (plan.marked(0), goto(f"unsettle_{scope}")),
        ),
    )
    refused = (f"{scope}_audited", AUDITED) if plan.audit else (f"{scope}_refused", REFUSED)
    marked = (Count(refused[0]), plan.mark(refused[1]))
    yield Chain(f"refuse_{scope}", (log_refusal(scope, audited=plan.audit), marked))


def _unsettle(plan: Plan, scope: ScopeName) -> Iterable[Rule]:
    if plan.checks_names:
        yield plan.marked(UNDECIDED), goto(f"unsettle_{scope}")


def _first_try(plan: Plan) -> Iterable[Rule]:
    """Where answers run ahead of us: drop a first SYN, for its repetition a second later.

    By then the copy of the answer has been read, and what it opens is open.
    """
    if plan.machine.watch is not WatchForm.COPY or plan.audit:
        return
    new = Match(Field.CT_STATE, frozenset({"new"}))
    for family, source, destination in (
        (4, Field.IP_SADDR, Field.IP_DADDR),
        (6, Field.IP6_SADDR, Field.IP6_DADDR),
    ):
        key, tried = (source, destination, Field.TCP_DPORT), f"tried{family}"
        yield new, InSet(key, tried, negated=True), Remember(key, tried), DROP


def _outside(plan: Plan, scope: ScopeName) -> tuple[Rule, ...]:
    """What the scope's mode leaves alone, the same for judge and guard."""
    to_bridges = plan.to_bridges()
    if scope is ScopeName.ENGINES:
        return (
            (Match(Field.L4PROTO, "icmp"), ACCEPT),
            (Match(Field.L4PROTO, "ipv6-icmp"), ACCEPT),
            to_bridges,
        )
    return (
        to_bridges,
        (Match(Field.OIFNAME, "lo"), ACCEPT),
        (Match(Field.TCP_DPORT, SetRef(f"{scope}_ports"), negated=True), ACCEPT),
        (Match(Field.UDP_DPORT, 443, negated=True), ACCEPT),
        (
            Match(Field.L4PROTO, "tcp", negated=True),
            Match(Field.L4PROTO, "udp", negated=True),
            ACCEPT,
        ),
    )


def _lookups(plan: Plan, scope: ScopeName) -> Iterable[Rule]:
    """Ask each map, and go by the entry that has the flow."""
    yield from tags(plan.policy, scope)
    yield (Dispatch(ENTRIES),)
    yield (Untag(),)
