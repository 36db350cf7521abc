"""What a policy becomes: whole rulesets against golden files, and the properties that must hold."""

from __future__ import annotations

import pytest

from ramfw.core.compiler import compile_ruleset
from ramfw.core.permitted import NumberedEntry, entry_comment
from ramfw.core.plan import Machine
from ramfw.core.policy import ScopeName
from ramfw.core.ruleset import Chain, Jump, Ruleset, Verdict
from ramfw.core.watch_rules import WatchForm
from ramfw.wire.nft_reader import read
from ramfw.wire.nft_writer import write_rule
from tests.golden.cases import ALL_CASES, Case, with_engine
from tests.unit.core.policies import policy


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_golden_ruleset(case: Case) -> None:
    assert case.golden.read_text() == case.batch, "python -m tests.golden.cases, and read the diff"


@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_every_chain_that_a_rule_goes_to_exists(case: Case) -> None:
    names = set(case.ruleset.chain_names())
    for chain in case.ruleset.chains:
        for rule in chain.rules:
            for statement in rule:
                if isinstance(statement, Verdict) and statement.chain:
                    assert statement.chain in names, f"{chain.name}: {rule}"


def _chain(ruleset: Ruleset, name: str) -> Chain:
    return next(chain for chain in ruleset.chains if chain.name == name)


def _base_chains(ruleset: Ruleset) -> set[str]:
    return {chain.name for chain in ruleset.chains if chain.hook}


def test_judge_comes_before_docker_s_nat_and_guard_after_it() -> None:
    ruleset = compile_ruleset(policy(), Machine(), ())
    for hook in ("output", "forward"):
        judge, guard = (_chain(ruleset, f"{step}_{hook}").hook for step in ("judge", "guard"))
        assert judge is not None
        assert guard is not None
        assert judge.priority < -105 < -100 < guard.priority


def test_a_scope_that_is_off_has_no_hook_of_its_own() -> None:
    all_off = compile_ruleset(
        policy('[scopes.engines]\nmode = "off"\n[scopes.containers]\nmode = "off"'), Machine(), ()
    )
    assert _base_chains(all_off) == set()
    only_engines = compile_ruleset(policy('[scopes.containers]\nmode = "off"'), Machine(), ())
    assert not {name for name in _base_chains(only_engines) if "forward" in name}


def test_audit_mode_has_no_rule_that_refuses() -> None:
    enforced = compile_ruleset(policy(), Machine(), ())
    audited = compile_ruleset(policy('[enforcement]\nmode = "audit"'), Machine(), ())
    refusing = ("reject", "drop")

    def refusals(ruleset: Ruleset) -> list[str]:
        rules = (write_rule(rule) for chain in ruleset.chains for rule in chain.rules)
        return [rule for rule in rules if any(word in rule.split() for word in refusing)]

    assert refusals(enforced)
    assert refusals(audited) == []


def test_the_last_word_on_an_unknown_destination_is_refusal() -> None:
    ruleset = compile_ruleset(policy('[scopes.host]\nmode = "strict"'), Machine(), ())
    for scope in ScopeName:
        assert write_rule(_chain(ruleset, f"judge_{scope}").rules[-1]) == f"goto refuse_{scope}"
        assert write_rule(_chain(ruleset, f"guard_{scope}").rules[-1]) == "goto refusal"
    assert [write_rule(rule) for rule in _chain(ruleset, "refusal").rules[1:]] == [
        "meta l4proto tcp reject with tcp reset",
        "reject with icmpx admin-prohibited",
    ]


def test_an_empty_policy_opens_no_id_but_the_resolvers() -> None:
    ruleset = compile_ruleset(policy(), Machine(), ())
    live = next(named for named in ruleset.sets if named.name == "live")
    assert live.elements == frozenset({4})


def test_each_live_entry_is_permitted_and_no_other_id_leads_anywhere() -> None:
    ruleset = compile_ruleset(policy(), Machine(), (NumberedEntry(16, "x", "d"),))
    entries = next(named for named in ruleset.sets if named.name == "entries")
    assert entries.elements == frozenset({Jump(4, "permit"), Jump(16, "permit")})


@pytest.mark.parametrize("names", [False, True])
def test_the_number_of_chains_and_counters_is_the_same_for_any_number_of_entries(
    names: bool,  # noqa: FBT001
) -> None:
    machine = Machine(names=names, watch=WatchForm.NATIVE)

    def size(count: int) -> tuple[int, int, int]:
        entries = (
            NumberedEntry(16 + n, f"{n}.example", f"{n:016x}", expects_name=True)
            for n in range(count)
        )
        ruleset = compile_ruleset(policy(), machine, entries)
        return len(ruleset.chains), sum(len(c.rules) for c in ruleset.chains), len(ruleset.counters)

    assert size(1) == size(1000)


def test_the_mark_keeps_other_people_s_bits() -> None:
    shifted = policy("[enforcement]\nmark_mask = 0x00ffff00")
    ruleset = compile_ruleset(shifted, Machine(), (NumberedEntry(16, "x", "d"),))
    permit, refuse = (_chain(ruleset, name) for name in ("permit", "refuse_engines"))
    written = [write_rule(rule) for rule in (*permit.rules, *refuse.rules)]
    assert "ct mark set ct mark & 0xff0000ff | 0x00c00000" in written
    assert "meta priority & 0:10 0:10 ct mark set ct mark & 0xffffefff | 0x00001000" in written
    assert "ct mark set ct mark & 0xff0000ff | 0x00000100" in written[-1]


def test_a_cgroup_goes_to_the_set_of_its_level() -> None:
    ruleset = compile_ruleset(policy(), with_engine("system.slice/docker.service"), ())
    filled = {named.name for named in ruleset.sets if named.elements and "cgroupsv2" in named.key}
    assert filled == {"engines_2"}


@pytest.mark.parametrize("label", ['quo"te', "back\\slash", "line\nbreak", "x" * 400])
def test_a_label_cannot_leave_its_comment(label: str) -> None:
    comment = entry_comment(NumberedEntry(16, label, "0123456789abcdef"))
    assert len(comment) <= 120
    assert not set('"\\\n') & set(comment)


def test_what_ramfw_does_not_write_reads_as_foreign() -> None:
    listing = (
        "table inet ramfw {\n\tchain judge_output {\n\t\tip saddr 10.0.0.0/8 log accept\n\t}\n}\n"
    )
    (chain,) = read(listing).chains
    assert [type(statement).__name__ for statement in chain.rules[0]] == ["Foreign"]
