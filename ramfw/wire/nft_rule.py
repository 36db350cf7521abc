"""Rules of nf_tables that nft's text cannot say, packed by hand: those with an xt NFQUEUE target.

Pure. Where a kernel lacks the native `queue` expression, the xt target does the same in a table
of one's own, through nft_compat. The other statements are here only as far as such a rule needs
them; each is named as nft(8) writes it, and becomes the same expressions as nft makes of it.
Formats: linux/netfilter/nf_tables.h, nf_tables_compat.h, xt_NFQUEUE.h.
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
from ramfw.wire.nft_batch import TABLE_NAME, VALUE, verdict_data

DROP = 0
ACCEPT = 1
JUMP = -3
GOTO = -4

NFPROTO_IPV4 = 2
NFPROTO_IPV6 = 10

ORIGINAL = 0
REPLY = 1

_NEW_RULE = 10 << 8 | 6
_GET_COMPAT = 11 << 8
_COMPAT_TARGET = 1
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEMENT = 1
_NAME, _DATA = 1, 2

_REGISTER = 1
_VERDICT_REGISTER = 0

_META_NFPROTO, _META_L4PROTO, _META_IIFNAME, _META_OIFNAME = 15, 16, 6, 7
_CT_DIRECTION = 1
_SOCKET_CGROUPV2 = 3
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_EQUAL = 0
_INVERT = 1
_COUNTER = 1
_BYPASS = 1

# queuenum, queues_total, flags; xt data is padded to eight bytes.
_NFQUEUE = struct.Struct("=HHH2x")
_NFQUEUE_REVISION = 3
_PORT = struct.Struct("!H")

# Where addresses stand in their header: offset and length.
_SOURCE = {NFPROTO_IPV4: (12, 4), NFPROTO_IPV6: (8, 16)}


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
    return message(_GET_COMPAT, NLM_F_REQUEST, sequence, NFGEN.pack(NFPROTO_IPV4, 0, 0) + target)


def xt_nfqueue(queue: int, *, bypass: bool) -> bytes:
    """`queue` by the xt target: hand the packet to a listener; with `bypass`, go on without one."""
    info = _NFQUEUE.pack(queue, 1, _BYPASS if bypass else 0)
    return _expression(
        "target", _string(1, "NFQUEUE"), u32(2, _NFQUEUE_REVISION), attribute(3, info)
    )


def protocol(number: int) -> bytes:
    """`meta l4proto`, as 6 for TCP."""
    return _meta(_META_L4PROTO) + _compare(bytes((number,)))


def source_port(port: int) -> bytes:
    """`th sport`; behind `protocol`, as nft writes it."""
    return _payload(_TRANSPORT_HEADER, 0, 2) + _compare(_PORT.pack(port))


def source_in(family: int, name: str) -> bytes:
    """`ip saddr @name`, or `ip6 saddr`, by family (NFPROTO_IPV4, NFPROTO_IPV6)."""
    loaded = _payload(_NETWORK_HEADER, *_SOURCE[family])
    return _meta(_META_NFPROTO) + _compare(bytes((family,))) + loaded + _lookup(name)


def direction(value: int) -> bytes:
    """`ct direction`: ORIGINAL or REPLY."""
    loaded = _expression("ct", u32(1, _REGISTER), u32(2, _CT_DIRECTION))
    return loaded + _compare(bytes((value,)))


def cgroup_in(level: int, name: str) -> bytes:
    """`socket cgroupv2 level N @name`."""
    key = u32(1, _SOCKET_CGROUPV2)
    return _expression("socket", key, u32(2, _REGISTER), u32(3, level)) + _lookup(name)


def input_interface_in(name: str, *, negated: bool = False) -> bytes:
    """`iifname @name`, or `iifname != @name`."""
    return _meta(_META_IIFNAME) + _lookup(name, negated=negated)


def output_interface_in(name: str, *, negated: bool = False) -> bytes:
    """`oifname @name`, or `oifname != @name`."""
    return _meta(_META_OIFNAME) + _lookup(name, negated=negated)


def count(counter: str) -> bytes:
    """`counter name "..."`."""
    return _expression("objref", u32(1, _COUNTER), _string(2, counter))


def verdict(code: int, chain: str = "") -> bytes:
    """`accept`, `drop`, or `jump` and `goto` to a chain."""
    return _expression("immediate", u32(1, _VERDICT_REGISTER), verdict_data(2, code, chain))


def _meta(key: int) -> bytes:
    return _expression("meta", u32(1, _REGISTER), u32(2, key))


def _payload(base: int, offset: int, length: int) -> bytes:
    place = u32(2, base) + u32(3, offset) + u32(4, length)
    return _expression("payload", u32(1, _REGISTER), place)


def _compare(value: bytes) -> bytes:
    data = nested(3, attribute(VALUE, value))
    return _expression("cmp", u32(1, _REGISTER), u32(2, _EQUAL), data)


def _lookup(name: str, *, negated: bool = False) -> bytes:
    flags = u32(5, _INVERT) if negated else b""
    return _expression("lookup", _string(1, name), u32(2, _REGISTER), flags)


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(_LIST_ELEMENT, _string(_NAME, name), nested(_DATA, *attributes))


def _string(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")
