"""Segments read, and the packets that answer or end their flow written."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.packet import ACK, FIN, SYN
from ramfw.wire.refusal import TLS_ALERT
from ramfw.wire.tcp import (
    MAX_ANSWER,
    PSH,
    URG,
    FlowKey,
    TcpSegment,
    answer,
    checksum,
    read,
)

FOUR = FlowKey(ip_address("192.0.2.1").packed, ip_address("198.51.100.7").packed, 40000, 443)
SIX = FlowKey(ip_address("2001:db8::1").packed, ip_address("2001:db8::7").packed, 40000, 443)
STAMPS = b"\1\1\x08\x0a" + struct.pack("!II", 1000, 77)


def rfc1071(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def rfc1071_of(key: FlowKey, body: bytes) -> int:
    return rfc1071(key.source + key.destination + struct.pack("!IBB", len(body), 0, 6) + body)


def packet(  # noqa: PLR0913 - the fields of a header
    key: FlowKey,
    payload: bytes = b"",
    *,
    flags: int = PSH | ACK,
    sequence: int = 1000,
    ack: int = 5000,
    head: bytes = b"",
    fragment: int = 0x4000,
    extensions: bytes = b"",
    first: int = 6,
) -> bytes:
    offset = (20 + len(head)) // 4 << 4
    fields = (key.sport, key.dport, sequence, ack, offset, flags, 500)
    body = struct.pack("!HHIIBBHHH", *fields, 0, 0) + head + payload
    check = rfc1071_of(key, body)
    body = extensions + body[:16] + check.to_bytes(2) + body[18:]
    if len(key.source) == 4:
        start = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 1, fragment, 3, 6, 0)
        return start + key.source + key.destination + body
    start = struct.pack("!IHBB", 6 << 28, len(body), first, 3)
    return start + key.source + key.destination + body


def segment(data: bytes) -> TcpSegment:
    found = read(data)
    assert isinstance(found, TcpSegment)
    return found


BOTH = pytest.mark.parametrize("key", [FOUR, SIX], ids=["v4", "v6"])


@BOTH
def test_a_segment_is_read(key: FlowKey) -> None:
    data = packet(key, b"payload", sequence=0xFFFFFFFF, head=STAMPS)
    found = segment(data)

    assert found.key == key
    assert (found.sequence, found.acknowledged, found.flags) == (0xFFFFFFFF, 5000, PSH | ACK)
    assert data[found.start : found.end] == b"payload"
    assert found.size == 7
    assert found.first == 0xFFFFFFFF
    assert segment(packet(key, b"x", sequence=0xFFFFFFFF, flags=SYN)).first == 0
    assert found.key.reverse == FlowKey(key.destination, key.source, 443, 40000)
    assert found.key.reverse.reverse == key


def test_extension_headers_are_passed_by() -> None:
    data = packet(SIX, b"payload", extensions=bytes((6, 0)) + bytes(6), first=60)

    assert data[segment(data).start :] == b"payload"
    assert checksum(SIX, data[segment(data).transport :]) == 0


# A header whose length counts in fours, and one whose length counts in eights, before a fragment's.
AFTER_AUTHENTICATION = bytes((60, 4)) + bytes(22) + bytes((44, 0)) + bytes(6)


@pytest.mark.parametrize(
    "data",
    [
        packet(FOUR, b"payload", fragment=0x2000),
        packet(FOUR, b"payload", fragment=0x0001),
        packet(SIX, extensions=bytes((6, 0, 0, 1)) + bytes(4), first=44),
        packet(SIX, extensions=bytes((44, 0)) + bytes(6) + bytes((6, 0)) + bytes(6), first=60),
        packet(SIX, extensions=AFTER_AUTHENTICATION + bytes((6, 0)) + bytes(6), first=51),
    ],
)
def test_a_fragment_is_nothing(data: bytes) -> None:
    assert read(data) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x60",
        packet(FOUR)[:-1],
        packet(SIX)[:-1],
        packet(FOUR)[:9] + b"\x11" + packet(FOUR)[10:],
        packet(FOUR)[:32] + b"\x40" + packet(FOUR)[33:],
        packet(SIX, first=59),
        packet(SIX, extensions=bytes((6, 255)) + bytes(6), first=60),
        packet(SIX, extensions=(bytes((60, 0)) + bytes(6)) * 9, first=60),
    ],
)
def test_what_is_cut_or_another_protocol_is_nothing(data: bytes) -> None:
    assert read(data) is None


# -- what is written -----------------------------------------------------------------------------


def written(data: bytes) -> TcpSegment:
    """The segment of a packet that ramfw wrote, whose checksums are right."""
    found = segment(data)
    assert rfc1071_of(found.key, data[found.transport : found.end]) == 0
    if data[0] >> 4 == 4:
        assert rfc1071(data[:20]) == 0
    return found


def stamps(data: bytes, found: TcpSegment) -> bytes:
    return data[found.transport + 20 : found.start]


@BOTH
def test_a_held_hello_is_turned_round_into_the_servers_alert(key: FlowKey) -> None:
    """The client finds in it the next bytes of its server, the end, and its hello acknowledged."""
    held = packet(key, b"a hello", sequence=1000, ack=5000, head=STAMPS)
    data = answer(held, segment(held), TLS_ALERT, key.reverse)
    found = written(data)

    assert found.key == key.reverse
    assert (found.sequence, found.acknowledged, found.flags) == (5000, 1007, FIN | PSH | ACK)
    assert data[found.start : found.end] == TLS_ALERT
    # The server may have said more since 77, and what is older than its latest is dropped.
    assert stamps(data, found) == b"\1\1\x08\x0a" + struct.pack("!II", 77 + (1 << 30), 1000)


def test_an_answer_s_timestamp_goes_round_with_the_clock() -> None:
    late = b"\1\1\x08\x0a" + struct.pack("!II", 1000, 0xFFFFFFFF)
    data = answer(packet(FOUR, b"x", head=late), segment(packet(FOUR, b"x", head=late)), b"y", FOUR)

    assert stamps(data, written(data))[4:8] == struct.pack("!I", (1 << 30) - 1)


def test_an_answer_to_translated_addresses_has_them() -> None:
    """As the server knows the client: what turns the addresses back stands before the client."""
    held = packet(FOUR, b"a hello")
    masked = FlowKey(FOUR.destination, ip_address("203.0.113.9").packed, 443, 61000)

    assert written(answer(held, segment(held), TLS_ALERT, masked)).key == masked


@BOTH
@pytest.mark.parametrize(
    "head",
    [
        b"\x08\x04\0\0",
        bytes((19, 18)) + bytes(16) + b"\1\1",
        bytes((0, 2, 8, 10)) + bytes(8),
        bytes((8, 1, 0, 0)),
        bytes((1, 1, 1, 8)),
    ],
)
def test_an_answer_without_timestamps_has_none(key: FlowKey, head: bytes) -> None:
    held = packet(key, b"x", flags=FIN | ACK, sequence=0xFFFFFFFF, head=head)
    data = answer(held, segment(held), b"y" * MAX_ANSWER, key.reverse)

    assert written(data).acknowledged == 1
    assert stamps(data, written(data)) == b""
    with pytest.raises(ValueError, match="1201 bytes"):
        answer(held, segment(held), b"y" * (MAX_ANSWER + 1), key.reverse)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x45", b"\x60"]))
def test_any_bytes_are_read_or_refused(data: bytes, first: bytes) -> None:
    found = read(first + data)

    if found is not None:
        assert found.transport + 20 <= found.start <= found.end <= len(first + data)
        written(answer(first + data, found, b"x", found.key.reverse))


@given(
    st.sampled_from([FOUR, SIX]),
    st.binary(max_size=50),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=60),
    st.integers(0, 0x3F),
)
def test_every_packet_that_is_written_is_right(  # noqa: PLR0913, PLR0917 - the fields of a header
    key: FlowKey, payload: bytes, sequence: int, ack: int, reply: bytes, flags: int
) -> None:
    held = packet(key, payload, sequence=sequence, ack=ack, flags=flags & ~URG)
    found = segment(held)

    assert written(answer(held, found, reply, key.reverse)).size == len(reply)
