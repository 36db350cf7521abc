"""ECH keys and `h3` in a TCP stream: void in every segment, however the stream is cut."""

from __future__ import annotations

from itertools import pairwise

import dns.message
import dns.rrset
from dns.rdtypes.svcbbase import ALPNParam, ECHParam, ParamKey
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.dns_message import question
from ramfw.wire.dns_service import neutralize
from ramfw.wire.dns_stream import StreamMessage
from ramfw.wire.dns_void import MOST_CHANGES, MOST_PARTS, Voids

NAME = "registry.example"
START = 0xFFFFFFF0
HIDING = 'HTTPS 1 . alpn="h3,h2,h3-29" ech="AAgADQAEa2V5IQ=="'
RECORDS = (
    HIDING,
    "A 203.0.113.1",
    "HTTPS 0 other.example.",
    'SVCB 1 svc.example. mandatory="alpn" alpn="h2,h3" port="8443" ipv6hint="2001:db8::1"',
    'HTTPS 2 . alpn="h2" no-default-alpn ech="AA3+DQACaDP+DQADaDN4"',
    "TXT h3",
)


def answer(*records: str, name: str = NAME) -> bytes:
    asked = dns.message.make_query(name, "HTTPS", id=7)
    message = dns.message.make_response(asked)
    for record in records:
        kind, _, text = record.partition(" ")
        message.answer.append(dns.rrset.from_text(f"{name}.", 60, "IN", kind, text))
    return message.to_wire()


def passed(told: bytes, cuts: list[int], name: str = NAME) -> bytes:
    """What the client gets of a message that comes in these pieces."""
    voids = Voids(lambda asked: asked == name)
    places = [0, *sorted({cut for cut in cuts if cut < len(told)}), len(told)]
    out = b""
    for first, last in pairwise(places):
        voids.follow(StreamMessage(START, told[:last]))
        piece = told[first:last]
        out += voids.applied((START + first) % (1 << 32), piece) or piece
    return out


CUTS = st.lists(st.integers(0, 400), max_size=40)
ANSWERS = st.lists(st.sampled_from(RECORDS), min_size=1, max_size=5).map(lambda r: answer(*r))


@given(ANSWERS, CUTS)
def test_the_cuts_make_no_difference_and_nothing_is_left_to_hide_with(
    told: bytes, cuts: list[int]
) -> None:
    got = passed(told, cuts)
    assert got == passed(told, [])
    assert len(got) == len(told)
    before, after = dns.message.from_wire(told), dns.message.from_wire(got)
    for old, new in zip(before.answer, after.answer, strict=True):
        assert (old.name, old.rdtype) == (new.name, new.rdtype)
        for record in new:
            parameters = getattr(record, "params", {})
            match parameters.get(ParamKey.ALPN):
                case ALPNParam(ids=ids):
                    assert not any(one.startswith(b"h3") for one in ids)
                    assert b"h2" in ids
            match parameters.get(ParamKey.ECH):
                case ECHParam(ech=ech):
                    assert ech[2:4] == b"\0\0"
    asked = question(told)
    assert asked is not None
    assert (got == told) == (neutralize(told, asked) is None), "as over UDP"


@given(ANSWERS, st.integers(0, 400), st.integers(0, 400))
def test_what_is_sent_again_is_changed_alike(told: bytes, first: int, size: int) -> None:
    voids = Voids(lambda _: True)
    voids.follow(StreamMessage(START, told))
    whole = voids.applied(START, told) or told
    piece = told[first : first + size]
    again = voids.applied((START + first) % (1 << 32), piece) or piece
    assert again == whole[first : first + size]


def test_other_names_and_questions_are_left_alone() -> None:
    told = answer(HIDING, name="other.example")
    assert passed(told, []) == told
    asked = dns.message.make_query(NAME, "HTTPS").to_wire()
    assert passed(asked, []) == asked


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_are_followed_and_none_is_added(told: bytes, cuts: list[int]) -> None:
    told = answer()[:-1] + told
    assert len(passed(told, cuts)) == len(told)


def test_it_is_bounded() -> None:
    voids = Voids(lambda _: True)
    for serial in range(MOST_CHANGES):
        voids.follow(StreamMessage(serial * 1000, answer(HIDING)))
    assert len(voids._changes) == MOST_CHANGES


def test_a_message_in_too_many_parts_is_told_and_another_is_another() -> None:
    voids, told = Voids(lambda _: True), answer(HIDING)

    def parts(sequence: int, count: int) -> bool:
        for _ in range(count):
            voids.follow(StreamMessage(sequence, told[:20]))
        return voids.is_exhausted

    assert not parts(0xF0000000, MOST_PARTS)
    assert parts(0xF0000000, 1)
    assert not parts(0, 1)
