"""The base chains: where packets are judged, guarded and counted, and how they are refused at last.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from ramfw.core.marks import FORGED, REFUSED
from ramfw.core.name_rules import awaits_answer, awaits_no_answer, own_question, takes_verdict
from ramfw.core.permit_rules import awaits_id
from ramfw.core.plan import Plan
from ramfw.core.policy import ScopeMode, ScopeName
from ramfw.core.refusals import log_refusal
from ramfw.core.reset_rules import as_sent, undo_nat
from ramfw.core.ruleset import (
    ACCEPT,
    Chain,
    Count,
    Field,
    Hook,
    Masked,
    Match,
    Reject,
    Rule,
    SetRef,
    Verdict,
    goto,
)
from ramfw.core.turn_rules import turned_to_explainer

JUDGE_PRIORITY = -150
GUARD_PRIORITY = -10


def base_chains(plan: Plan, *, turns: bool) -> Iterable[Chain]:
    """The chains that stand in hooks, and those that refuse. `turns`: to the explainer."""
    reply: Rule = (Match(Field.CT_DIRECTION, "reply"), ACCEPT)
    judged: Rule = (plan.marked(0, negated=True), ACCEPT)
    live = Match(Masked(Field.CT_MARK, plan.marks.mask), SetRef("live"))
    guarded: list[Rule] = []
    if plan.policy.containers.mode is ScopeMode.STRICT:
        guarded.append((*plan.from_bridges(), goto("guard_containers")))
    verdict = [takes_verdict(plan.marks)] if plan.checks_names else []
    if plan.scopes:
        yield Chain(
            "judge_output",
            (reply, judged, *_by_socket(plan, "judge")),
            Hook("output", JUDGE_PRIORITY),
        )
        yield Chain(
            "account_input",
            ((Match(Field.CT_DIRECTION, "reply"), live, ACCEPT),),
            Hook("input", GUARD_PRIORITY),
        )
    if plan.forwards:
        yield Chain(
            "judge_forward",
            (reply, judged, (*plan.from_bridges(), goto("judge_containers"))),
            Hook("forward", JUDGE_PRIORITY),
        )
    if plan.audit:
        # Nothing is refused; the guard's place in the hook only counts.
        if plan.scopes:
            yield Chain(
                "guard_output",
                (reply, *verdict, (live, ACCEPT)),
                Hook("output", GUARD_PRIORITY),
            )
        if plan.forwards:
            yield Chain(
                "guard_forward", (*verdict, (live, ACCEPT)), Hook("forward", GUARD_PRIORITY)
            )
        return
    not_live: Rule = (plan.marked(0, negated=True), goto("refuse_marked"))
    # A flow on which an answer was forged goes on; only nothing is learned from it.
    forged = [
        (plan.marked(FORGED), Match(port, 53), ACCEPT)
        for port in (Field.UDP_DPORT, Field.TCP_DPORT)
    ]
    if plan.scopes:
        unmarked = goto("guard_unmarked")
        yield Chain("guard_unmarked", tuple(_by_socket(plan, "guard")))
        yield Chain(
            "guard_output",
            (
                # What has no mark is told by one look, before all that only others need; what is
                # not tracked has nothing to look at.
                *(reply, (plan.marked(0), unmarked)),
                *(*verdict, (live, ACCEPT), *forged),
                *((turned_to_explainer(plan.marked(REFUSED)),) if turns else ()),
                *(not_live, (unmarked,)),
            ),
            Hook("output", GUARD_PRIORITY),
        )
    if plan.forwards:
        yield Chain(
            "guard_forward",
            (
                *verdict,
                (live, ACCEPT),
                reply,
                not_live,
                *guarded,
            ),
            Hook("forward", GUARD_PRIORITY),
        )
    yield Chain(
        "refuse_marked",
        (
            awaits_id(plan.marks),
            *(_answered(plan) if plan.checks_names else ()),
            (plan.marked(REFUSED), goto("refusal")),
            log_refusal(None),
            (Count("revoked"), goto("refusal")),
        ),
    )
    if plan.forwards:
        yield as_sent()
    yield Chain(
        "refusal",
        (
            *(undo_nat(plan.bridges) if plan.forwards else ()),
            (Match(Field.L4PROTO, "tcp"), Reject("tcp reset")),
            (Reject("icmpx admin-prohibited"),),
        ),
    )


def _by_socket(plan: Plan, step: str) -> Iterable[Rule]:
    """Whose packet it is, engines before containers before the rest of the host."""

    def leads(scope: ScopeName) -> Verdict:
        is_open = plan.mode(scope) is ScopeMode.REGISTRIES
        return ACCEPT if step == "guard" and is_open else goto(f"{step}_{scope}")

    for scope, match in plan.by_cgroup():
        yield (match, leads(scope))
    if ScopeName.HOST in plan.scopes:
        if step == "judge" and plan.checks_names and plan.policy.probes:
            yield own_question(plan.marks)
        yield (leads(ScopeName.HOST),)


def _answered(plan: Plan) -> tuple[Rule, Rule]:
    return awaits_answer(plan.marks), awaits_no_answer(plan.marks)
