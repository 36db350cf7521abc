"""Codec of nfnetlink's conntrack messages: a dump request, and what the kernel answers.

Pure: bytes in, values out, no socket. Bytes that break the rules raise ValueError and nothing
else, and every walk ends. Positions instead of slices, since a conntrack dump is megabytes.
Formats: linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

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
    error_number,
    message,
    messages,
)

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
    "is_flow",
    "messages",
]

CTA_MARK = 8

_SUBSYS_CTNETLINK = 1
_CT_NEW = _SUBSYS_CTNETLINK << 8
_CT_GET = _SUBSYS_CTNETLINK << 8 | 1


def conntrack_dump_request(sequence: int) -> bytes:
    """The request for all flows of this network namespace, IPv4 and IPv6."""
    return message(_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, sequence, NFGEN.pack(0, 0, 0))


def is_flow(message: Message) -> bool:
    """Whether the message describes a flow of the conntrack table."""
    return message.kind == _CT_NEW


def flow_mark(buffer: bytes, message: Message) -> int:
    """The ct mark of the flow that the message describes; 0 where it has none.

    Raises ValueError where the message is malformed up to its mark.
    """
    position, end = message.start + NFGEN.size, message.end
    unpack = ATTRIBUTE.unpack_from
    while position < end:
        if end - position < ATTRIBUTE.size:
            raise ValueError(f"netlink attribute cut short at byte {position}")
        length, kind = unpack(buffer, position)
        if length < ATTRIBUTE.size or position + length > end:
            raise ValueError(f"netlink attribute of {length} bytes at byte {position}")
        if kind & NLA_TYPE_MASK == CTA_MARK:
            if length != ATTRIBUTE.size + U32.size:
                raise ValueError("a ct mark that is not 4 bytes long")
            return int(U32.unpack_from(buffer, position + ATTRIBUTE.size)[0])
        position += align(length)
    return 0
