"""Codec of NFLOG: copies of packets, which the kernel does not hold.

Pure. The formats are those of linux/netfilter/nfnetlink_log.h. A group is bound by one socket,
with `bind`; from then on the kernel sends it a copy of each packet that a rule logs to the group.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ramfw.wire.netlink import (
    ATTRIBUTE,
    NFGEN,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_REQUEST,
    U32,
    Layouts,
    attribute,
    message,
    messages,
    u32,
)

_PACKET = 4 << 8
_CONFIG = 4 << 8 | 1

_PACKET_HDR, _MARK, _INDEV, _OUTDEV, _PAYLOAD, _PREFIX, _UID = 1, 2, 4, 5, 9, 10, 11

_CFG_CMD, _CFG_MODE, _CFG_TIMEOUT, _CFG_THRESHOLD = 1, 2, 4, 5
_BIND, _UNBIND = 1, 2
_COPY_PACKET = 2

_MODE = struct.Struct("!IBx")


class Logged(NamedTuple):
    """A copy of a packet, from its IP header on, cut where the group's range ends.

    `prefix` is what the rule wrote. `indev` and `outdev` are interface indexes, 0 for none. `uid`
    is whose socket sent it, -1 where the kernel knows none.
    """

    hook: int
    mark: int
    indev: int
    outdev: int
    prefix: bytes
    payload: bytes
    uid: int = -1


def bind(group: int, *, copy_range: int, sequence: int) -> bytes:
    """The message that binds a group to the socket; the kernel answers it.

    Each packet is sent at once, by itself (a threshold of one). EPERM: another socket has the
    group.
    """
    return _config(
        group,
        sequence,
        attribute(_CFG_CMD, bytes((_BIND,))),
        attribute(_CFG_MODE, _MODE.pack(copy_range, _COPY_PACKET)),
        u32(_CFG_TIMEOUT, 1),  # in hundredths of a second
        u32(_CFG_THRESHOLD, 1),
    )


def unbind(group: int, *, sequence: int) -> bytes:
    """The message that gives the group back. Answered."""
    return _config(group, sequence, attribute(_CFG_CMD, bytes((_UNBIND,))))


def packets(buffer: bytes) -> list[Logged]:
    """The packets in one datagram; other messages are passed over.

    Raises ValueError where the framing is broken.
    """
    return [
        _packet(buffer, start + NFGEN.size, end)
        for kind, _flags, _sequence, start, end in messages(buffer)
        if kind == _PACKET
    ]


class Reader:
    """Reads the payload of packets: what `packets` says of them, in less time."""

    def __init__(self) -> None:
        self._layouts = Layouts(_PACKET, _PAYLOAD)

    def payloads(self, buffer: memoryview, size: int) -> list[bytes]:
        """Of each packet in the datagram `buffer[:size]`.

        Raises ValueError where the framing is broken.
        """
        found = self._layouts.find(buffer, size)
        if found is not None:
            start, end, _ = found
            return [bytes(buffer[start:end])]
        datagram = bytes(buffer[:size])
        read = [copied.payload for copied in packets(datagram)]
        if read:
            self._layouts.teach(datagram)
        return read


def _config(group: int, sequence: int, *attributes: bytes) -> bytes:
    payload = NFGEN.pack(0, 0, group) + b"".join(attributes)
    return message(_CONFIG, NLM_F_REQUEST | NLM_F_ACK, sequence, payload)


def _packet(buffer: bytes, position: int, end: int) -> Logged:
    numbers = {_PACKET_HDR: 0, _MARK: 0, _INDEV: 0, _OUTDEV: 0, _UID: -1}
    prefix = payload = b""
    header, number = ATTRIBUTE.unpack_from, U32.unpack_from
    while end - position >= 4:  # noqa: PLR2004 - an attribute's header
        size, kind = header(buffer, position)
        if size < 4 or position + size > end:  # noqa: PLR2004 - the same
            raise ValueError(f"netlink attribute of {size} bytes at byte {position}")
        kind &= NLA_TYPE_MASK
        if kind in numbers:
            if size < 8:  # noqa: PLR2004 - header and four bytes
                raise ValueError(f"netlink attribute of {size} bytes at byte {position}")
            (numbers[kind],) = number(buffer, position + 4)
        elif kind == _PAYLOAD:
            payload = bytes(buffer[position + 4 : position + size])
        elif kind == _PREFIX:
            prefix = bytes(buffer[position + 4 : position + size]).rstrip(b"\0")
        position += (size + 3) & ~3
    packet, mark, indev, outdev, uid = numbers.values()
    return Logged(packet >> 8 & 0xFF, mark, indev, outdev, prefix, payload, uid)
