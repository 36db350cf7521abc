"""Where a refusal is heard in spite of others' NAT: what the rules are, and where they stand."""

from __future__ import annotations

from ramfw.core.compiler import Machine, compile_ruleset
from ramfw.core.reset_rules import RESET_PRIORITY
from ramfw.core.ruleset import Ruleset
from ramfw.core.turn_rules import EXPLAINER_PORT, Turning
from ramfw.wire.nft_reader import read
from ramfw.wire.nft_writer import write_rule
from tests.unit.core.policies import policy

TURNS = Machine(turning=Turning.ALL)
CHAIN = "reset_prerouting"


def rules(ruleset: Ruleset, chain: str) -> list[str]:
    return [write_rule(r) for c in ruleset.chains if c.name == chain for r in c.rules]


def test_what_is_open_and_no_longer_live_is_reset_before_anybodys_nat() -> None:
    ruleset = compile_ruleset(policy(), TURNS, ())
    (rule,) = rules(ruleset, CHAIN)
    assert rule.startswith("ct status dnat ct direction original meta l4proto tcp iifname @bridges")
    assert "ct mark & 0x0000ffff != 0 ct mark & 0x0000ffff != @live" in rule
    assert rule.endswith(f"ct reply proto-src != {EXPLAINER_PORT} goto refuse_marked")
    assert -200 < RESET_PRIORITY < -100


def test_a_first_syn_is_told_by_icmp_before_it_would_be_reset() -> None:
    first, second, *_ = rules(compile_ruleset(policy(), Machine(), ()), "refusal")
    assert first.startswith("ct status dnat ct state new meta l4proto tcp iifname @bridges")
    assert first.endswith("iifname != @uplinks reject with icmpx admin-prohibited")
    assert second == "meta l4proto tcp reject with tcp reset"


def test_there_is_none_where_nothing_is_refused_or_the_kernel_cannot() -> None:
    audit = policy('[enforcement]\nmode = "audit"')
    without = policy('[scopes.containers]\nmode = "off"')
    for ruleset in (
        compile_ruleset(audit, TURNS, ()),
        compile_ruleset(without, TURNS, ()),
        compile_ruleset(policy(), Machine(turning=Turning.NONE), ()),
    ):
        assert rules(ruleset, CHAIN) == []


def test_the_rule_reads_back_as_it_was_written() -> None:
    """As nft 1.0.6 and 1.1.3 list it."""
    ruleset = compile_ruleset(policy(), TURNS, ())
    (chain,) = (c for c in ruleset.chains if c.name == CHAIN)
    listed = write_rule(chain.rules[0]).replace("!= 0 ", "!= 0x00000000 ")
    frame = f"type filter hook prerouting priority {RESET_PRIORITY}; policy accept;"
    text = f"table inet ramfw {{\n\tchain {CHAIN} {{\n\t\t{frame}\n\t\t{listed}\n\t}}\n}}"
    assert read(text).chains == (chain,)
