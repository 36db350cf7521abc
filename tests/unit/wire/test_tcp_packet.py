"""The quick reading of TCP packets says what the strict one says, of whatever bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire import tcp, tcp_packet
from ramfw.wire.packet import ACK, SYN, TCP, UDP, headers
from tests.unit.wire import test_packet
from tests.unit.wire.test_packet import extension, ipv4, ipv6, udp
from tests.unit.wire.test_tcp import FOUR, SIX, STAMPS, packet

PLAIN = [packet(key, b"GET /", head=STAMPS) for key in (FOUR, SIX)]
ODD = [
    packet(FOUR, b"data", flags=SYN),
    packet(SIX, b"data", flags=SYN | ACK, sequence=(1 << 32) - 1),
    packet(FOUR, b"GET /") + b"padding",
    packet(FOUR, b"part", fragment=0x2000),
    packet(FOUR),
    packet(SIX)[:-1],
    ipv4(test_packet.tcp(b"GET /"), TCP, options=bytes(4)),
    ipv6(extension(TCP) + test_packet.tcp(b"GET /"), 60),
    ipv4(udp(bytes(40)), UDP),
    ipv6(udp(bytes(40)), UDP),
    b"",
]


def strict_segment(data: bytes) -> tcp_packet.Segment | None:
    read = tcp.read(data)
    if read is None:
        return None
    key = tcp_packet.key(read.key)
    payload = data[read.start : read.end]
    return key, read.key.destination, read.key.dport, read.first, read.flags, payload


def strict_headers(data: bytes) -> tcp_packet.Headers | None:
    read = headers(data)
    if read is None or read.protocol != TCP or len(data) < read.transport + 20:
        return None
    reverse = tcp.FlowKey(read.destination, read.source, read.dport, read.sport)
    number = int.from_bytes(data[read.transport + 4 : read.transport + 8], "big")
    return tcp_packet.key(reverse), read.acknowledged, read.flags, number


@pytest.mark.parametrize(("data", "key"), list(zip(PLAIN, (FOUR, SIX), strict=True)))
def test_a_client_s_packet_and_its_server_s_have_the_same_key(
    data: bytes, key: tcp.FlowKey
) -> None:
    read = tcp_packet.segment(data)
    answered = tcp_packet.headers(packet(key.reverse, b"answer", ack=1005))

    assert read is not None
    assert read[1:] == (key.destination, 443, 1000, tcp.PSH | ACK, b"GET /")
    assert answered == (read[0], 1005, tcp.PSH | ACK, 1000)


def test_a_copy_need_not_have_its_payload() -> None:
    whole = packet(FOUR.reverse, bytes(500), ack=7)

    assert tcp_packet.headers(whole[:40]) == tcp_packet.headers(whole)
    assert tcp_packet.headers(whole[:39]) is None


@given(
    st.sampled_from(PLAIN + ODD),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=3),
    st.integers(0, 80),
)
def test_it_says_the_same(data: bytes, damage: list[tuple[int, int]], cut: int) -> None:
    changed = bytearray(data)
    for position, value in damage[: len(data)]:
        changed[position % len(changed)] = value
    data = bytes(changed[: max(0, len(changed) - cut)])

    assert tcp_packet.segment(data) == strict_segment(data)
    assert tcp_packet.headers(data) == strict_headers(data)


@given(st.binary(max_size=100))
def test_it_never_raises(data: bytes) -> None:
    assert tcp_packet.segment(data) == strict_segment(data)
    assert tcp_packet.headers(data) == strict_headers(data)
