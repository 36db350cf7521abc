"""IP packets as NFQUEUE and NFLOG hand them over: from the IP header on.

Pure. Reads the way to the UDP or TCP payload and nothing else, and writes a payload of the same
length back. Strict: a packet whose lengths do not fit together, a fragment (conntrack puts them
together before any of ramfw's rules) or another protocol is None. Formats: RFC 791, RFC 8200,
RFC 768, RFC 9293.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

TCP = 6
UDP = 17

FIN = 0x01
SYN = 0x02
RST = 0x04
ACK = 0x10

MAX_EXTENSION_HEADERS = 8

# Version and header length, total length, flags and fragment, protocol, source, destination.
_IPV4 = struct.Struct("!BxHxxHxBxx4s4s")
# Version and traffic class, payload length, next header, source, destination.
_IPV6 = struct.Struct("!BxxxHBx16s16s")
_UDP = struct.Struct("!HHH")
_TCP = struct.Struct("!HHI4xBB")
_PORTS = struct.Struct("!HH")
_TOLD = struct.Struct("!8xIxB")
_CHECKSUM = struct.Struct("!H")
_PSEUDO = struct.Struct("!IBB")

_IPV4_HEADER = 20
_IPV6_HEADER = 40
_UDP_HEADER = 8
_TCP_HEADER = 20
_FRAGMENTED = 0x3FFF  # MF, and the offset

_HOP_BY_HOP, _ROUTING, _AUTHENTICATION, _DESTINATION = 0, 43, 51, 60
_EXTENSIONS = frozenset({_HOP_BY_HOP, _ROUTING, _AUTHENTICATION, _DESTINATION})


class Segment(NamedTuple):
    """A UDP datagram or TCP segment; its payload is packet[start:end].

    Addresses are packed, 4 or 16 bytes. `sequence` and `flags` are 0 for UDP. Bytes after `end`
    are padding, which no receiver reads.
    """

    protocol: int
    source: bytes
    destination: bytes
    sport: int
    dport: int
    transport: int
    start: int
    end: int
    sequence: int
    flags: int


class Headers(NamedTuple):
    """Who sends to whom; what the protocol lacks, or is not read here, is 0.

    The transport's header begins at `transport`.
    """

    protocol: int
    source: bytes
    destination: bytes
    sport: int
    dport: int
    acknowledged: int
    flags: int
    transport: int


class _Network(NamedTuple):
    """What the IP header says: what is inside, from where to where in the packet."""

    protocol: int
    source: bytes
    destination: bytes
    start: int
    end: int


def parse(packet: bytes) -> Segment | None:
    """The UDP datagram or TCP segment in the packet; None where there is none, whole and plain.

    Segments that the kernel joined (GSO) are one, up to 64 KiB. Never raises.
    """
    network = _network(packet)
    if network is None:
        return None
    protocol, source, destination, transport, end = network
    room = end - transport
    if protocol == UDP and room >= _UDP_HEADER:
        sport, dport, length = _UDP.unpack_from(packet, transport)
        # A receiver reads as much as UDP's own length says (RFC 9868 puts options behind it).
        if _UDP_HEADER <= length <= room:
            start, end = transport + _UDP_HEADER, transport + length
            return Segment(UDP, source, destination, sport, dport, transport, start, end, 0, 0)
    elif protocol == TCP and room >= _TCP_HEADER:
        sport, dport, number, offset, flags = _TCP.unpack_from(packet, transport)
        header = (offset >> 4) * 4
        if _TCP_HEADER <= header <= room:
            start = transport + header
            return Segment(
                TCP, source, destination, sport, dport, transport, start, end, number, flags
            )
    return None


def headers(packet: bytes) -> Headers | None:
    """The headers of a packet that may be cut short behind them. Never raises.

    None where there is no whole IP header. Lengths are not looked at.
    """
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_HEADER:  # noqa: PLR2004 - the version of the protocol
        transport = (packet[0] & 15) * 4
        protocol, source, destination = packet[9], packet[12:16], packet[16:20]
    elif version == 6 and len(packet) >= _IPV6_HEADER:  # noqa: PLR2004 - the same
        protocol, transport = packet[6], _IPV6_HEADER
        source, destination = packet[8:24], packet[24:40]
        if protocol in _EXTENSIONS:
            protocol, transport = _after_extensions(packet, protocol, len(packet))
    else:
        return None
    ports, told = (0, 0), (0, 0)
    room = len(packet) - transport if transport >= _IPV4_HEADER else 0
    if protocol in {TCP, UDP} and room >= _PORTS.size:
        ports = _PORTS.unpack_from(packet, transport)
    if protocol == TCP and room >= _TCP_HEADER:
        told = _TOLD.unpack_from(packet, transport)
    return Headers(protocol, source, destination, *ports, *told, transport)


def replace(packet: bytes, segment: Segment, offset: int, new: bytes) -> bytes:
    """The packet with `new` at `offset` of the segment's payload, and a right checksum.

    The checksum is made anew from all bytes, not mended: the kernel may hand packets over before
    it has made one (NFQA_SKB_CSUMNOTREADY). An absent one (UDP over IPv4: zero) stays absent.
    Raises ValueError where `new` does not fit inside the payload.
    """
    first = segment.start + offset
    if offset < 0 or first + len(new) > segment.end:
        raise ValueError(f"{len(new)} bytes at {offset} do not fit into the payload")
    changed = bytearray(packet)
    changed[first : first + len(new)] = new
    position = segment.transport + (6 if segment.protocol == UDP else 16)
    ipv4 = len(segment.source) == 4  # noqa: PLR2004 - the bytes of an address
    if segment.protocol == UDP and ipv4 and packet[position : position + 2] == b"\0\0":
        return bytes(changed)
    changed[position : position + 2] = b"\0\0"
    _CHECKSUM.pack_into(changed, position, _checksum(changed, segment))
    return bytes(changed)


def _network(packet: bytes) -> _Network | None:
    size = len(packet)
    version = packet[0] >> 4 if packet else 0
    if version == 4 and size >= _IPV4_HEADER:  # noqa: PLR2004 - the version of the protocol
        first, end, fragment, protocol, source, destination = _IPV4.unpack_from(packet)
        start = (first & 15) * 4
        if _IPV4_HEADER <= start <= end <= size and not fragment & _FRAGMENTED:
            return _Network(protocol, source, destination, start, end)
    elif version == 6 and size >= _IPV6_HEADER:  # noqa: PLR2004 - the same
        _, length, protocol, source, destination = _IPV6.unpack_from(packet)
        start, end = _IPV6_HEADER, _IPV6_HEADER + length
        if end <= size:
            if protocol in _EXTENSIONS:
                protocol, start = _after_extensions(packet, protocol, end)
            return _Network(protocol, source, destination, start, end)
    return None


def _after_extensions(packet: bytes, kind: int, end: int) -> tuple[int, int]:
    """The protocol behind IPv6's extension headers and its position; protocol -1 if not ours."""
    position = _IPV6_HEADER
    for _ in range(MAX_EXTENSION_HEADERS):
        if position + 8 > end:
            break
        following, length = packet[position], packet[position + 1]
        # On a source route that has not ended, the destination is not the receiver's address.
        if kind == _ROUTING and packet[position + 3] != 0:
            break
        position += (length + 2) * 4 if kind == _AUTHENTICATION else (length + 1) * 8
        kind = following
        if kind not in _EXTENSIONS:
            return kind, position
    return -1, position


def _checksum(packet: bytearray, segment: Segment) -> int:
    """The checksum over pseudo-header, header and payload, where its own field is zero.

    A sum of 16-bit words in ones' complement (RFC 1071) is the remainder of the whole, read as
    one number, by 65535: that is a single operation here. Never 0, which says "none" in UDP.
    """
    body = bytes(packet[segment.transport : segment.end])
    pseudo = segment.source + segment.destination + _PSEUDO.pack(len(body), 0, segment.protocol)
    whole = int.from_bytes(pseudo + body + bytes(len(body) & 1), "big")
    return 0xFFFF - whole % 0xFFFF
