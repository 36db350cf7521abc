"""What counts of a DNS response, and that no bytes whatever make the decoder fall over."""

from __future__ import annotations

from itertools import pairwise

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.dns_answer import MAX_CHAIN, DnsAnswer, decode

QUERY = dns.message.make_query("registry.example.", "A", use_edns=0, id=4711)


def response(*records: str) -> dns.message.Message:
    message = dns.message.make_response(QUERY)
    for record in records:
        name, ttl, kind, data = record.split()
        message.answer.append(dns.rrset.from_text(f"{name}.", int(ttl), "IN", kind, data))
    return message


def decoded(message: dns.message.Message) -> DnsAnswer:
    answer = decode(message.to_wire(), QUERY)
    assert answer is not None
    return answer


def said(answer: DnsAnswer) -> tuple[str, list[tuple[str, int]]]:
    return answer.outcome, [(str(address), ttl) for address, ttl in answer.addresses]


@pytest.mark.parametrize(
    ("records", "outcome", "addresses"),
    [
        (["registry.example 60 A 192.0.2.1"], "ok", [("192.0.2.1", 60)]),
        ([], "nodata", []),
        (["registry.example 60 AAAA 2001:db8::1"], "nodata", []),
        (["other.example 60 A 192.0.2.66"], "nodata", []),
        (
            [
                "registry.example 300 CNAME cdn.example.",
                "cdn.example 20 CNAME edge.example.",
                "edge.example 60 A 192.0.2.1",
                "other.example 60 A 192.0.2.66",
            ],
            "ok",
            [("192.0.2.1", 20)],
        ),
        # A chain is followed whatever the order of its records.
        (
            ["edge.example 60 A 192.0.2.1", "registry.example 300 CNAME edge.example."],
            "ok",
            [("192.0.2.1", 60)],
        ),
        (["registry.example 300 CNAME cdn.example."], "nodata", []),
        # The chain has to start at the question.
        (["other.example 300 CNAME cdn.example.", "cdn.example 60 A 192.0.2.66"], "nodata", []),
        (["registry.example 300 CNAME registry.example."], "malformed", []),
        (
            ["registry.example 300 CNAME a.example.", "a.example 300 CNAME registry.example."],
            "malformed",
            [],
        ),
    ],
)
def test_only_the_question_and_its_chain_count(
    records: list[str], outcome: str, addresses: list[tuple[str, int]]
) -> None:
    assert said(decoded(response(*records))) == (outcome, addresses)


@pytest.mark.parametrize(("links", "outcome"), [(MAX_CHAIN, "ok"), (MAX_CHAIN + 1, "malformed")])
def test_a_chain_has_a_bounded_length(links: int, outcome: str) -> None:
    names = ["registry.example", *(f"n{number}.example" for number in range(links))]
    chain = [f"{name} 60 CNAME {target}." for name, target in pairwise(names)]

    assert decoded(response(*chain, f"{names[-1]} 60 A 192.0.2.1")).outcome == outcome


def test_records_of_other_sections_do_not_count() -> None:
    message = response()
    record = dns.rrset.from_text("registry.example.", 60, "IN", "A", "192.0.2.66")
    message.additional.append(record)
    message.authority.append(record)

    assert said(decoded(message)) == ("nodata", [])


def test_addresses_under_a_failure_do_not_count() -> None:
    message = response("registry.example 60 A 192.0.2.66")
    message.set_rcode(dns.rcode.NXDOMAIN)

    assert said(decoded(message)) == ("nxdomain", [])


def test_the_case_of_letters_is_no_difference() -> None:
    loud = dns.message.make_query("REGISTRY.example.", "A", id=QUERY.id)
    message = dns.message.make_response(loud)
    message.answer.append(dns.rrset.from_text("Registry.EXAMPLE.", 60, "IN", "A", "192.0.2.1"))

    assert said(decoded(message)) == ("ok", [("192.0.2.1", 60)])


def test_a_truncated_response_is_told_even_when_cut_inside_a_record() -> None:
    message = response("registry.example 60 A 192.0.2.1")
    message.flags |= dns.flags.TC

    assert decode(message.to_wire(), QUERY) == DnsAnswer("truncated")
    assert decode(message.to_wire()[:-20], QUERY) == DnsAnswer("truncated")


def test_what_answers_another_question_is_no_response() -> None:
    stranger = dns.message.make_query("registry.example.", "A", id=QUERY.id ^ 1)
    other_type = dns.message.make_query("registry.example.", "AAAA", id=QUERY.id)

    assert decode(dns.message.make_response(stranger).to_wire(), QUERY) is None
    assert decode(dns.message.make_response(other_type).to_wire(), QUERY) is None
    assert decode(QUERY.to_wire(), QUERY) is None


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_answer(wire: bytes) -> None:
    answer = decode(wire, QUERY)

    assert answer is None or answer.addresses == ()


@given(st.data())
def test_a_damaged_answer_never_raises(data: st.DataObject) -> None:
    wire = bytearray(
        response(
            "registry.example 300 CNAME cdn.example.",
            "cdn.example 20 CNAME edge.example.",
            "edge.example 60 A 192.0.2.1",
            "edge.example 60 AAAA 2001:db8::1",
        ).to_wire()
    )
    for _ in range(data.draw(st.integers(1, 4))):
        wire[data.draw(st.integers(2, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(wire)))

    answer = decode(bytes(wire[:cut]), QUERY)

    assert answer is None or len(answer.addresses) <= 64
