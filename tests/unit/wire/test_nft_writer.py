"""Each operation as the line that nft takes, and no value that could end its own line."""

from __future__ import annotations

import re
from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ramfw.core.reconcile import diff
from ramfw.core.ruleset import (
    ACCEPT,
    IDS,
    CgroupElement,
    Chain,
    Count,
    Dispatch,
    Field,
    FlagsMatch,
    Hook,
    Jump,
    MarkedId,
    Masked,
    Match,
    NamedSet,
    NumberedElement,
    RawPayload,
    Reject,
    Rule,
    SetMark,
    SetRef,
    SocketCgroup,
    Tag,
    Untag,
    Verdict,
    goto,
)
from ramfw.core.transaction import (
    AddChain,
    AddCounter,
    AddElements,
    AddGrant,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteGrant,
    DeleteSet,
    DeleteTable,
    FlushChain,
    FlushSet,
    GrantKey,
    Operation,
)
from ramfw.wire.nft_reader import read
from ramfw.wire.nft_writer import write, write_rule
from tests.golden.cases import CASES, Case, with_engine
from tests.unit.wire.sample import SAMPLE

KEY = GrantKey.of("permitted4", ip_network("192.0.2.10"), "tcp", 443)
RANGE = GrantKey.of("ranges6", ip_network("2001:db8:5::/64"), "udp", 514)
MAP = NamedSet("m", ("ipv4_addr", "mark"), frozenset({"timeout", "interval"}), data=IDS)


@pytest.mark.parametrize(
    ("operation", "line"),
    [
        (AddTable(), "add table inet ramfw"),
        (DeleteTable(), "delete table inet ramfw"),
        (AddCounter("c"), "add counter inet ramfw c"),
        (DeleteCounter("c"), "delete counter inet ramfw c"),
        (AddChain(Chain("c", ((ACCEPT,),))), "add chain inet ramfw c"),
        (
            AddChain(Chain("c", (), Hook("output", -150))),
            "add chain inet ramfw c { type filter hook output priority -150; policy accept; }",
        ),
        (
            AddChain(Chain("c", (), Hook("input", 0), policy="drop")),
            "add chain inet ramfw c { type filter hook input priority 0; policy drop; }",
        ),
        (FlushChain("c"), "flush chain inet ramfw c"),
        (DeleteChain("c"), "delete chain inet ramfw c"),
        (AddRule("c", (ACCEPT,)), "add rule inet ramfw c accept"),
        (
            AddSet(NamedSet("s", ("mark",), counted=True)),
            "add set inet ramfw s { type mark; counter; }",
        ),
        (
            AddSet(MAP),
            "add map inet ramfw m { type ipv4_addr . mark : classid; flags interval, timeout; }",
        ),
        (DeleteSet("s"), "delete set inet ramfw s"),
        (FlushSet("s"), "flush set inet ramfw s"),
        (AddElements("s", frozenset({443, 80})), "add element inet ramfw s { 443, 80 }"),
        (
            AddElements("s", frozenset({"br-*", CgroupElement("a.slice/b", 2, 7)})),
            'add element inet ramfw s { "a.slice/b", "br-*" }',
        ),
        (
            AddElements("m", frozenset({Jump(16, "entry_16"), Jump(0x10002, "c")})),
            "add element inet ramfw m { 0:10 : jump entry_16, 1:2 : jump c }",
        ),
        (
            AddElements("s", frozenset({NumberedElement(16, "d *.x"), NumberedElement(17, "")})),
            'add element inet ramfw s { 0:10 comment "d *.x", 0:11 comment "" }',
        ),
        (
            AddElements("m", frozenset({MarkedId(0x1000, 16)})),
            "add element inet ramfw m { 4096 : 0:10 }",
        ),
        (DeleteElements("s", frozenset({"lo"})), 'delete element inet ramfw s { "lo" }'),
        (
            AddGrant(KEY, 16, 300),
            ("add element inet ramfw permitted4 { 192.0.2.10 . tcp . 443 timeout 300s : 0:10 }"),
        ),
        (
            AddGrant(RANGE, 17, 1),
            ("add element inet ramfw ranges6 { 2001:db8:5::/64 . udp . 514 timeout 1s : 0:11 }"),
        ),
        (DeleteGrant(KEY), "delete element inet ramfw permitted4 { 192.0.2.10 . tcp . 443 }"),
    ],
)
def test_an_operation_is_one_line(operation: Operation, line: str) -> None:
    assert write((operation,)) == line + "\n"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ((Match(Field.L4PROTO, "tcp", negated=True), ACCEPT), "meta l4proto != tcp accept"),
        ((Match(Field.CT_STATE, frozenset({"new", "invalid"})),), "ct state invalid,new"),
        ((Match(Field.UDP_DPORT, 443),), "udp dport 443"),
        ((Match(Masked(Field.CT_MARK, 0xFF00), 0x1200),), "ct mark & 0x0000ff00 4608"),
        ((Match(Masked(Field.CT_MARK, 0xFF), SetRef("live")),), "ct mark & 0x000000ff @live"),
        ((Match(RawPayload(168, 8), 0), ACCEPT), "@th,168,8 0 accept"),
        ((Match(RawPayload(8, 16, 0xDF), SetRef("s")),), "@th,8,16 & 0xdf @s"),
        ((Match(SocketCgroup(2), SetRef("e")), goto("g")), "socket cgroupv2 level 2 @e goto g"),
        (
            (Tag((Field.IP6_DADDR, Field.L4PROTO, Field.TH_DPORT), "m"),),
            "meta priority set ip6 daddr . meta l4proto . th dport map @m",
        ),
        ((Untag(), Dispatch("m")), "meta priority set none meta priority vmap @m"),
        (
            (Count("c"), SetMark(0xFFFF0000, 0x10)),
            'counter name "c" ct mark set ct mark & 0xffff0000 | 0x00000010',
        ),
        ((SetMark(0xFFFF3FFF, 0),), "ct mark set ct mark & 0xffff3fff"),
        ((Match(Masked(Field.PRIORITY, 0xC000), 0x4000),), "meta priority & 0:c000 0:4000"),
        ((Match(Field.PRIORITY, "none", negated=True),), "meta priority != none"),
        (
            (Tag((Masked(Field.META_MARK, 0xFF00),), "m"),),
            "meta priority set meta mark & 0x0000ff00 map @m",
        ),
        ((Reject("tcp reset"),), "reject with tcp reset"),
        ((Verdict("return"),), "return"),
        (
            (FlagsMatch(frozenset({"syn", "fin", "ack", "rst"}), frozenset({"syn", "ack"})),),
            "tcp flags & (fin | syn | rst | ack) == syn | ack",
        ),
    ],
)
def test_a_rule_as_text(rule: Rule, text: str) -> None:
    assert write_rule(rule) == text


def test_a_transaction_keeps_its_order_a_line_each() -> None:
    assert write(()) == ""
    assert write((DeleteTable(), AddTable())) == "delete table inet ramfw\nadd table inet ramfw\n"


def listed(batch: str) -> str:
    """A batch turned into a listing: no nft, but all that the writer wrote."""
    blocks: dict[str, list[str]] = {}
    for line in batch.splitlines():
        kind, name, body = re.fullmatch(r"add (\w+) inet ramfw ?(\S*) ?(.*)", line).groups()  # type: ignore[union-attr]
        inner = body.removeprefix("{ ").removesuffix(" }")
        if kind == "table":
            continue
        if kind == "element":
            next(b for k, b in blocks.items() if k.split()[1] == name).append(f"elements = {body}")
        elif kind == "rule":
            blocks[f"chain {name}"].append(body)
        else:
            hook, accept, rest = inner.partition("policy accept;")
            parts = [hook + accept] if accept else inner.split("; ")
            parts += [rest.strip()] if accept and rest else []
            blocks[f"{kind} {name}"] = [
                part if accept else part.rstrip(";") for part in parts if part
            ]
    body = "".join(f"{k} {{\n" + "\n".join(lines) + "\n}\n" for k, lines in blocks.items())
    return f"table inet ramfw {{\n{body}}}\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nothing_of_a_golden_ruleset_is_lost_in_writing(case: Case) -> None:
    ruleset = case.compile(with_engine("engines.slice"))
    assert read(listed(write(diff(ruleset, None)[0]))) == ruleset.as_read()


def test_nothing_of_the_sample_is_lost_in_writing() -> None:
    assert read(listed(write(diff(SAMPLE, None)[0]))) == SAMPLE.as_read()


BAD = st.builds(
    "{}{}{}".format, st.text(max_size=8), st.sampled_from('"\n\x7f'), st.text(max_size=8)
)


@given(BAD)
def test_a_string_that_could_leave_its_quotes_is_refused(text: str) -> None:
    for operation in (
        AddElements("s", frozenset({text})),
        DeleteElements("s", frozenset({text})),
        AddElements("s", frozenset({CgroupElement(text, 1, 7)})),
        AddElements("s", frozenset({NumberedElement(16, text)})),
        AddRule("c", (Count(text),)),
    ):
        with pytest.raises(ValueError, match="not a string that nft can be given"):
            write((operation,))


@given(st.text().filter(str.isprintable).filter(lambda text: '"' not in text))
@example("system.slice/a\\x2db.service")
def test_any_other_string_stays_within_its_quotes(text: str) -> None:
    assert write((AddElements("s", frozenset({text})),)) == (
        f'add element inet ramfw s {{ "{text}" }}\n'
    )
