"""compile_ruleset(policy, machine, entries) -> Ruleset: the security of ramfw, put together.

Pure. Steps, each a base chain of its own, so that other people's NAT can stand between:

    judge  (filter, -150)  marks a new flow of a scope: the id of the entry that permits it, or
                           REFUSED. Reads addresses as the sender wrote them.
    turn   (nat, -95)      turns refused connections to the explainer (`turn_rules`).
    guard  (filter, -10)   passes flows whose id is live, refuses what is marked otherwise, and
                           refuses what is in a scope and carries no mark at all (no conntrack
                           entry, or somebody else wrote over the mark).
    account (filter, input) counts what permitted flows receive.

Refusing verdicts are final in every base chain of the hook, whatever Docker's chains accept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ramfw.core.base_chains import base_chains
from ramfw.core.marks import AUDITED, FORGED, PASSED, REFUSED, RESOLVERS
from ramfw.core.name_fronts import Fronts, fronts, too_short
from ramfw.core.name_rules import Checks, name_chains, name_sets, unsettled_ids
from ramfw.core.permit_rules import permit_chain, permit_sets
from ramfw.core.permitted import NumberedEntry, entry_comment, permitted_maps, tags
from ramfw.core.plan import Machine, Plan
from ramfw.core.policy import Policy, ScopeMode, ScopeName
from ramfw.core.refusals import log_refusal
from ramfw.core.ruleset import Chain, Element, NamedSet, Ruleset
from ramfw.core.scope_chains import entries_map, scope_chains, scope_sets
from ramfw.core.turn_rules import Flows, Turning, turn_chains, turn_sets
from ramfw.core.watch_rules import Surroundings, WatchForm, watch_chains, watch_sets


def compile_ruleset(
    policy: Policy,
    machine: Machine,
    entries: Iterable[NumberedEntry],
) -> Ruleset:
    """The table that the policy means on this machine."""
    plan = Plan.of(policy, machine)
    parts = _Parts(_surroundings(plan), _checks(plan), _flows(plan))
    resolvers = NumberedEntry(RESOLVERS, "trusted DNS servers", "resolvers")
    counters = {f"{scope}_refused" for scope in ScopeName}
    counters |= {f"{scope}_audited" for scope in ScopeName}
    counters |= {"revoked", "answers", "turned"}
    if plan.checks_names:
        counters |= {"openings", "passed", "unread"}
    sets = tuple(_sets(plan, parts, (resolvers, *entries)))
    return Ruleset(tuple(_chains(plan, parts)), sets, frozenset(counters))


class _Parts(NamedTuple):
    """What the modules with chains and sets of their own are told of the plan."""

    around: Surroundings
    checks: Checks
    flows: Flows | None


def _chains(plan: Plan, parts: _Parts) -> Iterable[Chain]:
    yield permit_chain(plan.marks)
    for scope in plan.scopes:
        yield from scope_chains(plan, scope)
    yield from base_chains(plan, turns=parts.flows is not None)
    if plan.scopes:
        yield from watch_chains(plan.machine.watch, parts.around)
    if plan.checks_names:
        yield from name_chains(parts.checks)
    if parts.flows is not None:
        yield from turn_chains(parts.flows)


def _sets(plan: Plan, parts: _Parts, live: tuple[NumberedEntry, ...]) -> Iterable[NamedSet]:
    patterns = frozenset(plan.policy.containers.interfaces)
    yield NamedSet(plan.bridges, ("ifname",), frozenset({"interval"}), elements=patterns)
    yield NamedSet("uplinks", ("ifname",), elements=frozenset(plan.machine.uplinks))
    ids = {entry.entry_id for entry in live}
    if plan.audit:
        ids.add(AUDITED)
    if plan.checks_names:
        awaited = unsettled_ids(plan.scopes)
        ids |= awaited
        if any(plan.mode(scope) is ScopeMode.REGISTRIES for scope in plan.scopes):
            ids.add(PASSED)
        yield NamedSet("awaited", ("mark",), elements=_values(plan, awaited))
        yield from name_sets(parts.checks, [entry.entry_id for entry in live])
    yield NamedSet("live", ("mark",), counted=True, elements=_values(plan, ids))
    yield from scope_sets(plan)
    yield from watch_sets(plan.machine.watch, parts.around)
    if parts.flows is not None:
        yield from turn_sets()
    yield from permitted_maps(plan.policy)
    yield from permit_sets((entry.entry_id, entry_comment(entry)) for entry in live)
    yield entries_map(plan, live)


def _values(plan: Plan, ids: Iterable[int]) -> frozenset[Element]:
    return frozenset(plan.marks.value(entry_id) for entry_id in ids)


def _surroundings(plan: Plan) -> Surroundings:
    by_cgroup = tuple((match,) for _, match in plan.by_cgroup())
    return Surroundings(
        bridges=plan.bridges,
        by_socket=((),) if ScopeName.HOST in plan.scopes else by_cgroup,
        by_cgroup=by_cgroup,
        forged=plan.mark(FORGED),
        is_forged=plan.marked(FORGED),
        forwards=plan.forwards,
        servers=plan.machine.servers,
        fronts=_fronts(plan),
    )


def _fronts(plan: Plan) -> Fronts | None:
    if not plan.machine.tells_answers or too_short(plan.policy.patterns):
        return None
    return fronts(plan.policy.patterns)


def _checks(plan: Plan) -> Checks:
    containers = ScopeName.CONTAINERS
    of_containers = tuple((match,) for scope, match in plan.by_cgroup() if scope is containers)
    return Checks(
        plan.marks,
        {scope: plan.mode(scope) for scope in plan.scopes},
        plan.bridges,
        of_containers,
        is_native=plan.machine.watch is WatchForm.NATIVE,
        forwards=plan.forwards,
        audit=plan.audit,
    )


def _flows(plan: Plan) -> Flows | None:
    """How refused connections are turned; None where they are not."""
    if plan.machine.turning is Turning.NONE or not plan.scopes or plan.audit:
        return None
    return Flows(
        bridges=plan.bridges,
        patterns=plan.policy.containers.interfaces,
        uplinks=plan.machine.uplinks,
        ports=f"{ScopeName.CONTAINERS}_ports",
        unmarked=plan.marked(0),
        is_refused=plan.marked(REFUSED),
        refuse=plan.mark(REFUSED),
        lookups=tuple(tags(plan.policy, ScopeName.CONTAINERS)),
        tried_once=plan.machine.watch is WatchForm.COPY,
        log=log_refusal(ScopeName.CONTAINERS),
        # In mode `registries` connections are refused by their names: too late to turn them.
        containers=(
            plan.machine.turning is Turning.ALL and plan.policy.containers.mode is ScopeMode.STRICT
        ),
    )
