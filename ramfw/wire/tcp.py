"""TCP segments as the kernel hands them over, and the packets that answer or end their flow.

Pure: bytes to values, bytes to bytes. `read` never raises; the builders take what `read` gave,
together with its packet. A held packet can be turned round into an answer of its server, turned
round into a reset, or made into a reset on its way to the server. Formats: RFC 9293, RFC 791,
RFC 8200, RFC 7323 (timestamps), RFC 5961 (which reset a receiver takes).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

from ramfw.wire import packet as ip
from ramfw.wire.packet import ACK, FIN, RST, SYN, TCP

PSH = 0x08
URG = 0x20

TIMESTAMPS = 8
MD5_SIGNATURE = 19
AUTHENTICATION = 29
FAST_OPEN = 34
"""Kinds of options (IANA's registry): RFC 7323, RFC 2385, RFC 5925, RFC 7413."""

MAX_ANSWER = 1200
"""Bytes of an answer that fit into one packet on every path: IPv6's least MTU, less headers."""

_ENDED, _NOTHING = 0, 1
_HEADER = struct.Struct("!HHIIBBHHH")
_HEADER_SIZE = 20
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_PSEUDO = struct.Struct("!IBB")
_STAMPS = struct.Struct("!II")
_MODULUS = 1 << 32
_TTL = 64
_DONT_FRAGMENT = 0x4000
_IPV4_FRAGMENTED = 0x3FFF
_IPV6_FRAGMENT = 44
_IPV6_HEADER = 40
_IPV6_EXTENSIONS = frozenset({0, 43, 51, 60})
_AUTHENTICATION_HEADER = 51
_ADDRESS4 = 4


class FlowKey(NamedTuple):
    """One direction of a flow: packed addresses, and ports."""

    source: bytes
    destination: bytes
    sport: int
    dport: int

    @property
    def reverse(self) -> FlowKey:
        """The other direction."""
        return FlowKey(self.destination, self.source, self.dport, self.sport)


class TcpSegment(NamedTuple):
    """A segment; its payload is packet[start:end], its header begins at `transport`."""

    key: FlowKey
    sequence: int
    acknowledged: int
    flags: int
    transport: int
    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes of payload."""
        return self.end - self.start

    @property
    def first(self) -> int:
        """The sequence number of the first byte of payload: a SYN has one of its own."""
        return (self.sequence + 1) % _MODULUS if self.flags & SYN else self.sequence


@dataclass(frozen=True, slots=True)
class Fragment:
    """A part of a packet: conntrack puts them together, so none is to be seen behind it."""


def read(packet: bytes) -> TcpSegment | Fragment | None:
    """The segment in an IP packet; None for another protocol and for lengths that do not fit."""
    segment = ip.parse(packet)
    if segment is None:
        return Fragment() if _is_fragment(packet) else None
    if segment.protocol != TCP:
        return None
    _, source, destination, sport, dport, transport, start, end, sequence, flags = segment
    key = FlowKey(source, destination, sport, dport)
    acknowledged = int.from_bytes(packet[transport + 8 : transport + 12], "big")
    return TcpSegment(key, sequence, acknowledged, flags, transport, start, end)


class Headers(NamedTuple):
    """What stands in a segment's headers alone, of a copy that is cut behind them."""

    key: FlowKey
    acknowledged: int
    flags: int


def headers(packet: bytes) -> Headers | None:
    """The headers of a segment whose payload need not be there; None for another protocol.

    Over IPv6, None for a packet with extension headers too.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4.size:  # noqa: PLR2004 - the version of the protocol
        protocol, transport = packet[9], (packet[0] & 15) * 4
        source, destination = packet[12:16], packet[16:20]
    elif version == 6 and len(packet) >= _IPV6_HEADER:  # noqa: PLR2004 - the same
        protocol, transport = packet[6], _IPV6_HEADER
        source, destination = packet[8:24], packet[24:40]
    else:
        return None
    if protocol != TCP or len(packet) < transport + _HEADER_SIZE:
        return None
    sport, dport, _, acknowledged, _, flags, *_ = _HEADER.unpack_from(packet, transport)
    return Headers(FlowKey(source, destination, sport, dport), acknowledged, flags)


def _is_fragment(packet: bytes) -> bool:
    version = packet[0] >> 4 if packet else 0
    if version == 4:  # noqa: PLR2004 - the version of the protocol
        return int.from_bytes(packet[6:8], "big") & _IPV4_FRAGMENTED != 0
    if version != 6 or len(packet) < _IPV6_HEADER:  # noqa: PLR2004 - the same
        return False
    kind, position = packet[6], _IPV6_HEADER
    for _ in range(ip.MAX_EXTENSION_HEADERS):
        if kind not in _IPV6_EXTENSIONS or position + 2 > len(packet):
            break
        length = packet[position + 1]
        authentication = kind == _AUTHENTICATION_HEADER
        kind = packet[position]
        position += (length + 2) * 4 if authentication else (length + 1) * 8
    return kind == _IPV6_FRAGMENT


def checksum_is_right(packet: bytes, segment: TcpSegment) -> bool:
    """Whether the receiver would take the segment.

    Means nothing where the kernel has not made the checksum yet (NFQA_SKB_CSUMNOTREADY).
    """
    body = packet[segment.transport : segment.end]
    return _sum(segment.key, body) == 0


def options(packet: bytes, segment: TcpSegment) -> dict[int, bytes]:
    """The data of each option by its kind, the first where one stands twice.

    What follows an option that is cut short is not there.
    """
    found: dict[int, bytes] = {}
    position = segment.transport + _HEADER_SIZE
    while position < segment.start and packet[position] != _ENDED:
        if packet[position] == _NOTHING:
            position += 1
            continue
        length = packet[position + 1] if position + 1 < segment.start else 0
        if length < 2 or position + length > segment.start:  # noqa: PLR2004 - kind and length
            break
        found.setdefault(packet[position], packet[position + 2 : position + length])
        position += length
    return found


def answer(packet: bytes, segment: TcpSegment, payload: bytes) -> bytes:
    """The held packet turned round: what the server might have answered to it, and its FIN.

    Raises ValueError where the payload is longer than MAX_ANSWER.
    """
    if len(payload) > MAX_ANSWER:
        raise ValueError(f"an answer of {len(payload)} bytes does not fit into every packet")
    head = _timestamps(packet, segment)
    numbers = segment.acknowledged, _after(segment)
    return _packet(segment.key.reverse, FIN | PSH | ACK, numbers, head, payload)


def reset_back(segment: TcpSegment) -> bytes:
    """A reset for the segment's sender, as its server would send it (RFC 9293, 3.10.7.1)."""
    if segment.flags & ACK:
        return _packet(segment.key.reverse, RST, (segment.acknowledged, 0))
    return _packet(segment.key.reverse, RST | ACK, (0, _after(segment)))


def reset_onward(segment: TcpSegment) -> bytes:
    """A reset in the place of the segment, for its server.

    The server takes it only where the segment's bytes would have been the next for it.
    """
    ack = segment.flags & ACK
    numbers = segment.sequence, segment.acknowledged if ack else 0
    return _packet(segment.key, RST | ack, numbers)


def _after(segment: TcpSegment) -> int:
    """The sequence number behind all that the segment has."""
    return (segment.first + segment.size + bool(segment.flags & FIN)) % _MODULUS


def _timestamps(packet: bytes, segment: TcpSegment) -> bytes:
    """The option as an answer has it: a receiver may drop what comes without it (RFC 7323, 3.2)."""
    stamps = options(packet, segment).get(TIMESTAMPS, b"")
    if len(stamps) != _STAMPS.size:
        return b""
    sent, echoed = _STAMPS.unpack(stamps)
    return bytes((_NOTHING, _NOTHING, TIMESTAMPS, 10)) + _STAMPS.pack(echoed, sent)


def _packet(
    key: FlowKey, flags: int, numbers: tuple[int, int], head: bytes = b"", payload: bytes = b""
) -> bytes:
    """An IP packet with one segment: `numbers` are its own and what it acknowledges.

    `head` are its options, a multiple of four bytes.
    """
    offset = (_HEADER_SIZE + len(head)) // 4 << 4
    window = 0 if flags & RST else 0xFFFF
    fields = (key.sport, key.dport, *numbers, offset, flags, window)
    rest = head + payload
    check = _sum(key, _HEADER.pack(*fields, 0, 0) + rest)
    body = _HEADER.pack(*fields, check, 0) + rest
    if len(key.source) != _ADDRESS4:
        return _IPV6.pack(6 << 28, len(body), TCP, _TTL, key.source, key.destination) + body
    network = (0x45, 0, _IPV4.size + len(body), 0, _DONT_FRAGMENT, _TTL, TCP)
    check = _ones_complement(_IPV4.pack(*network, 0, key.source, key.destination))
    return _IPV4.pack(*network, check, key.source, key.destination) + body


def _sum(key: FlowKey, body: bytes) -> int:
    """The checksum of a segment; 0 for one that has a right checksum in it."""
    pseudo = key.source + key.destination + _PSEUDO.pack(len(body), 0, TCP)
    return _ones_complement(pseudo + body + bytes(len(body) & 1))


def _ones_complement(data: bytes) -> int:
    """RFC 1071: the sum of 16-bit words is the remainder by 65535 (packet.py says why)."""
    return (0xFFFF - int.from_bytes(data, "big") % 0xFFFF) % 0xFFFF
