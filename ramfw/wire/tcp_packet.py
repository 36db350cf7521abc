"""TCP packets read in one go, those of the usual form quickly: a connection waits meanwhile.

Pure. Says what `tcp.read` and `packet.headers` say. A flow is named by its key: addresses and ports
of one direction, as they stand in one piece in an IP packet without options.
"""

from __future__ import annotations

import struct

from ramfw.wire import packet as ip
from ramfw.wire import tcp
from ramfw.wire.packet import SYN, TCP

Segment = tuple[bytes, bytes, int, int, int, bytes]
"""Key, packed destination, its port, the number of the payload's first byte, flags, payload."""

Headers = tuple[bytes, int, int, int]
"""The other direction's key, what is acknowledged, flags, the packet's own number."""

# Header length, total length, fragment, protocol; destination's port, number, offset, flags.
_SEGMENT4 = struct.Struct("!BxHxxHxB12xHI4xBB")
_SEGMENT6 = struct.Struct("!BxxxHB35xHI4xBB")
# Header length, protocol, addresses, ports; number, what is acknowledged, flags.
_HEADERS4 = struct.Struct("!B8xBxx4s4s2s2sIIxB6x")
_HEADERS6 = struct.Struct("!B5xBx16s16s2s2sIIxB6x")
_NUMBER = struct.Struct("!4xI")
_PORTS = struct.Struct("!HH")

_FIRST_OF_IPV4 = 0x45
_FIRST_OF_IPV6 = 6
_FRAGMENTED = 0x3FFF
_IPV4_HEADER, _IPV6_HEADER, _TCP_HEADER = 20, 40, 20
_MODULUS = 1 << 32


def segment(packet: bytes) -> Segment | None:
    """The whole segment in a packet; None where there is none."""
    size = len(packet)
    if size >= _SEGMENT4.size and packet[0] == _FIRST_OF_IPV4:
        _, end, fragment, protocol, port, number, offset, flags = _SEGMENT4.unpack_from(packet)
        start = _IPV4_HEADER + (offset >> 4) * 4
        whole = _IPV4_HEADER + _TCP_HEADER <= start <= end <= size
        if whole and protocol == TCP and not fragment & _FRAGMENTED:
            first = (number + 1) % _MODULUS if flags & SYN else number
            return packet[12:24], packet[16:20], port, first, flags, packet[start:end]
    elif size >= _SEGMENT6.size and packet[0] >> 4 == _FIRST_OF_IPV6:
        _, length, protocol, port, number, offset, flags = _SEGMENT6.unpack_from(packet)
        start, end = _IPV6_HEADER + (offset >> 4) * 4, _IPV6_HEADER + length
        whole = _IPV6_HEADER + _TCP_HEADER <= start <= end <= size
        if whole and protocol == TCP:
            first = (number + 1) % _MODULUS if flags & SYN else number
            return packet[8:44], packet[24:40], port, first, flags, packet[start:end]
    read = tcp.read(packet)
    if read is None:
        return None
    payload = packet[read.start : read.end]
    return key(read.key), read.key.destination, read.key.dport, read.first, read.flags, payload


def headers(packet: bytes) -> Headers | None:
    """The headers of a segment whose payload need not be there; None for another protocol."""
    protocol = 0
    if len(packet) >= _HEADERS4.size and packet[0] == _FIRST_OF_IPV4:
        _, protocol, source, destination, sport, dport, number, acknowledged, flags = (
            _HEADERS4.unpack_from(packet)
        )
    elif len(packet) >= _HEADERS6.size and packet[0] >> 4 == _FIRST_OF_IPV6:
        _, protocol, source, destination, sport, dport, number, acknowledged, flags = (
            _HEADERS6.unpack_from(packet)
        )
    if protocol == TCP:
        return destination + source + dport + sport, acknowledged, flags, number
    read = ip.headers(packet)
    if read is None or read.protocol != TCP or len(packet) < read.transport + _TCP_HEADER:
        return None
    reverse = tcp.FlowKey(read.destination, read.source, read.dport, read.sport)
    (number,) = _NUMBER.unpack_from(packet, read.transport)
    return key(reverse), read.acknowledged, read.flags, number


def key(flow: tcp.FlowKey) -> bytes:
    """The key of a flow's direction."""
    return flow.source + flow.destination + _PORTS.pack(flow.sport, flow.dport)


def source_of(key: bytes) -> bytes:
    """The address and port of who sends in a key's direction."""
    size = (len(key) - _PORTS.size) // 2
    return key[:size] + key[2 * size : 2 * size + 2]
