"""By which packet the kernel settles a flow, and which flows it never does."""

from __future__ import annotations

from itertools import chain as joined

import pytest

from ramfw.core.compiler import compile_ruleset
from ramfw.core.marks import ANSWERED, EXPECTED, LAST_EXPECTED_ID, LISTEN, UNSETTLED, MarkLayout
from ramfw.core.name_rules import is_unsettled, marked, set_mark
from ramfw.core.policy import ScopeName
from ramfw.core.ruleset import (
    ACCEPT,
    ACKNOWLEDGED,
    Chain,
    Field,
    InSet,
    MarkFrom,
    Masked,
    Match,
    Queue,
    Remember,
    RememberMark,
    Rule,
    Ruleset,
    SetPacketMark,
    SetRef,
    Untag,
    Verdict,
    goto,
    jump,
)
from tests.golden.cases import MACHINE, NAMES
from tests.unit.core.policies import policy

NATIVE = NAMES["names-native"]
LAYOUT = MarkLayout(0x0000FFFF)
RULES: Ruleset = compile_ruleset(policy(), NATIVE, ())
REVERSED = {
    Field.IP_SADDR: Field.IP_DADDR,
    Field.IP_DADDR: Field.IP_SADDR,
    Field.IP6_SADDR: Field.IP6_DADDR,
    Field.IP6_DADDR: Field.IP6_SADDR,
    Field.TCP_SPORT: Field.TCP_DPORT,
    Field.TCP_DPORT: Field.TCP_SPORT,
    Field.PRIORITY: Field.PRIORITY,
}


def chain(name: str) -> Chain:
    return next(one for one in RULES.chains if one.name == name)


def test_a_server_s_packet_is_looked_up_by_what_its_client_s_was_remembered_by() -> None:
    remembered = [part for rule in chain("expect").rules for part in rule]
    keys = {one.set: one.key for one in remembered if isinstance(one, Remember)}
    looked_up = {
        one.set: one.key for rule in chain("settle").rules for one in rule if isinstance(one, InSet)
    }
    assert set(keys) == set(looked_up) == {"expected4", "expected6"}
    for name, key in keys.items():
        assert tuple(REVERSED[part] for part in key) == looked_up[name]
        assert len(set(key)) == 5, "addresses, ports and the number: no other flow's"


def test_the_number_is_the_one_that_is_acknowledged() -> None:
    first, *_, last = chain("settle").rules
    assert first == (jump("acknowledged"),)
    assert chain("acknowledged").rules == ((ACKNOWLEDGED,),)
    assert last == (Untag(),), "it stays in no packet"
    assert chain("settled").rules[0] == (Untag(),)


def test_only_a_flow_whose_verdict_brought_a_number_is_settled_by_one() -> None:
    """What is remembered of a connection before is no word on the one that has its ports."""
    (states,) = (one.elements for one in RULES.sets if one.name == "judged_states")
    judged = {UNSETTLED[scope][4] for scope in ScopeName}
    assert set(states or ()) == {LAYOUT.value(state) for state in judged}
    ((name, rule),) = ways("settle")
    assert name == "server_speaks"
    assert rule[0] == Match(Masked(Field.CT_MARK, LAYOUT.mask), SetRef("judged_states"))
    assert rule[1] == Match(Field.META_MARK, 0), "what others have marked keeps its mark"

    # A flow becomes one of these only where its number has just been remembered.
    gives = [
        (one.name, rule)
        for one in RULES.chains
        for rule in one.rules
        if any(set_mark(LAYOUT, state) in rule for state in judged)
    ]
    assert {name for name, _ in gives} == {"expected"}
    for scope in ScopeName:
        silent, *_, state = UNSETTLED[scope]
        assert (marked(LAYOUT, silent), set_mark(LAYOUT, state)) in chain("expected").rules
    assert {name for name, _ in ways("expected")} == {"expect"}
    assert all(isinstance(rule[0], Remember) for _, rule in ways("expected"))


def ways(to: str) -> list[tuple[str, Rule]]:
    """The rules that lead to a chain, each with its own chain."""
    leading = {jump(to), goto(to)}
    return [(one.name, rule) for one in RULES.chains for rule in one.rules if leading & set(rule)]


def test_a_number_is_a_verdict_s_not_its_sender_s() -> None:
    """Whoever sends the packet may have set its priority; it is emptied before it is shown."""
    for scope in ScopeName:
        parts = list(joined.from_iterable(chain(f"name_{scope}").rules))
        assert Untag() in parts
        held = next(part for part in parts if isinstance(part, Verdict) and "hold" in part.chain)
        assert parts.index(Untag()) < parts.index(held)
        assert any(isinstance(p, Queue) for rule in chain(held.chain).rules for p in rule)
    brings = chain("take_verdict").rules[1]
    assert brings[1:] == (Match(Field.PRIORITY, "none", negated=True), jump("expect"))


def test_a_verdict_that_comes_when_its_flow_is_settled_leaves_no_mark() -> None:
    late = chain("take_mark").rules[1]
    assert late[1] == SetPacketMark(LAYOUT.others, 0)
    verdicts = {EXPECTED | LAST_EXPECTED_ID, EXPECTED | 16, ANSWERED, *LISTEN.values()}
    assert all(verdict & EXPECTED == EXPECTED for verdict in verdicts)
    assert len(verdicts) == 3 + len(ScopeName), "each says something else"


@pytest.mark.parametrize("mask", [0x0000FFFF, 0xFFFF0000])
def test_a_settled_flow_has_the_id_of_its_verdict(mask: int) -> None:
    layout = MarkLayout(mask)
    ruleset = compile_ruleset(policy(f"[enforcement]\nmark_mask = {mask:#x}\n"), NATIVE, ())
    chains = {one.name: one.rules for one in ruleset.chains}
    remembers = next(p for p in chains["expect"][0] if isinstance(p, RememberMark))
    assert layout.value(EXPECTED | 17) & remembers.mask == layout.value(17)
    assert (MarkFrom(remembers.key, remembers.map),) == chains["settled"][1]
    assert chains["settled"][3:] == (
        (is_unsettled(layout), jump("permit_named")),
        (SetPacketMark(layout.others, 0),),
        (ACCEPT,),
    )


def test_nothing_of_it_is_there_where_names_are_not_read() -> None:
    ruleset = compile_ruleset(policy(), MACHINE, ())
    assert not any("expect" in named.name for named in ruleset.sets)
