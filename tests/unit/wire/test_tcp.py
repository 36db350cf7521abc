"""Segments read, and the packets that answer or end their flow written."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.packet import ACK, FIN, RST, SYN
from ramfw.wire.refusal import TLS_ALERT
from ramfw.wire.tcp import (
    AUTHENTICATION,
    FAST_OPEN,
    MAX_ANSWER,
    MD5_SIGNATURE,
    PSH,
    TIMESTAMPS,
    URG,
    FlowKey,
    Fragment,
    TcpSegment,
    answer,
    checksum_is_right,
    options,
    read,
    reset_back,
    reset_onward,
)

FOUR = FlowKey(ip_address("192.0.2.1").packed, ip_address("198.51.100.7").packed, 40000, 443)
SIX = FlowKey(ip_address("2001:db8::1").packed, ip_address("2001:db8::7").packed, 40000, 443)
STAMPS = b"\1\1\x08\x0a" + struct.pack("!II", 1000, 77)


def rfc1071(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


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
    pseudo = key.source + key.destination + struct.pack("!IBB", len(body), 0, 6)
    check = rfc1071(pseudo + body)
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
    assert checksum_is_right(data, segment(data))


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
def test_a_fragment_is_called_one(data: bytes) -> None:
    assert read(data) == Fragment()


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


@BOTH
def test_a_wrong_checksum_is_seen(key: FlowKey) -> None:
    data = packet(key, b"payload!")
    assert checksum_is_right(data, segment(data))

    for at in range(segment(data).transport, len(data)):
        wrong = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        found = read(wrong)
        assert not (isinstance(found, TcpSegment) and checksum_is_right(wrong, found))


@pytest.mark.parametrize(
    ("head", "kinds"),
    [
        (b"", {}),
        (STAMPS, {TIMESTAMPS: STAMPS[4:]}),
        (bytes((MD5_SIGNATURE, 18)) + bytes(16) + b"\1\1", {MD5_SIGNATURE: bytes(16)}),
        (bytes((AUTHENTICATION, 4, 1, 2)), {AUTHENTICATION: b"\1\2"}),
        (bytes((FAST_OPEN, 2, 1, 0)), {FAST_OPEN: b""}),
        (bytes((FAST_OPEN, 2, FAST_OPEN, 2)), {FAST_OPEN: b""}),
        (bytes((0, 2, FAST_OPEN, 2)), {}),
        (bytes((FAST_OPEN, 9, 0, 0)), {}),
        (bytes((FAST_OPEN, 1, 0, 0)), {}),
        (bytes((1, 1, 1, FAST_OPEN)), {}),
    ],
)
def test_options_are_found(head: bytes, kinds: dict[int, bytes]) -> None:
    data = packet(FOUR, b"\x08\x0a" * 8, head=head)

    assert options(data, segment(data)) == kinds


# -- what is written -----------------------------------------------------------------------------


def written(data: bytes) -> TcpSegment:
    """The segment of a packet that ramfw wrote, whose checksums are right."""
    found = segment(data)
    assert checksum_is_right(data, found)
    if data[0] >> 4 == 4:
        assert rfc1071(data[:20]) == 0
    return found


@BOTH
def test_a_held_hello_is_turned_round_into_the_servers_alert(key: FlowKey) -> None:
    """The client finds in it the next bytes of its server, the end, and its hello acknowledged."""
    held = packet(key, b"a hello", sequence=1000, ack=5000, head=STAMPS)
    data = answer(held, segment(held), TLS_ALERT)
    found = written(data)

    assert found.key == key.reverse
    assert (found.sequence, found.acknowledged, found.flags) == (5000, 1007, FIN | PSH | ACK)
    assert data[found.start : found.end] == TLS_ALERT
    assert options(data, found) == {TIMESTAMPS: struct.pack("!II", 77, 1000)}


@BOTH
def test_an_answer_without_timestamps_has_none(key: FlowKey) -> None:
    held = packet(key, b"x", flags=FIN | ACK, sequence=0xFFFFFFFF, head=b"\x08\x04\0\0")
    data = answer(held, segment(held), b"y" * MAX_ANSWER)

    assert written(data).acknowledged == 1
    assert options(data, written(data)) == {}
    with pytest.raises(ValueError, match="1201 bytes"):
        answer(held, segment(held), b"y" * (MAX_ANSWER + 1))


@BOTH
def test_resets_have_the_numbers_that_are_taken(key: FlowKey) -> None:
    held = segment(packet(key, b"a hello", sequence=1000, ack=5000))
    back, onward = written(reset_back(held)), written(reset_onward(held))

    assert (back.key, back.sequence, back.flags, back.size) == (key.reverse, 5000, RST, 0)
    assert (onward.key, onward.sequence, onward.flags, onward.size) == (key, 1000, RST | ACK, 0)
    assert onward.acknowledged == 5000


@BOTH
def test_a_syn_is_reset_by_its_own_number(key: FlowKey) -> None:
    syn = segment(packet(key, b"data", flags=SYN, sequence=0xFFFFFFFF, ack=0))
    back = written(reset_back(syn))

    assert (back.sequence, back.acknowledged, back.flags) == (0, 4, RST | ACK)
    assert written(reset_onward(syn)).flags == RST


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x45", b"\x60"]))
def test_any_bytes_are_read_or_refused(data: bytes, first: bytes) -> None:
    found = read(first + data)

    if isinstance(found, TcpSegment):
        assert found.transport + 20 <= found.start <= found.end <= len(first + data)
        options(first + data, found)
        for made in (answer(first + data, found, b"x"), reset_back(found), reset_onward(found)):
            written(made)


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

    assert written(answer(held, found, reply)).size == len(reply)
    assert written(reset_back(found)).flags & RST
    assert written(reset_onward(found)).flags & RST
