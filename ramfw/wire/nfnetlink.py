"""Codec of nfnetlink messages: a conntrack dump request, and what the kernel answers.

Pure: bytes in, values out, no socket. Bytes that break the rules raise ValueError and nothing
else, and every walk ends. Positions instead of slices, since a conntrack dump is megabytes.
Formats: linux/netlink.h, linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x001
NLM_F_DUMP_INTR = 0x010
NLM_F_DUMP = 0x300

CTA_MARK = 8

_SUBSYS_CTNETLINK = 1
_CT_NEW = _SUBSYS_CTNETLINK << 8
_CT_GET = _SUBSYS_CTNETLINK << 8 | 1

# Bits of an attribute's type that say how its value is packed (nested, network byte order).
_ATTRIBUTE_TYPE = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_NFGEN = struct.Struct("!BBH")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("!I")
_ERRNO = struct.Struct("=i")


class Message(NamedTuple):
    """One netlink message; its payload is buffer[start:end]."""

    kind: int
    flags: int
    sequence: int
    start: int
    end: int


def conntrack_dump_request(sequence: int) -> bytes:
    """The request for all flows of this network namespace, IPv4 and IPv6."""
    payload = _NFGEN.pack(0, 0, 0)
    flags = NLM_F_REQUEST | NLM_F_DUMP
    return _HEADER.pack(_HEADER.size + len(payload), _CT_GET, flags, sequence, 0) + payload


def messages(buffer: bytes) -> Iterator[Message]:
    """The messages of one datagram, in order.

    Raises ValueError at a header that is cut short or whose length leaves the buffer.
    """
    position, size = 0, len(buffer)
    while position < size:
        if size - position < _HEADER.size:
            raise ValueError(f"netlink header cut short at byte {position}")
        length, kind, flags, sequence, _port = _HEADER.unpack_from(buffer, position)
        end = position + length
        if length < _HEADER.size or end > size:
            raise ValueError(f"netlink message of {length} bytes at byte {position} of {size}")
        yield Message(kind, flags, sequence, position + _HEADER.size, end)
        position += _align(length)


def is_flow(message: Message) -> bool:
    """Whether the message describes a flow of the conntrack table."""
    return message.kind == _CT_NEW


def flow_mark(buffer: bytes, message: Message) -> int:
    """The ct mark of the flow that the message describes; 0 where it has none.

    Raises ValueError where the message is malformed up to its mark.
    """
    position, end = message.start + _NFGEN.size, message.end
    unpack = _ATTRIBUTE.unpack_from
    while position < end:
        if end - position < _ATTRIBUTE.size:
            raise ValueError(f"netlink attribute cut short at byte {position}")
        length, kind = unpack(buffer, position)
        if length < _ATTRIBUTE.size or position + length > end:
            raise ValueError(f"netlink attribute of {length} bytes at byte {position}")
        if kind & _ATTRIBUTE_TYPE == CTA_MARK:
            if length != _ATTRIBUTE.size + _U32.size:
                raise ValueError("a ct mark that is not 4 bytes long")
            return int(_U32.unpack_from(buffer, position + _ATTRIBUTE.size)[0])
        position += _align(length)
    return 0


def error_number(buffer: bytes, message: Message) -> int:
    """The errno in an NLMSG_ERROR or NLMSG_DONE message, positive; 0 is success.

    Raises ValueError where the message has none.
    """
    if message.end - message.start < _ERRNO.size:
        raise ValueError("a netlink error message without an errno")
    return -int(_ERRNO.unpack_from(buffer, message.start)[0])


def _align(length: int) -> int:
    return (length + 3) & ~3
