"""IP packets: what is in them, and writing a payload back with a checksum that is right."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.packet import TCP, UDP, headers, parse, replace

FOUR = (ip_address("192.0.2.1").packed, ip_address("198.51.100.7").packed)
SIX = (ip_address("2001:db8::1").packed, ip_address("2001:db8::7").packed)


def checksum(data: bytes) -> int:
    """RFC 1071, as it is written there."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) & 1)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def is_right(packet: bytes) -> bool:
    """Whether the receiver finds the transport's checksum right."""
    segment = parse(packet)
    assert segment is not None
    body = packet[segment.transport : segment.end]
    pseudo = struct.pack("!IBB", len(body), 0, segment.protocol)
    return checksum(segment.source + segment.destination + pseudo + body) == 0


def udp(payload: bytes, check: int = 0x1234, length: int | None = None) -> bytes:
    return struct.pack("!HHHH", 53, 4000, length or 8 + len(payload), check) + payload


def tcp(payload: bytes, options: bytes = b"") -> bytes:
    offset = (20 + len(options)) // 4 << 4
    return struct.pack("!HHIIBBHHH", 53, 4000, 9, 8, offset, 0x18, 100, 7, 0) + options + payload


def ipv4(
    body: bytes, protocol: int, options: bytes = b"", fragment: int = 0x4000, extra: int = 0
) -> bytes:
    first = 0x45 + len(options) // 4
    total = 20 + len(options) + len(body) + extra
    head = struct.pack("!BBHHHBBH", first, 0, total, 1, fragment, 64, protocol, 0)
    return head + b"".join(FOUR) + options + body


def ipv6(body: bytes, protocol: int, extra: int = 0) -> bytes:
    head = struct.pack("!IHBB", 6 << 28, len(body) + extra, protocol, 64)
    return head + b"".join(SIX) + body


def extension(following: int, data: bytes = bytes(6)) -> bytes:
    return bytes((following, (len(data) + 2) // 8 - 1)) + data


ROUTED, ROUTING = bytes(6), b"\0\1" + bytes(4)  # type, segments left


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(udp(b"payload"), UDP),
        ipv4(udp(b"payload"), UDP, options=b"\1" * 8),
        ipv4(udp(b"payload") + b"options", UDP),
        ipv4(udp(b"payload"), UDP) + b"padding",
        ipv6(udp(b"payload"), UDP),
        ipv6(extension(60) + extension(43) + extension(UDP, ROUTED) + udp(b"payload"), 0),
        ipv6(extension(UDP, bytes(14)) + udp(b"payload"), 60),
        ipv6(bytes((UDP, 1)) + bytes(10) + udp(b"payload"), 51),
    ],
)
def test_a_datagram_is_found(packet: bytes) -> None:
    segment = parse(packet)

    assert segment is not None
    assert (segment.source, segment.destination) == (FOUR if packet[0] >> 4 == 4 else SIX)
    assert (segment.protocol, segment.sport, segment.dport) == (UDP, 53, 4000)
    assert packet[segment.start : segment.end] == b"payload"


SEGMENT = tcp(b"payload", options=b"\1" * 12)


@pytest.mark.parametrize("packet", [ipv4(SEGMENT, TCP), ipv6(SEGMENT, TCP)])
def test_a_segment_is_found(packet: bytes) -> None:
    segment = parse(packet)

    assert segment is not None
    assert (segment.protocol, segment.sequence, segment.flags) == (TCP, 9, 0x18)
    assert packet[segment.start : segment.end] == b"payload"


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        ipv4(udp(b"payload"), UDP)[:-1],
        ipv6(udp(b"payload"), UDP)[:-1],
        ipv4(udp(b"payload"), UDP, extra=1),
        ipv6(udp(b"payload"), UDP, extra=1),
        ipv4(udp(b"payload", length=16), UDP),
        ipv4(udp(b"payload", length=7), UDP),
        ipv4(udp(b"payload"), UDP, fragment=0x2000),
        ipv4(udp(b"payload"), UDP, fragment=1),
        ipv4(udp(b"payload"), 1),
        ipv4(udp(b"")[:7], UDP),
        ipv4(tcp(b"")[:19], TCP),
        b"\x44" + ipv4(udp(b"payload"), UDP)[1:],
        b"\x4f" + ipv4(udp(b"payload"), UDP)[1:],
        b"\x75" + ipv4(udp(b"payload"), UDP)[1:],
        ipv4(tcp(b"")[:12] + b"\x40" + tcp(b"")[13:], TCP),
        ipv4(tcp(b"")[:12] + b"\x60" + tcp(b"")[13:], TCP),
        ipv6(extension(UDP) + udp(b"payload"), 44),
        ipv6(extension(UDP, ROUTING) + udp(b"payload"), 43),
        ipv6(extension(60) * 8 + extension(UDP) + udp(b"payload"), 60),
        ipv6(b"\x11\xff" + bytes(20), 60),
        ipv6(b"\x11", 60),
        ipv6(b"", 59),
    ],
)
def test_what_is_cut_lies_or_is_a_fragment_is_refused(packet: bytes) -> None:
    assert parse(packet) is None


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(udp(b"payload"), UDP),
        ipv6(udp(b"payload"), UDP),
        ipv6(udp(b"payload", check=0), UDP),
        ipv4(tcp(b"payload"), TCP),
        ipv6(tcp(b"payload"), TCP),
        ipv4(udp(b"payload") + b"options", UDP) + b"padding",
        ipv4(tcp(b"payload" * 9000), TCP),
    ],
)
def test_a_new_payload_has_a_right_checksum(packet: bytes) -> None:
    segment = parse(packet)
    assert segment is not None
    assert not is_right(packet)

    changed = replace(packet, segment, 3, b"MEN")

    assert is_right(changed)
    assert changed[segment.start : segment.end] == packet[segment.start : segment.end].replace(
        b"loa", b"MEN", 1
    )
    assert changed[: segment.transport] == packet[: segment.transport]
    assert changed[segment.end :] == packet[segment.end :]


def test_a_checksum_that_is_absent_stays_absent() -> None:
    packet = ipv4(udp(b"payload", check=0), UDP)
    segment = parse(packet)
    assert segment is not None

    assert replace(packet, segment, 0, b"PAYLOAD") == ipv4(udp(b"PAYLOAD", check=0), UDP)


@pytest.mark.parametrize(("offset", "new"), [(-1, b"x"), (7, b"x"), (0, bytes(8))])
def test_what_does_not_fit_is_a_value_error(offset: int, new: bytes) -> None:
    packet = ipv4(udp(b"payload"), UDP)
    segment = parse(packet)
    assert segment is not None

    with pytest.raises(ValueError, match="do not fit"):
        replace(packet, segment, offset, new)


@given(st.binary(max_size=80), st.sampled_from([b"", b"\x45", b"\x60"]))
def test_any_bytes_are_read_or_refused(data: bytes, first: bytes) -> None:
    packet = first + data
    segment = parse(packet)

    assert segment is None or segment.start <= segment.end <= len(packet)


@given(st.binary(min_size=1, max_size=60), st.data())
def test_every_new_payload_has_a_right_checksum(payload: bytes, data: st.DataObject) -> None:
    protocol, body = data.draw(st.sampled_from([(UDP, udp(payload)), (TCP, tcp(payload))]))
    packet = data.draw(st.sampled_from([ipv4(body, protocol), ipv6(body, protocol)]))
    segment = parse(packet)
    assert segment is not None
    new = data.draw(st.binary(min_size=len(payload), max_size=len(payload)))

    changed = replace(packet, segment, 0, new)

    assert is_right(changed)
    assert changed[segment.start : segment.end] == new
    assert protocol == TCP or changed[segment.transport + 6 : segment.transport + 8] != b"\0\0"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (ipv4(tcp(b"GET /"), TCP)[:40], True),
        (ipv4(tcp(b"GET /"), TCP)[:39], False),
        (ipv4(tcp(b"GET /"), TCP, options=bytes(4))[:44], True),
        (ipv6(extension(TCP) + tcp(b"GET /"), 60), True),
        (ipv4(udp(b"x"), UDP), True),
    ],
)
def test_headers_are_read_though_what_follows_is_cut(data: bytes, found: bool) -> None:  # noqa: FBT001
    read, whole = headers(data), parse(data)

    assert read is not None
    if whole is not None:
        assert read[:5] == whole[:5]
        assert read.flags == whole.flags
        assert read.transport == whole.transport
    assert bool(read.flags or read.protocol == UDP) == found


@given(st.binary(max_size=100))
def test_headers_of_any_bytes_are_read_or_none(data: bytes) -> None:
    read = headers(data)
    assert (read is None) == (
        len(data) < 20 or data[0] >> 4 not in (4, 6) or (data[0] >> 4 == 6 and len(data) < 40)
    )
