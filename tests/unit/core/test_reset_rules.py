"""Where a refusal is heard in spite of others' NAT: what the rules are, and where they stand."""

from __future__ import annotations

from ramfw.core.compiler import compile_ruleset
from ramfw.core.plan import Machine
from ramfw.core.reset_rules import as_sent
from ramfw.core.ruleset import Ruleset
from ramfw.core.turn_rules import Turning
from ramfw.wire.nft_reader import read
from ramfw.wire.nft_writer import write_rule
from tests.unit.core.policies import policy


def rules(ruleset: Ruleset, chain: str) -> list[str]:
    return [write_rule(r) for c in ruleset.chains if c.name == chain for r in c.rules]


def test_what_others_sent_elsewhere_is_refused_as_it_was_sent() -> None:
    """Before the reset, for that answers what the packet says then; on any kernel."""
    for machine in (Machine(), Machine(turning=Turning.ALL)):
        ruleset = compile_ruleset(policy(), machine, ())
        first, second, *_ = rules(ruleset, "refusal")
        assert first.startswith("ct status dnat ct direction original meta l4proto tcp iifname @")
        assert first.endswith("iifname != @uplinks jump as_sent")
        assert second == "meta l4proto tcp reject with tcp reset"
        assert rules(ruleset, "as_sent") == [
            "ip daddr set ct original ip daddr",
            "ip6 daddr set ct original ip6 daddr",
            "tcp dport set ct original proto-dst",
        ]


def test_there_is_none_where_nothing_of_containers_is_refused() -> None:
    for text in ('[enforcement]\nmode = "audit"', '[scopes.containers]\nmode = "off"'):
        ruleset = compile_ruleset(policy(text), Machine(turning=Turning.ALL), ())
        assert rules(ruleset, "as_sent") == []
        assert "as_sent" not in "".join(rules(ruleset, "refusal"))


def test_the_rules_read_back_as_they_were_written() -> None:
    """As nft 1.0.6 and 1.1.3 list them."""
    lines = "".join(f"\t\t{write_rule(rule)}\n" for rule in as_sent().rules)
    listed = f"table inet ramfw {{\n\tchain as_sent {{\n{lines}\t}}\n}}"
    assert read(listed).chains == (as_sent(),)
    for before, after in (
        ("original proto-dst", "reply proto-dst"),
        ("ip daddr set", "ip saddr set"),
    ):
        assert read(listed.replace(before, after)).chains != (as_sent(),)
