"""Rules of nf_tables that nft's text cannot say, packed by hand.

Pure. nft 1.1 does not write a field into a packet's priority, though it lists that. And where a
kernel lacks the native `queue` expression, the xt target does the same in a table of one's own,
through nft_compat. Beside it such a rule only counts: all else is matched in the chain that leads
to it. Formats: linux/netfilter/nf_tables.h, nf_tables_compat.h, xt_NFQUEUE.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from ramfw.wire.netlink import (
    NFGEN,
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    attribute,
    message,
    nested,
    u32,
)
from ramfw.wire.nft_batch import TABLE_NAME
from ramfw.wire.packet import TCP

_NEW_RULE = 10 << 8 | 6
_GET_COMPAT = 11 << 8
_COMPAT_TARGET = 1
_NFPROTO_IPV4 = 2
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT = 1
_NAME, _DATA = 1, 2

_REGISTER = 1
_META_DREG, _META_KEY, _META_SREG, _PRIORITY, _L4PROTO = 1, 2, 3, 2, 16
_CMP_SREG, _CMP_OP, _CMP_DATA, _EQUAL, _VALUE = 1, 2, 3, 0, 1
_PAYLOAD_DREG, _PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LENGTH = 1, 2, 3, 4
_TRANSPORT = 2
_ACKSEQ = 8

_COUNTER = 1
_BYPASS = 1

# queuenum, queues_total, flags; xt data is padded to eight bytes.
_NFQUEUE = struct.Struct("=HHH2x")
_NFQUEUE_REVISION = 3


def append(chain: str, expressions: Iterable[bytes]) -> tuple[int, int, bytes]:
    """The message, as a part of `nft_batch.batch`, that appends a rule to a chain of the table."""
    attributes = (
        attribute(_RULE_TABLE, TABLE_NAME)
        + _string(_RULE_CHAIN, chain)
        + nested(_RULE_EXPRESSIONS, *expressions)
    )
    return _NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, attributes


def ask_for_nfqueue(sequence: int) -> bytes:
    """The question whether the kernel has the xt target; an answer with an errno says no.

    See nfnl_compat_get_rcu in net/netfilter/nft_compat.c.
    """
    target = _string(1, "NFQUEUE") + u32(2, _NFQUEUE_REVISION) + u32(3, _COMPAT_TARGET)
    return message(_GET_COMPAT, NLM_F_REQUEST, sequence, NFGEN.pack(_NFPROTO_IPV4, 0, 0) + target)


def xt_nfqueue(queue: int, *, bypass: bool) -> bytes:
    """`queue` by the xt target: hand the packet to a listener; with `bypass`, go on without one."""
    info = _NFQUEUE.pack(queue, 1, _BYPASS if bypass else 0)
    return _expression(
        "target", _string(1, "NFQUEUE"), u32(2, _NFQUEUE_REVISION), attribute(3, info)
    )


def count(counter: str) -> bytes:
    """`counter name "..."`."""
    return _expression("objref", u32(1, _COUNTER), _string(2, counter))


def acknowledged_to_priority() -> bytes:
    """`meta priority set tcp ackseq`: its four bytes as they are, in network order.

    So as a number of this machine they are in its own order only where that is the network's.
    """
    return (
        _expression("meta", u32(_META_DREG, _REGISTER), u32(_META_KEY, _L4PROTO))
        + _expression(
            "cmp",
            u32(_CMP_SREG, _REGISTER),
            u32(_CMP_OP, _EQUAL),
            nested(_CMP_DATA, attribute(_VALUE, bytes((TCP,)))),
        )
        + _expression(
            "payload",
            u32(_PAYLOAD_DREG, _REGISTER),
            u32(_PAYLOAD_BASE, _TRANSPORT),
            u32(_PAYLOAD_OFFSET, _ACKSEQ),
            u32(_PAYLOAD_LENGTH, 4),
        )
        + _expression("meta", u32(_META_KEY, _PRIORITY), u32(_META_SREG, _REGISTER))
    )


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(_LIST_ELEMENT, _string(_NAME, name), nested(_DATA, *attributes))


def _string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")
