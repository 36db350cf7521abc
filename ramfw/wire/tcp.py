"""TCP segments as the kernel hands them over, and the packet that answers one.

Pure: bytes to values, bytes to bytes. `read` never raises; `answer` takes what it gave, together
with its packet. Formats: RFC 9293, RFC 791, RFC 8200, RFC 7323 (timestamps).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ramfw.wire import packet as ip
from ramfw.wire.packet import ACK, FIN, SYN, TCP

PSH = 0x08
URG = 0x20

MAX_ANSWER = 1200
"""Bytes of an answer that fit into one packet on every path: IPv6's least MTU, less headers."""

_TIMESTAMPS = 8  # an option's kind (RFC 7323)
_AHEAD = 1 << 30
"""By how much an answer's timestamp is after the last that its segment's sender had seen then."""
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

    @property
    def after(self) -> int:
        """The sequence number behind all that the segment has."""
        return (self.first + self.size + bool(self.flags & FIN)) % _MODULUS


def read(packet: bytes) -> TcpSegment | None:
    """The segment in an IP packet.

    None for a fragment, another protocol, and for lengths that do not fit.
    """
    segment = ip.parse(packet)
    if segment is None or segment.protocol != TCP:
        return None
    _, source, destination, sport, dport, transport, start, end, sequence, flags = segment
    key = FlowKey(source, destination, sport, dport)
    acknowledged = int.from_bytes(packet[transport + 8 : transport + 12], "big")
    return TcpSegment(key, sequence, acknowledged, flags, transport, start, end)


def answer(packet: bytes, segment: TcpSegment, payload: bytes, key: FlowKey) -> bytes:
    """What its server might have answered to a held packet, and its FIN, as an IP packet.

    `key` is the answer's own: where addresses are translated, it is not the segment's reversed.
    Raises ValueError where the payload is longer than MAX_ANSWER.
    """
    if len(payload) > MAX_ANSWER:
        raise ValueError(f"an answer of {len(payload)} bytes does not fit into every packet")
    rest = _timestamps(packet, segment) + payload
    offset = (_HEADER_SIZE + len(rest) - len(payload)) // 4 << 4
    fields = key.sport, key.dport, segment.acknowledged, segment.after, offset, FIN | PSH | ACK
    check = checksum(key, _HEADER.pack(*fields, 0xFFFF, 0, 0) + rest)
    body = _HEADER.pack(*fields, 0xFFFF, check, 0) + rest
    if len(key.source) != _ADDRESS4:
        return _IPV6.pack(6 << 28, len(body), TCP, _TTL, key.source, key.destination) + body
    network = (0x45, 0, _IPV4.size + len(body), 0, _DONT_FRAGMENT, _TTL, TCP)
    check = _ones_complement(_IPV4.pack(*network, 0, key.source, key.destination))
    return _IPV4.pack(*network, check, key.source, key.destination) + body


def checksum(key: FlowKey, body: bytes) -> int:
    """The checksum of a segment; 0 for one that has a right checksum in it."""
    pseudo = key.source + key.destination + _PSEUDO.pack(len(body), 0, TCP)
    return _ones_complement(pseudo + body + bytes(len(body) & 1))


def _timestamps(packet: bytes, segment: TcpSegment) -> bytes:
    """The option as an answer has it: a receiver may drop what comes without it (RFC 7323, 3.2).

    The server may have acknowledged earlier segments since this one was sent, and what is older
    than that is dropped (5.3). So it is far ahead: any that is less than 2**31 ahead is taken.
    """
    position = segment.transport + _HEADER_SIZE
    while position < segment.start and packet[position] != _ENDED:
        if packet[position] == _NOTHING:
            position += 1
            continue
        length = packet[position + 1] if position + 1 < segment.start else 0
        if length < 2 or position + length > segment.start:  # noqa: PLR2004 - kind and length
            break
        if packet[position] == _TIMESTAMPS and length == 2 + _STAMPS.size:
            sent, echoed = _STAMPS.unpack_from(packet, position + 2)
            stamps = _STAMPS.pack((echoed + _AHEAD) % _MODULUS, sent)
            return bytes((_NOTHING, _NOTHING, _TIMESTAMPS, length)) + stamps
        position += length
    return b""


def _ones_complement(data: bytes) -> int:
    """RFC 1071: the sum of 16-bit words is the remainder by 65535 (packet.py says why)."""
    return (0xFFFF - int.from_bytes(data, "big") % 0xFFFF) % 0xFFFF
