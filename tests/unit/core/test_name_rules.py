"""The rules that show first bytes: what must hold of each, whatever the policy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ramfw.core.compiler import compile_ruleset
from ramfw.core.marks import ANSWERED, LISTEN, PASSED, REFUSED, TOLD, UNSETTLED, MarkLayout
from ramfw.core.name_rules import (
    CHECKED,
    NAMES_PRIORITY,
    TELLING,
    is_unsettled,
    marked,
    set_mark,
)
from ramfw.core.permitted import NumberedEntry
from ramfw.core.plan import Machine
from ramfw.core.policy import ScopeName
from ramfw.core.ruleset import (
    DROP,
    Chain,
    Count,
    FlagsMatch,
    Jump,
    Log,
    MarkedId,
    Queue,
    Rule,
    Ruleset,
    SetPacketMark,
    Verdict,
    goto,
    jump,
)
from ramfw.core.watch_rules import WATCH_PRIORITY, WatchForm
from tests.golden.cases import MACHINE, NAMES
from tests.unit.core.policies import policy

NATIVE = NAMES["names-native"]
HELD = {"hold_opening": False, "hold_any_opening": True}
LAYOUT = MarkLayout(0x0000FFFF)
AUDIT = '[enforcement]\nmode = "audit"\n'
STRICT = '[scopes.containers]\nmode = "strict"\n[scopes.host]\nmode = "strict"\n'


def compiled(body: str = "", machine: Machine = NATIVE) -> Ruleset:
    return compile_ruleset(policy(body), machine, ())


def chain(ruleset: Ruleset, name: str) -> Chain:
    return next(chain for chain in ruleset.chains if chain.name == name)


def words(rules: tuple[Rule, ...]) -> str:
    return " ".join(map(str, rules))


def elements(ruleset: Ruleset, name: str) -> set[object]:
    return set(next(named for named in ruleset.sets if named.name == name).elements or ())


def holds(ruleset: Ruleset, scope: ScopeName) -> str:
    """The chain that the scope's packets with data end in."""
    *_, before, last = chain(ruleset, f"name_{scope}").rules
    # What a strict scope's chain does not hold yet is lost: there is nothing behind it.
    end = before if last == (DROP,) else last
    found = next(name for name in HELD if f"'{name}'" in words((end,)))
    assert (found == "hold_opening") is (last == (DROP,))
    return found


@pytest.mark.parametrize("form", [WatchForm.NATIVE, WatchForm.XT])
def test_only_without_bypass_does_a_packet_wait_for_a_daemon_that_is_gone(form: WatchForm) -> None:
    ruleset = compiled(machine=replace(NATIVE, watch=form))
    for name, bypass in HELD.items():
        (queue,) = (s for rule in chain(ruleset, name).rules for s in rule if isinstance(s, Queue))
        assert (queue.bypass, queue.is_native) == (bypass, form is WatchForm.NATIVE)


def test_strict_scopes_wait_and_others_pass() -> None:
    by_default, strict, audit = compiled(), compiled(STRICT), compiled(AUDIT + STRICT)
    assert holds(by_default, ScopeName.ENGINES) == "hold_opening"
    assert holds(by_default, ScopeName.CONTAINERS) == "hold_any_opening"
    assert holds(by_default, ScopeName.HOST) == "hold_any_opening"
    for scope in ScopeName:
        assert holds(strict, scope) == "hold_opening"
        assert holds(audit, scope) == "hold_any_opening", "nothing is refused, whoever is gone"


def test_there_is_nothing_of_it_where_packets_cannot_be_held() -> None:
    for machine in (MACHINE, replace(NATIVE, names=False), replace(NATIVE, watch=WatchForm.NONE)):
        ruleset = compiled(machine=machine)
        assert not any("name" in chain.name for chain in ruleset.chains)
        assert not any(isinstance(s, Queue) and s.number == 5443 for s in statements(ruleset))


def statements(ruleset: Ruleset) -> list[object]:
    return [part for chain in ruleset.chains for rule in chain.rules for part in rule]


def test_verdicts_lead_somewhere_and_what_nobody_read_is_counted() -> None:
    value = MarkLayout(0x0000FFFF).value
    leads = {one.value: one.chain for one in elements(compiled(), CHECKED) if isinstance(one, Jump)}
    assert leads[value(REFUSED)] == "refuse_name"
    assert leads[value(PASSED)] == "pass_name"
    for scope in ScopeName:
        silent, spoke, listening, unread, judged = UNSETTLED[scope]
        assert leads[value(silent)] == f"unread_{scope}"
        assert leads[value(LISTEN[scope])] == f"listen_{scope}"
        assert not {value(spoke), value(listening), value(unread), value(judged)} & set(leads)
        # A connection is counted by its first packet that nobody read, and never again.
        before, counts = chain(compiled(), f"unread_{scope}").rules
        assert before == (marked(LAYOUT, unread), Verdict("return"))
        assert counts == (Count("unread"), set_mark(LAYOUT, unread))


def test_a_verdict_permits_what_is_an_entry_and_only_while_its_flow_waits() -> None:
    ruleset = compile_ruleset(policy(), NATIVE, (NumberedEntry(17, "x", "d"),))
    assert elements(ruleset, "verdict_ids") == {MarkedId(4, 4), MarkedId(17, 17)}
    (permits,) = (r for r in chain(ruleset, "take_verdict").rules if "permit_named" in str(r))
    assert permits == (is_unsettled(MarkLayout(0x0000FFFF)), jump("permit_named"))


def test_marks_lie_in_the_policy_s_bits() -> None:
    upper = compiled("[enforcement]\nmark_mask = 0xffff0000\n")
    for name in ("awaited", "live"):
        assert all(int(str(one)) & 0xFFFF == 0 for one in elements(upper, name))
    emptied = [part for part in statements(upper) if isinstance(part, SetPacketMark)]
    assert emptied
    assert all(part.kept == 0x0000FFFF for part in emptied)


def test_what_passed_goes_on_only_while_a_scope_lets_pass() -> None:
    assert PASSED in elements(compiled(), "live")
    assert PASSED not in elements(compiled(STRICT), "live")


def test_verdict_is_taken_of_the_client_s_packets_alone_and_after_the_check() -> None:
    ruleset = compiled()
    for hook in ("output", "forward"):
        checks, guard = (chain(ruleset, f"{step}_{hook}").hook for step in ("name", "guard"))
        assert checks is not None
        assert guard is not None
        assert WATCH_PRIORITY < checks.priority == NAMES_PRIORITY < guard.priority
        (takes,) = (r for r in chain(ruleset, f"guard_{hook}").rules if "take_mark" in str(r))
        assert "'original'" in str(takes)
    of_unsettled = chain(ruleset, "take_mark").rules[0]
    assert of_unsettled == (is_unsettled(LAYOUT), goto("take_verdict")), "and of no other flows"
    first = chain(ruleset, "take_verdict").rules[0]
    assert "without_data" in str(first), "packets of headers alone were never shown"


def test_packet_of_headers_alone_keeps_its_mark() -> None:
    for scope in ScopeName:
        rules = [str(rule) for rule in chain(compiled(), f"name_{scope}").rules]
        passes = next(i for i, rule in enumerate(rules) if "without_data" in rule)
        marks = next(i for i, rule in enumerate(rules) if "SetPacketMark" in rule)
        assert passes < marks


def test_nothing_that_a_container_may_forge_is_copied() -> None:
    """From a bridge, over loopback past the output hook, or by a container's own socket."""
    ruleset = compiled()
    outside = chain(ruleset, "from_outside").rules
    assert "iifname" in str(outside[0])
    assert "accept" in str(outside[0])
    arriving = words(chain(ruleset, "name_input").rules)
    assert "'lo'" in arriving
    assert "negated=True" in arriving
    here = chain(ruleset, "server_speaks_here").rules
    assert len(here) > 1
    assert all("accept" in str(rule) for rule in here[:-1])
    copying = {c.name for c in ruleset.chains for r in c.rules for s in r if copies(s)}
    assert copying == {"server_speaks", "told_input", "told_forward"}
    for hook in ("input", "forward"):
        assert f"'{TELLING}'" in words(chain(ruleset, f"told_{hook}").rules), "the daemon's own"


def test_what_is_answered_is_refused_first_and_goes_no_further() -> None:
    ruleset = compiled(STRICT)
    answer, guard = chain(ruleset, "answer_name"), chain(ruleset, "refuse_marked")

    assert "'refuse_name'" in words(answer.rules[:1])
    assert answer.rules[1:] == ((set_mark(LAYOUT, TOLD),), (DROP,))
    assert Jump(MarkLayout(0x0000FFFF).value(ANSWERED), "answer_name", is_mark=True) in elements(
        ruleset, CHECKED
    )
    # What bare acknowledgement comes then is let lie; all else of a refused flow is reset.
    assert guard.rules[1] == (marked(LAYOUT, TOLD), jump("answered"))
    assert guard.rules[2][-1] == DROP
    assert "'psh'" in words(guard.rules[2:3])
    assert "'refusal'" in words(guard.rules[3:4])


def test_what_is_sent_again_before_the_answer_is_there_is_let_lie_once() -> None:
    bare, once, data = chain(compiled(), "answered").rules
    assert bare[-1] == data[-1] == DROP
    assert once == (set_mark(LAYOUT, REFUSED),)
    acknowledges, pushes = bare[0], data[0]
    assert isinstance(acknowledges, FlagsMatch)
    assert isinstance(pushes, FlagsMatch)
    assert pushes.mask == acknowledges.mask >= {"fin", "syn", "rst"}, "an end is no data"
    assert pushes.value == {"ack", "psh"}
    assert acknowledges.value == {"ack"}


def test_audit_answers_nobody() -> None:
    ruleset = compiled(AUDIT + STRICT)
    assert not {"answer_name", "told_input", "told_forward"} & {c.name for c in ruleset.chains}
    assert "answer_name" not in str(elements(ruleset, CHECKED))


def copies(statement: object) -> bool:
    return isinstance(statement, Log) and statement.group == 5443
