"""The quick reading of DNS packets says what the strict one says, or nothing."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.dns_message import question
from ramfw.wire.dns_packet import asks, usual
from ramfw.wire.packet import TCP, UDP, parse
from tests.unit.wire.test_packet import FOUR, SIX, extension, ipv4, ipv6, tcp, udp

ASKED = b"\x08registry\x07example\0\0\1\0\1"
MESSAGE = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0) + ASKED + b"\xc0\x0c" + bytes(14)
PLAIN = [ipv4(udp(MESSAGE), UDP), ipv6(udp(MESSAGE), UDP)]
ODD = [
    ipv4(udp(MESSAGE), UDP) + b"padding",
    ipv4(udp(MESSAGE, length=40), UDP),
    ipv4(udp(MESSAGE), UDP, options=bytes(4)),
    ipv4(udp(MESSAGE), UDP, fragment=0x2000),
    ipv6(extension(UDP) + udp(MESSAGE), 60),
    ipv4(tcp(MESSAGE), TCP),
    ipv4(udp(MESSAGE[:20]), UDP),
    ipv4(udp(MESSAGE[:12] + b"\0" + MESSAGE[12:]), UDP),
]


@pytest.mark.parametrize(("packet", "ends"), [(PLAIN[0], FOUR), (PLAIN[1], SIX)])
def test_the_usual_packet_is_read(packet: bytes, ends: tuple[bytes, bytes]) -> None:
    read = usual(packet)
    assert read is not None
    assert read[:4] == (ends[0], 53, ends[1], 4000)
    *_, payload, asked = read
    assert payload == MESSAGE
    assert asked == question(MESSAGE)
    assert asked.name == "registry.example"


@pytest.mark.parametrize("packet", ODD)
def test_all_others_are_left_to_the_strict_reading(packet: bytes) -> None:
    assert usual(packet) is None


def damaged(packet: bytes, damage: list[tuple[int, int]], cut: int) -> bytes:
    """The packet with other bytes in some places, and some fewer at its end."""
    changed = bytearray(packet)
    for position, value in damage:
        changed[position % len(changed)] = value
    return bytes(changed[: len(changed) - cut])


@given(
    st.sampled_from(PLAIN + ODD),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=3),
    st.integers(0, 60),
)
def test_it_says_the_same_of_what_it_reads(
    packet: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    packet = damaged(packet, damage, cut)
    read, segment = usual(packet), parse(packet)
    if read is not None:
        assert segment is not None
        source, sport, destination, dport, payload, asked = read
        assert (segment.source, segment.sport) == (source, sport)
        assert (segment.destination, segment.dport) == (destination, dport)
        assert packet[segment.start : segment.end] == payload
        assert question(payload) == asked
    elif segment is not None and segment.end == len(packet) and packet in PLAIN:
        assert question(packet[segment.start : segment.end]) is None


def asking(message: bytes, sport: int = 4000) -> bytes:
    """A packet the other way."""
    packet = ipv4(udp(message), UDP)
    ports = struct.pack("!HH", sport, 53)
    return packet[:12] + packet[16:20] + packet[12:16] + ports + packet[24:]


QUESTION = struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + ASKED
SHOUTED = QUESTION.replace(b"registry", b"ReGiStRy")
WITH_OPTIONS = QUESTION + b"\0\0\x29" + bytes(8)
OTHERS = [
    asking(b"\0\x08" + QUESTION[2:]),
    asking(QUESTION, sport=4001),
    asking(QUESTION.replace(b"registry", b"register")),
    asking(QUESTION[:-4] + b"\0\x1c\0\1"),
    asking(QUESTION[:2] + b"\x81\x80" + QUESTION[4:]),
    ipv4(udp(QUESTION), UDP),
    ipv4(tcp(QUESTION), TCP),
]


def is_asked(packet: bytes, answer: bytes = MESSAGE) -> bool:
    read = usual(ipv4(udp(answer), UDP))
    assert read is not None
    server, _, client, port, payload, asked = read
    key = (client, port, server, UDP, asked.id, asked.name, asked.type)
    return asks(packet, key, payload, asked)


@pytest.mark.parametrize("message", [QUESTION, SHOUTED, WITH_OPTIONS])
def test_an_answers_own_question_is_known_by_its_bytes(message: bytes) -> None:
    assert is_asked(asking(message))
    assert is_asked(asking(message), MESSAGE.replace(b"example", b"EXAMPLE"))


@pytest.mark.parametrize("packet", OTHERS)
def test_another_question_is_not_taken_for_it(packet: bytes) -> None:
    assert not is_asked(packet)


def test_the_type_is_no_letter_whose_case_is_folded() -> None:
    https, strange = (MESSAGE.replace(ASKED, ASKED[:-3] + t + b"\0\1") for t in (b"A", b"a"))
    assert is_asked(asking(QUESTION.replace(ASKED, ASKED[:-3] + b"A\0\1")), https)
    assert not is_asked(asking(QUESTION.replace(ASKED, ASKED[:-3] + b"A\0\1")), strange)


@given(
    st.sampled_from([asking(QUESTION), asking(SHOUTED), asking(WITH_OPTIONS), *OTHERS, *ODD]),
    st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=2),
    st.integers(0, 20),
)
def test_what_is_taken_for_it_is_read_as_it(
    packet: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    packet = damaged(packet, damage, cut)
    read = usual(packet)
    if read is None:
        assert not is_asked(packet)
        return
    source, sport, destination, _, _, asked = read
    same = (source, sport, destination) == (FOUR[1], 4000, FOUR[0])
    same &= (asked.id, asked.name, asked.type, asked.klass) == (7, "registry.example", 1, 1)
    assert is_asked(packet) == (same and not asked.flags & 0x8000)


def test_addresses_are_those_of_the_packet() -> None:
    read = usual(PLAIN[0])
    assert read is not None
    assert str(ip_address(read[0])) == "192.0.2.1"
