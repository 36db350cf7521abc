"""The quick reading of DNS packets says what the strict one says, or nothing."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.dns_message import question
from ramfw.wire.dns_packet import usual
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


@given(
    st.sampled_from(PLAIN + ODD),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=3),
    st.integers(0, 60),
)
def test_it_says_the_same_of_what_it_reads(
    packet: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    changed = bytearray(packet)
    for position, value in damage:
        changed[position % len(changed)] = value
    packet = bytes(changed[: len(changed) - cut])
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


def test_addresses_are_those_of_the_packet() -> None:
    read = usual(PLAIN[0])
    assert read is not None
    assert str(ip_address(read[0])) == "192.0.2.1"
