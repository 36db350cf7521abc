"""What opens, of all the messages that pass; the judge of them is dnspython."""

from __future__ import annotations

import struct
import time
from itertools import pairwise

import dns.edns
import dns.flags
import dns.message
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.dns_answer import answer_to
from ramfw.wire.dns_message import (
    MAX_ADDRESSES,
    MAX_CHAIN,
    Answers,
    _any_answers,
    _usual_aliased,
    _usual_answers,
    answers,
    question,
)

NAME = "registry.example"
OPTION = dns.edns.OptionType(65001)
LABELS = ["registry", "Registry", "cdn", "edge", "a" * 63, "_tcp", "with.dot", "nul\0", ""]
KINDS = ["A", "AAAA", "CNAME", "NS", "SOA", "TXT", "HTTPS", "MX", "RRSIG", "DNAME"]
DATA = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "CNAME": "cdn.example.",
    "NS": "ns.example.",
    "SOA": "ns.example. admin.example. 1 2 3 4 5",
    "TXT": '"text"',
    "HTTPS": "1 . alpn=h2,h3 ipv4hint=192.0.2.66",
    "MX": "10 mx.example.",
    "RRSIG": "A 8 2 60 20300101000000 20200101000000 1 example. AAAA",
    "DNAME": "other.example.",
}


def response(*records: str, kind: str = "A", name: str = NAME) -> dns.message.Message:
    message = dns.message.make_response(dns.message.make_query(f"{name}.", kind, id=4711))
    for record in records:
        owner, ttl, of_kind, data = record.split(maxsplit=3)
        message.answer.append(dns.rrset.from_text(f"{owner}.", int(ttl), "IN", of_kind, data))
    return message


def answered(wire: bytes) -> Answers | None:
    asked = question(wire)
    return None if asked is None else answers(wire, asked)


def opened(wire: bytes) -> set[bytes]:
    """All addresses that a message opens."""
    said = answered(wire)
    return set() if said is None else set(said.addresses)


def by_dnspython(wire: bytes) -> tuple[set[bytes], int] | None:
    """The addresses that dnspython finds, and their TTL; None where it refuses the message."""
    try:
        message = dns.message.from_wire(wire)
    except Exception:  # noqa: BLE001 - whatever it says of damaged bytes
        return None
    if not message.flags & dns.flags.QR or len(message.question) != 1:
        return None
    if message.question[0].rdtype not in (dns.rdatatype.A, dns.rdatatype.AAAA):
        return set(), 0
    found = answer_to(message, message).addresses
    return {address.packed for address, _ in found}, min((ttl for _, ttl in found), default=0)


def raw(question_name: bytes, *records: bytes, flags: int = 0x8180, counts: int = -1) -> bytes:
    """A message from bytes, to say what no library writes."""
    count = len(records) if counts < 0 else counts
    head = struct.pack("!HHHHHH", 7, flags, 1, count, 0, 0)
    return head + question_name + b"\0\1\0\1" + b"".join(records)


def record(owner: bytes, kind: int, data: bytes, ttl: int = 60, klass: int = 1) -> bytes:
    return owner + struct.pack("!HHIH", kind, klass, ttl, len(data)) + data


def wire_name(*labels: bytes) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


ASKED = wire_name(b"registry", b"example")
ADDRESS = record(b"\xc0\x0c", 1, b"\xc0\0\x02\x01")


def test_the_question_is_read_from_the_first_bytes_alone() -> None:
    wire = response(f"{NAME} 60 A 192.0.2.1", name="Registry.EXAMPLE").to_wire()

    asked = question(wire)

    assert asked is not None
    assert (asked.id, asked.name, asked.type, asked.klass) == (4711, NAME, 1, 1)
    assert (asked.is_response, asked.is_truncated, asked.rcode) == (True, False, 0)
    assert question(wire[: asked.end]) == asked
    assert question(wire[: asked.end - 1]) is None


@pytest.mark.parametrize(
    "name",
    [
        b"\0",  # the root
        wire_name(b"registry.example"),  # a dot is no boundary
        wire_name(b"registry\0", b"example"),
        wire_name(b"registry", b"exa mple"),
        wire_name(b"_tcp", b"example"),
        wire_name(b"-registry", b"example"),
        wire_name(b"registry-", b"example"),
        wire_name("registrü".encode(), b"example"),
        b"\x40" + b"a" * 64 + b"\0",  # a label of 64
        wire_name(*[b"a" * 63] * 4),  # 257 bytes
        b"\x08registry\xc0\x0c",  # compressed
        b"\xc0\x0c",
        b"\x09registry",  # without an end
    ],
)
def test_what_is_no_host_name_is_no_question(name: bytes) -> None:
    assert question(raw(name, ADDRESS)) is None
    assert question(raw(ASKED, ADDRESS)) is not None


def test_a_name_may_be_as_long_as_dns_permits() -> None:
    longest = [b"a" * 63] * 3 + [b"b" * 61]
    asked = question(raw(wire_name(*longest), ADDRESS))

    assert asked is not None
    assert len(asked.name) == 253
    assert question(raw(wire_name(*longest[:3], b"b" * 62), ADDRESS)) is None


def test_only_a_message_with_one_question_counts() -> None:
    for count in (0, 2):
        wire = bytearray(raw(ASKED, ADDRESS))
        wire[5] = count
        assert question(bytes(wire)) is None


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([f"{NAME} 60 A 192.0.2.1"], (["192.0.2.1"], 60)),
        ([], ([], 0)),
        ([f"{NAME} 60 AAAA 2001:db8::1"], ([], 0)),
        (["other.example 60 A 192.0.2.66"], ([], 0)),
        (
            [
                f"{NAME} 300 CNAME cdn.example.",
                "cdn.example 20 CNAME edge.example.",
                "edge.example 60 A 192.0.2.1",
                "other.example 60 A 192.0.2.66",
            ],
            (["192.0.2.1"], 20),
        ),
        (["EDGE.example 60 A 192.0.2.1", f"{NAME} 300 CNAME edge.Example."], (["192.0.2.1"], 60)),
        ([f"{NAME} 300 CNAME cdn.example."], ([], 0)),
        # The chain starts at the question, and of a name that has both the addresses count.
        (["other.example 300 CNAME cdn.example.", "cdn.example 60 A 192.0.2.66"], ([], 0)),
        # Hints are no addresses.
        ([f"{NAME} 60 HTTPS 1 . ipv4hint=192.0.2.66"], ([], 0)),
        # A dot inside a label is not the same name.
        ([f"{NAME} 60 CNAME a\\.b.example.", "a.b.example 60 A 192.0.2.66"], ([], 0)),
    ],
)
def test_only_the_question_and_its_chain_count(
    records: list[str], said: tuple[list[str], int]
) -> None:
    found = answered(response(*records).to_wire())

    assert found is not None
    shown = [".".join(str(byte) for byte in address) for address in found.addresses]
    assert (shown, found.ttl) == said


def test_addresses_of_the_other_family_are_found_by_their_own_question() -> None:
    wire = response(f"{NAME} 60 AAAA 2001:db8::1", kind="AAAA").to_wire()

    assert answered(wire) == Answers(
        (bytes.fromhex("20010db8" + "0" * 23 + "1"),), 60, services=False
    )


@pytest.mark.parametrize(
    "records",
    [
        [f"{NAME} 60 CNAME {NAME}."],
        [f"{NAME} 60 CNAME a.example.", f"a.example 60 CNAME {NAME}."],
        [f"{NAME} 60 CNAME a.example.", f"{NAME} 60 CNAME b.example.", "a.example 60 A 192.0.2.1"],
    ],
)
def test_a_loop_and_two_different_cnames_open_nothing(records: list[str]) -> None:
    assert answered(response(*records).to_wire()) is None


@pytest.mark.parametrize(("links", "opens"), [(MAX_CHAIN, True), (MAX_CHAIN + 1, False)])
def test_a_chain_has_a_bounded_length(links: int, *, opens: bool) -> None:
    names = [NAME, *(f"n{number}.example" for number in range(links))]
    chain = [f"{name} 60 CNAME {target}." for name, target in pairwise(names)]

    assert bool(opened(response(*chain, f"{names[-1]} 60 A 192.0.2.1").to_wire())) is opens


def test_of_many_addresses_the_first_count() -> None:
    records = [record(b"\xc0\x0c", 1, bytes((192, 0, 2, last))) for last in range(200)]

    assert answered(raw(ASKED, *records, *records)) == Answers(
        tuple(bytes((192, 0, 2, last)) for last in range(MAX_ADDRESSES)), 60, services=False
    )


def test_the_least_ttl_of_an_address_counts_and_the_highest_bit_is_none() -> None:
    data = b"\xc0\0\x02\x01"
    long, short = (record(b"\xc0\x0c", 1, data, ttl) for ttl in (900, 30))
    said = answered(raw(ASKED, long, short))
    none = answered(raw(ASKED, record(b"\xc0\x0c", 1, data, 0x80000000)))

    assert said is not None
    assert none is not None
    assert (said.ttl, none.ttl) == (30, 0)


@pytest.mark.parametrize(
    "flags", [0x0100, 0x8983, 0x8182, 0xA180], ids=["a query", "nxdomain", "servfail", "notify"]
)
def test_a_message_that_gives_no_answer_opens_nothing(flags: int) -> None:
    assert opened(raw(ASKED, ADDRESS)) == {b"\xc0\0\x02\x01"}
    assert opened(raw(ASKED, ADDRESS, flags=flags)) == set()


def test_an_extended_response_code_is_a_failure_too() -> None:
    message = response(f"{NAME} 60 A 192.0.2.1")
    message.use_edns(0, options=[dns.edns.GenericOption(OPTION, b"x")])
    assert len(opened(message.to_wire())) == 1

    message.set_rcode(dns.rcode.BADVERS)
    assert opened(message.to_wire()) == set()


def test_a_truncated_message_that_is_whole_counts() -> None:
    assert len(opened(raw(ASKED, ADDRESS, flags=0x8380))) == 1
    assert answered(raw(ASKED, ADDRESS, flags=0x8380)[:-1]) is None


def test_service_bindings_are_told() -> None:
    said = answered(response(f"{NAME} 60 HTTPS 1 . alpn=h3", kind="HTTPS").to_wire())

    assert said == Answers((), 0, services=True)


@pytest.mark.parametrize(
    "wire",
    [
        raw(ASKED, ADDRESS) + b"\0",
        raw(ASKED, ADDRESS)[:-1],
        raw(ASKED, ADDRESS, counts=2),
        raw(ASKED, ADDRESS, counts=0),
        raw(ASKED, ADDRESS, record(b"\0", 41, b"")),  # OPT among the answers
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 1, b"\xc0\0\x02\x01", klass=3)),
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 1, b"\xc0\0\x02")),
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 28, b"\xc0\0\x02\x01")),
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 250, b"")),  # TSIG
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 5, ASKED + b"\0")),
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 6, b"\0\0" + bytes(19))),
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 39, b"\xc0\x0c")),  # DNAME is not compressed
        raw(ASKED, ADDRESS, record(b"\xc0\x0c", 64, b"\0\1\0\0\1")),
        raw(ASKED, ADDRESS, record(b"\xc0\x32", 1, bytes(4))),  # a pointer to itself
        raw(ASKED, ADDRESS, record(b"\xff\xff", 1, bytes(4))),  # forward
        raw(ASKED, ADDRESS, record(b"\x01a\xc0\x32", 1, bytes(4))),  # a loop
        raw(ASKED, ADDRESS, record(b"\x80a", 1, bytes(4))),
        raw(ASKED, ADDRESS, record(b"\x3f" + b"a" * 63 + b"\x40", 1, bytes(4))),
        raw(ASKED, ADDRESS, *[record(wire_name(b"a"), 16, b"\1a")] * 129),
    ],
)
def test_one_wrong_byte_anywhere_opens_nothing(wire: bytes) -> None:
    assert question(wire) is not None
    assert answered(wire) is None


def test_pointers_are_followed_as_far_as_dnspython_follows_them() -> None:
    """A ladder of pointers, each to the one before; the last owner is the name that was asked."""
    for rungs in range(12, 20):
        position = 12 + len(ASKED) + 4
        records, target = [], 12
        for _ in range(rungs):
            records.append(record(struct.pack("!H", 0xC000 | target), 1, b"\xc0\0\x02\x01"))
            target = position
            position += len(records[-1])
        wire = raw(ASKED, *records)
        judged = by_dnspython(wire)
        assert (answered(wire) is None) == (judged is None), rungs
        assert opened(wire) == (set() if judged is None else judged[0])


def test_messages_of_64_kib_are_read_in_time() -> None:
    """Also where each record costs as much as it can; a stall would hold up other answers."""
    many = raw(ASKED, *[ADDRESS] * 4000)
    step = b"\x01a" * 60
    targets = [record(step[: 2 * n] + b"\xc0\x0c", 5, b"\xc0\x0c") for n in range(1, 60)]
    deep = raw(ASKED, *targets, *[record(step + b"\xc0\x0c", 2, step + b"\xc0\x0c")] * 240)
    started = time.process_time()

    assert opened(many) == {b"\xc0\0\x02\x01"}
    answered(deep)

    assert time.process_time() - started < 0.5
    assert len(many) > 63000


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(wire: bytes) -> None:
    answered(wire)
    answered(raw(ASKED)[: 12 + len(ASKED) + 4] + wire)


names = st.lists(st.sampled_from(LABELS[:-3]), min_size=1, max_size=3).map(".".join)
rows = st.tuples(
    st.sampled_from([NAME, "cdn.example", "edge.example", "a.example"]) | names,
    st.integers(0, 0x7FFFFFFF),
    st.sampled_from(KINDS),
    st.integers(0, 255),
)


def data_for(kind: str, number: int) -> str:
    if kind == "CNAME":
        return ["cdn.example.", "edge.example.", f"{NAME}.", "a\\.b.example."][number % 4]
    return DATA[kind].replace("192.0.2.1", f"192.0.2.{number}")


@st.composite
def messages(draw: st.DrawFn) -> dns.message.Message:
    """Messages as a server may write them."""
    message = response(kind=draw(st.sampled_from(["A", "AAAA", "HTTPS"])))
    if draw(st.booleans()):
        message.use_edns(0, options=[dns.edns.GenericOption(OPTION, b"cookie12")])
    for owner, ttl, kind, number in draw(st.lists(rows, max_size=8)):
        section = message.sections[draw(st.sampled_from([1, 1, 1, 2, 3]))]
        rrset = message.find_rrset(
            section,
            dns.name.from_text(owner),
            dns.rdataclass.IN,
            dns.rdatatype.from_text(kind),
            dns.rdatatype.A if kind == "RRSIG" else dns.rdatatype.NONE,
            create=True,
        )
        text = data_for(kind, number)
        rrset.add(dns.rdata.from_text("IN", kind, text), ttl)
    return message


@given(messages())
def test_whole_messages_say_what_dnspython_reads(message: dns.message.Message) -> None:
    wire = message.to_wire()
    judged = by_dnspython(wire)
    said = answered(wire)

    assert judged is not None
    if said is not None:
        assert set(said.addresses) == judged[0]
        assert not said.addresses or said.ttl == judged[1]


@given(messages(), st.data())
def test_nothing_opens_that_dnspython_refuses_and_nothing_else(
    message: dns.message.Message, data: st.DataObject
) -> None:
    wire = message.to_wire()
    damaged = bytearray(wire)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(len(wire) - 3, len(wire)))])

    said = answered(cut)
    judged = by_dnspython(cut)

    if said is not None and said.addresses:
        assert judged is not None
        assert (set(said.addresses), said.ttl) == judged


OPTIONS = [b"", *(b"\0\0\x29\x04\xd0" + bytes((code,)) + bytes(5) for code in (0, 1))]


@given(
    st.sampled_from([(1, 4), (28, 16)]),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 0xFFFFFFFF)), max_size=70),
    st.sampled_from(OPTIONS),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=2),
    st.integers(0, 2),
)
def test_the_quick_reading_says_the_same_of_what_it_reads(
    kind: tuple[int, int],
    given_: list[tuple[int, int]],
    option: bytes,
    damage: list[tuple[int, int]],
    cut: int,
) -> None:
    """The usual form, damaged or not."""
    number, size = kind
    rows = [record(b"\xc0\x0c", number, bytes([n] * size), ttl) for n, ttl in given_]
    wire = bytearray(raw(ASKED, *rows) + option)
    wire[12 + len(ASKED) + 1] = number
    wire[11] = bool(option)
    undamaged = bytes(wire)
    for position, value in damage:
        wire[position % len(wire)] = value
    whole = bytes(wire[: len(wire) - cut])
    asked = question(whole)
    if asked is not None and asked.is_response:
        usual = _usual_answers(whole, asked)
        assert usual is None or usual == _any_answers(whole, asked)
    if whole == undamaged and 0 < len(rows) <= MAX_ADDRESSES and option != OPTIONS[2]:
        assert asked is not None
        assert _usual_answers(whole, asked) is not None


TARGETS = ["edge.cdn.example", "e7.cdn.test", "registry.example", "a." * 100 + "long", "x" * 63]


def aliased(chain: list[tuple[str, int]], kind: str, ttls: list[int]) -> dns.message.Message:
    """By way of these names, each with its TTL, to as many addresses."""
    message, owner = response(kind=kind), NAME
    for target, ttl in chain:
        rows = dns.rrset.from_text(f"{owner}.", ttl, "IN", "CNAME", f"{target}.")
        message.answer.append(rows)
        owner = target
    for number, ttl in enumerate(ttls):
        data = f"192.0.2.{number % 9}" if kind == "A" else f"2001:db8::{number % 9}"
        # A set of its own each, so that dnspython keeps their order and their TTLs.
        message.answer.append(dns.rrset.from_text(f"{owner}.", ttl, "IN", kind, data))
    return message


CHAINS = st.lists(
    st.tuples(st.sampled_from(TARGETS), st.integers(0, 0x7FFFFFFF)), min_size=1, max_size=6
)


@given(
    CHAINS,
    st.sampled_from(["A", "AAAA"]),
    st.lists(st.integers(0, 0x7FFFFFFF), max_size=8),
    st.sampled_from(OPTIONS),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=3),
    st.integers(0, 2),
)
def test_the_quick_reading_of_an_alias_says_the_same_as_the_strict_one_and_dnspython(  # noqa: PLR0913, PLR0917
    chain: list[tuple[str, int]],
    kind: str,
    ttls: list[int],
    option: bytes,
    damage: list[tuple[int, int]],
    cut: int,
) -> None:
    """What servers write by way of CNAMEs, damaged or not."""
    wire = bytearray(aliased(chain, kind, ttls).to_wire() + option)
    wire[11] = bool(option)
    for position, value in damage:
        wire[position % len(wire)] = value
    whole = bytes(wire[: len(wire) - cut])
    asked = question(whole)
    if asked is None or not asked.is_response:
        return
    usual = _usual_aliased(whole, asked)
    if usual is None:
        return
    assert usual == _any_answers(whole, asked)
    said = by_dnspython(whole)
    assert said is not None
    assert said == (set(usual.addresses), usual.ttl)


@pytest.mark.parametrize("kind", ["A", "AAAA"])
@pytest.mark.parametrize("edns", [False, True])
def test_a_cdn_s_answer_is_read_quickly(kind: str, *, edns: bool) -> None:
    chain = [("registry.example.edgekey.test", 300), ("e77.dscb.edge.test", 3600)]
    for length in (1, 2):
        message = aliased(chain[:length], kind, [20, 30])
        if edns:
            message.use_edns(0)
        wire = message.to_wire()
        asked = question(wire)
        assert asked is not None
        usual = _usual_aliased(wire, asked)
        assert usual is not None
        assert (len(usual.addresses), usual.ttl) == (2, 20)
        assert usual == answers(wire, asked)


def test_a_chain_that_is_none_is_left_to_the_strict_reading() -> None:
    loop = aliased([("edge.cdn.example", 60), (NAME, 60)], "A", [60]).to_wire()
    other = response(f"{NAME} 60 CNAME edge.example.", "other.example 60 A 192.0.2.1").to_wire()
    long = aliased([(f"e{n}.example", 60) for n in range(9)], "A", [60]).to_wire()
    for wire in (loop, other, long):
        asked = question(wire)
        assert asked is not None
        assert _usual_aliased(wire, asked) is None
        assert answers(wire, asked) == _any_answers(wire, asked)
    assert opened(other) == set()
    assert opened(long)
