"""Codec of nfnetlink's conntrack messages: requests for all flows or one, and their answers.

Pure: bytes in, values out, no socket. Bytes that break the rules raise ValueError and nothing
else, and every walk ends. Positions instead of slices, since a conntrack dump is megabytes.
Formats: linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ramfw.wire.netlink import (
    ATTRIBUTE,
    NFGEN,
    NLA_TYPE_MASK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    U32,
    Message,
    align,
    attribute,
    error_number,
    message,
    messages,
    nested,
)
from ramfw.wire.packet import TCP
from ramfw.wire.tcp import FlowKey

__all__ = [
    "CTA_MARK",
    "NLMSG_DONE",
    "NLMSG_ERROR",
    "NLM_F_DUMP",
    "NLM_F_DUMP_INTR",
    "NLM_F_REQUEST",
    "conntrack_dump_request",
    "error_number",
    "flow_mark",
    "flow_request",
    "is_flow",
    "messages",
    "original_of",
    "reply_of",
]

CTA_MARK = 8

_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_IPV4, _IPV6 = (1, 2), (3, 4)
"""The attributes of a source and a destination."""
_AF_INET, _AF_INET6 = 2, 10
_PORT = struct.Struct("!H")

_SUBSYS_CTNETLINK = 1
_CT_NEW = _SUBSYS_CTNETLINK << 8
_CT_GET = _SUBSYS_CTNETLINK << 8 | 1


def conntrack_dump_request(sequence: int) -> bytes:
    """The request for all flows of this network namespace, IPv4 and IPv6."""
    return message(_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, NFGEN.pack(0, 0, 0))


def flow_request(flow: FlowKey, sequence: int) -> bytes:
    """The request for one TCP flow, by the packets of either side as they come, before any NAT.

    The kernel answers with the flow, or with ENOENT.
    """
    is_ipv4 = len(flow.source) == 4  # noqa: PLR2004 - the bytes of an address
    source, destination = _IPV4 if is_ipv4 else _IPV6
    of_flow = nested(
        _TUPLE_ORIG,
        nested(_TUPLE_IP, attribute(source, flow.source), attribute(destination, flow.destination)),
        nested(
            _TUPLE_PROTO,
            attribute(_PROTO_NUM, bytes((TCP,))),
            attribute(_PROTO_SRC_PORT, _PORT.pack(flow.sport)),
            attribute(_PROTO_DST_PORT, _PORT.pack(flow.dport)),
        ),
    )
    family = _AF_INET if is_ipv4 else _AF_INET6
    return message(_CT_GET, NLM_F_REQUEST, sequence, NFGEN.pack(family, 0, 0) + of_flow)


def original_of(buffer: bytes, message: Message) -> FlowKey | None:
    """The client's packets of the flow as it sends them, whatever NAT does to them.

    Raises ValueError where the message is malformed.
    """
    return _direction(buffer, message, _TUPLE_ORIG)


def reply_of(buffer: bytes, message: Message) -> FlowKey | None:
    """The server's packets of the flow as they come from the wire, whatever NAT does to them.

    Raises ValueError where the message is malformed.
    """
    return _direction(buffer, message, _TUPLE_REPLY)


def _direction(buffer: bytes, message: Message, wanted: int) -> FlowKey | None:
    for kind, start, end in _attributes(buffer, message.start + NFGEN.size, message.end):
        if kind == wanted:
            return _tuple(buffer, start, end)
    return None


def _tuple(buffer: bytes, start: int, end: int) -> FlowKey | None:
    parts = {kind: (first, last) for kind, first, last in _attributes(buffer, start, end)}
    if not {_TUPLE_IP, _TUPLE_PROTO} <= parts.keys():
        return None
    ends, ports = (
        {kind: buffer[first:last] for kind, first, last in _attributes(buffer, *parts[part])}
        for part in (_TUPLE_IP, _TUPLE_PROTO)
    )
    for (source, destination), size in ((_IPV4, 4), (_IPV6, 16)):
        addresses = ends.get(source, b""), ends.get(destination, b"")
        found = ports.get(_PROTO_SRC_PORT, b""), ports.get(_PROTO_DST_PORT, b"")
        sizes = [len(one) for one in (*addresses, *found)]
        if sizes == [size, size, _PORT.size, _PORT.size]:
            return FlowKey(*addresses, *(int.from_bytes(one, "big") for one in found))
    return None


def _attributes(buffer: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Type, and where the value begins and ends, of each attribute."""
    while position < end:
        if end - position < ATTRIBUTE.size:
            raise ValueError(f"netlink attribute cut short at byte {position}")
        length, kind = ATTRIBUTE.unpack_from(buffer, position)
        if length < ATTRIBUTE.size or position + length > end:
            raise ValueError(f"netlink attribute of {length} bytes at byte {position}")
        yield kind & NLA_TYPE_MASK, position + ATTRIBUTE.size, position + length
        position += align(length)


def is_flow(message: Message) -> bool:
    """Whether the message describes a flow of the conntrack table."""
    return message.kind == _CT_NEW


def flow_mark(buffer: bytes, message: Message) -> int:
    """The ct mark of the flow that the message describes; 0 where it has none.

    Raises ValueError where the message is malformed up to its mark.
    """
    for kind, start, end in _attributes(buffer, message.start + NFGEN.size, message.end):
        if kind == CTA_MARK:
            if end - start != U32.size:
                raise ValueError("a ct mark that is not 4 bytes long")
            return int(U32.unpack_from(buffer, start)[0])
    return 0
