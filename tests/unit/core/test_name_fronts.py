"""Which answers the kernel holds by the name asked for: every one that may open something.

The rules are walked as the kernel would, over messages that dnspython wrote.
"""

from __future__ import annotations

from dataclasses import replace

import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ramfw.core.name_fronts import FRONT, LAST_PLACE, Fronts, fronts, too_short, wire_form
from ramfw.core.ruleset import Log, Queue, RawPayload, Ruleset
from ramfw.core.watch_rules import ANSWER_GROUP, QUEUE_NUMBER, WatchForm
from tests.unit.core.test_watch_rules import (
    COPIED,
    FORWARDED,
    HERE6,
    QUESTION,
    SERVER6,
    Packet,
    both_ways,
    ruleset,
    shown,
)

HELD = [Queue(QUEUE_NUMBER, is_native=True)]
PASSED = [Log(ANSWER_GROUP, 65_535)]

LABELS = st.builds(
    "{}{}z".format, st.sampled_from(["", "a", "0-", "x" * 50]), st.text("abz09", max_size=12)
)
NAMES = (
    st.lists(LABELS, min_size=1, max_size=6)
    .map(".".join)
    .filter(lambda name: FRONT <= len(name) + 2 <= 255)
)


def permitting(*patterns: str) -> Ruleset:
    """The rules by which answers to these names are told; no policy could write some of them."""
    return ruleset(WatchForm.NATIVE, patterns=patterns)


def answer(name: str, kind: str = "A", **of: object) -> Packet:
    """The answer to a question for this name, spelled so."""
    message = dns.message.make_response(dns.message.make_query(name, kind))
    assert message.question[0].name.to_text(omit_final_dot=True) == name
    if kind == "A":
        one = dns.rrset.from_text(message.question[0].name, 60, "IN", "A", "203.0.113.1")
        message.answer.append(one)
    return replace(Packet(message=message.to_wire()), **of)  # type: ignore[arg-type]


def in_odd_case(name: str, upper: int) -> str:
    """The name with those letters in upper case whose bit is set."""
    return "".join(c.upper() if upper >> place & 1 else c for place, c in enumerate(name))


# -- what is held ------------------------------------------------------------------------------


@given(NAMES, st.integers(0, (1 << 253) - 1))
@example("registry-1.docker.io", (1 << 253) - 1)
@example("gcr.io", 0)
@example("a.bb.ccc", 0b101010)
def test_an_exact_name_is_held_in_every_case(name: str, upper: int) -> None:
    rules = permitting(name, "other.example")
    assert shown(rules, "input", answer(in_odd_case(name, upper))) == HELD


@given(NAMES, st.lists(LABELS, min_size=1, max_size=6), st.integers(0, (1 << 253) - 1))
@example("gcr.io", ["eu"], 0)
@example("quay.io", ["a" * 59], 0)
@example("quay.io", ["a" * 60], 0)
@example("quay.io", ["a" * 61], 0)
@example("quay.io", ["a" * 63, "b" * 63, "c"], 0)
def test_a_name_below_a_wildcard_is_held_however_long_and_in_every_case(
    suffix: str, before: list[str], upper: int
) -> None:
    name = ".".join((*before, suffix))
    if len(name) > 253:
        return
    rules = permitting(f"*.{suffix}", "other.example")
    assert shown(rules, "input", answer(in_odd_case(name, upper))) == HELD


@pytest.mark.parametrize("kind", ["A", "AAAA", "HTTPS", "ANY", "CAA"])
def test_whatever_was_asked_for_of_a_permitted_name(kind: str) -> None:
    for rules in (permitting("hub.example.com"), permitting("*.example.com")):
        assert shown(rules, "input", answer("hub.example.com", kind)) == HELD


def test_it_is_the_name_asked_for_that_counts_and_not_those_behind_it() -> None:
    """Of CNAMEs only the first name was asked for; and a search domain makes another name."""
    asked = dns.message.make_query("www.elsewhere.org", "A")
    message = dns.message.make_response(asked)
    chain = dns.rrset.from_text("www.elsewhere.org.", 60, "IN", "CNAME", "registry.example.com.")
    message.answer.append(chain)
    to_permitted = Packet(message=message.to_wire())
    assert shown(permitting("registry.example.com"), "input", to_permitted) == PASSED
    assert shown(permitting("*.example.com"), "input", to_permitted) == PASSED
    searched = answer("registry.example.com.corp.example.net")
    assert shown(permitting("registry.example.com"), "input", searched) == HELD, "a front is enough"
    assert shown(permitting("hub.io.com"), "input", answer("hub.corp.example.net")) == PASSED


@pytest.mark.parametrize("form", [WatchForm.NATIVE, WatchForm.XT])
def test_over_tcp_all_answers_are_held(form: WatchForm) -> None:
    rules = ruleset(form, patterns=("hub.example.com",))
    over_tcp = replace(answer("www.elsewhere.org"), protocol="tcp")
    assert shown(rules, "input", over_tcp) == [Queue(QUEUE_NUMBER, form is WatchForm.NATIVE)]


def test_forwarded_answers_and_those_by_ipv6_are_told_alike() -> None:
    rules = permitting("hub.example.com", "*.pkg.dev")
    for name, fate in (("HUB.example.com", HELD), ("eu.pkg.dev", HELD), ("pkg.dev", PASSED)):
        forwarded = replace(FORWARDED, message=answer(name).message)
        assert shown(rules, "forward", forwarded) == fate
        six = answer(name, source=SERVER6, destination=HERE6)
        assert shown(rules, "input", six) == fate


# -- what is not -------------------------------------------------------------------------------

UNRELATED = (
    "a.b",
    "example.com",
    "www.elsewhere.org",
    "hub.elsewhere.org",
    "example.com.elsewhere.org",
    "notexample.com",
    "a.deep.tree.of.names.elsewhere.org",
    f"{'x' * 45}.elsewhere.org",
)


@pytest.mark.parametrize("kind", ["A", "AAAA", "HTTPS", "ANY", "CAA"])
@pytest.mark.parametrize("name", UNRELATED)
def test_an_unrelated_name_waits_for_nobody(name: str, kind: str) -> None:
    for rules in (permitting("hub.example.com"), permitting("hub.example.com", "*.example.com")):
        assert shown(rules, "input", answer(name, kind)) == PASSED


def test_a_wildcard_s_front_in_the_midst_of_a_name_is_held_as_well() -> None:
    asked = answer("a.example.com.elsewhere.org")
    assert shown(permitting("*.example.com"), "input", asked) == HELD


@given(NAMES.filter(lambda name: len(name) + 1 < LAST_PLACE))
def test_what_is_no_permitted_name_s_front_goes_on(name: str) -> None:
    rules = permitting("registry-1.docker.io", "*.registry-1.docker.io")
    if "registry" not in name:
        assert shown(rules, "input", answer(name)) == PASSED


@given(st.binary(max_size=80))
@example(b"\xc0\x0c\x00\x01\x00\x01")
@example(b"\x80" * 70)
@example(b"\x02\xe4\xf6\x07example\x03com\x00\x00\x01\x00\x01")
def test_any_bytes_are_held_or_go_on_and_are_shown_once(wire: bytes) -> None:
    message = b"\x12\x34\x81\x80\x00\x01" + b"\x00" * 6 + wire
    for patterns in (("hub.example.com",), ("*.example.com",)):
        fate = shown(permitting(*patterns), "input", Packet(message=message))
        assert fate in (HELD, PASSED)


def test_bytes_beyond_ascii_are_no_letters_of_a_permitted_name() -> None:
    """Only one bit of each byte is passed over: 0xE8 is no h."""
    names = answer("hub.example.com")
    odd = replace(names, message=names.message.replace(b"hub", b"\xe8ub"))
    assert shown(permitting("hub.example.com"), "input", odd) == PASSED


def test_a_message_that_is_cut_before_its_name_ends_goes_on_or_is_held() -> None:
    whole = answer("hub.example.com").message
    for size in range(len(whole)):
        fate = shown(permitting("hub.example.com"), "input", Packet(message=whole[:size]))
        assert fate == (HELD if size >= 12 + FRONT else PASSED)


def test_questions_are_copied_whatever_their_name() -> None:
    for packet in both_ways(QUESTION):
        assert shown(permitting("hub.example.com"), "output", packet) == COPIED


# -- where they cannot be told apart -----------------------------------------------------------


@pytest.mark.parametrize("pattern", ["t.co", "*.t.co", "nexus", "a.io"])
def test_a_name_that_is_too_short_has_all_answers_held(pattern: str) -> None:
    assert too_short(["hub.example.com", pattern]) == pattern
    assert shown(permitting("hub.example.com", pattern), "input", answer("a.example.org")) == HELD


@pytest.mark.parametrize("pattern", ["gcr.io", "*.gcr.io", "nexus3", "hub.example.com"])
def test_the_shortest_name_that_can_be_told(pattern: str) -> None:
    assert too_short([pattern]) == ""
    assert len(wire_form(pattern.removeprefix("*."))) >= FRONT


def test_where_nobody_listens_for_copies_all_answers_are_held() -> None:
    rules = ruleset(WatchForm.NATIVE, patterns=("hub.example.com",), tells=False)
    assert shown(rules, "input", answer("a.example.org")) == HELD


def test_where_answers_are_only_copied_they_are_not_told_apart() -> None:
    rules = ruleset(WatchForm.COPY, patterns=("hub.example.com",))
    assert shown(rules, "input", answer("a.example.org")) == PASSED
    assert not [named for named in rules.sets if named.name.startswith("held_")]


def test_where_nothing_is_permitted_nothing_is_held() -> None:
    assert shown(permitting(), "input", answer("a.example.org")) == PASSED


# -- the fronts --------------------------------------------------------------------------------


@given(NAMES)
def test_the_wire_form_is_dnspython_s(name: str) -> None:
    assert wire_form(name) == dns.name.from_text(name).to_wire()


def test_fronts_of_exact_names_and_of_wildcards() -> None:
    assert fronts(("ghcr.io", "*.pkg.dev")) == Fronts(
        frozenset({int.from_bytes(b"\x04GHCR\x02IO")}),
        frozenset({int.from_bytes(b"\x03PKG\x03DEV")}),
        frozenset({3}),
    )


def test_ten_thousand_names_are_elements_and_no_rules() -> None:
    few, many = (
        permitting(*(f"n{n}.example.com" for n in range(count)), "*.example.com")
        for count in (1, 10_000)
    )
    told = [[chain for chain in one.chains if "answer" in chain.name] for one in (few, many)]
    assert told[0] == told[1]
    (held,) = (named for named in many.sets if named.name == "held_names")
    assert held.elements is not None
    assert len(held.elements) > 9_000
    assert held.key == (RawPayload(160, 64).kind,)
