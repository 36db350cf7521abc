"""A netlink batch of nf_tables, packed by hand: the grants of a transaction, all or nothing.

Pure. Does for elements of the maps what `nft_writer` and libnftables do, several times faster;
the kernel holds exactly the same afterwards. Formats: linux/netfilter/nfnetlink.h and
linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from ramfw.core.ruleset import TABLE
from ramfw.core.transaction import AddGrant, DeleteGrant, GrantKey
from ramfw.wire.netlink import (
    ATTRIBUTE,
    MAX_ATTRIBUTE,
    NFGEN,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    attribute,
    message,
    nested,
)

Grant = AddGrant | DeleteGrant

VALUE = 1
"""The attribute of data that is a plain value (NFTA_DATA_VALUE)."""

_BEGIN, _END = 16, 17
_SUBSYSTEM = 10
_NFPROTO_INET = 1
_NEW_ELEMENTS = _SUBSYSTEM << 8 | 12
_DELETE_ELEMENTS = _SUBSYSTEM << 8 | 14

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3 | NLA_F_NESTED
_ELEMENT = 1 | NLA_F_NESTED
_KEY, _DATA, _TIMEOUT, _KEY_END = 1, 2, 4, 10
_VERDICT = 2
_CODE, _CHAIN = 1, 2

_PROTOCOLS = {"tcp": 6, "udp": 17}
# A field of a concatenation fills whole registers of four bytes.
_SERVICE = struct.Struct("!B3xH2x")
_MILLISECONDS = struct.Struct("!Q")
_PRIORITY = struct.Struct("=I")
_CODE_VALUE = struct.Struct("!i")
_TIMEOUT_HEADER = ATTRIBUTE.pack(ATTRIBUTE.size + _MILLISECONDS.size, _TIMEOUT)

_BATCH = NFGEN.pack(0, 0, _SUBSYSTEM)
FAMILY = NFGEN.pack(_NFPROTO_INET, 0, 0)
"""nfnetlink's header of each message: the table is of the family inet."""

TABLE_NAME = TABLE.encode() + b"\0"


class Batch(NamedTuple):
    """A batch, to be sent as one datagram, and which answers end the waiting for it.

    The kernel answers message `last` when the batch is committed or refused, after the errors of
    other messages; an error with number `first` stands for the whole and may come alone. It was
    committed if and only if no answer has an errno (see `netlink.errors`).
    """

    data: bytes
    first: int
    last: int


def pack(grants: Iterable[Grant], sequence: int) -> Batch:
    """The batch of these operations, in an order that comes to the same.

    Operations on one key keep their order; in a map of ranges, where one element may stand in the
    way of another, all do. Otherwise many elements go into one message. A batch of more than some
    200 KiB (2,000 elements) needs a larger SO_SNDBUF than the usual one. Raises ValueError where
    there is no operation.
    """
    return batch(_messages(_runs(grants)), sequence)


def batch(parts: Iterable[tuple[int, int, bytes]], sequence: int) -> Batch:
    """A batch of messages (kind, flags, attributes), of which the last is answered.

    Raises ValueError where there is none.
    """
    packed = [message(_BEGIN, NLM_F_REQUEST, sequence, _BATCH)]
    waiting = list(parts)
    if not waiting:
        raise ValueError("a batch of nothing, which the kernel would not answer")
    last = sequence + len(waiting)
    for number, (kind, flags, attributes) in enumerate(waiting, sequence + 1):
        asked = NLM_F_REQUEST | NLM_F_ACK if number == last else NLM_F_REQUEST
        packed.append(message(kind, flags | asked, number, FAMILY + attributes))
    packed.append(message(_END, NLM_F_REQUEST, last + 1, _BATCH))
    return Batch(b"".join(packed), sequence, last)


def verdict_data(kind: int, code: int, chain: str = "") -> bytes:
    """The attribute `kind` with a verdict as its data: a code, and the chain of a jump."""
    name = attribute(_CHAIN, chain.encode() + b"\0") if chain else b""
    return nested(kind, nested(_VERDICT, attribute(_CODE, _CODE_VALUE.pack(code)), name))


class _Run:
    """Elements of one map that one operation adds or deletes: one message, if they fit."""

    def __init__(self, name: str, *, adds: bool) -> None:
        self.name = name
        self.adds = adds
        self.elements: list[bytes] = []


def _runs(grants: Iterable[Grant]) -> list[_Run]:
    """The operations, gathered into as few runs as their order allows."""
    runs: list[_Run] = []
    of_kind: dict[tuple[str, bool], list[int]] = {}
    latest: dict[tuple[str, bytes], int] = {}  # the run of the last operation on a key
    for grant in grants:
        key = grant.key
        packed, is_range = _key(key)
        barrier = key.map, b"" if is_range else packed
        adds = isinstance(grant, AddGrant)
        candidates = of_kind.setdefault((key.map, adds), [])
        index = bisect_left(candidates, latest.get(barrier, 0))
        if index == len(candidates):
            candidates.append(len(runs))
            runs.append(_Run(key.map, adds=adds))
        latest[barrier] = candidates[index]
        if isinstance(grant, AddGrant):
            packed += _TIMEOUT_HEADER + _MILLISECONDS.pack(grant.timeout * 1000)
            packed += _id(grant.entry_id)
        element = ATTRIBUTE.pack(ATTRIBUTE.size + len(packed), _ELEMENT) + packed
        runs[candidates[index]].elements.append(element)
    return runs


def _messages(runs: Iterable[_Run]) -> Iterator[tuple[int, int, bytes]]:
    for run in runs:
        kind, flags = (_NEW_ELEMENTS, NLM_F_CREATE) if run.adds else (_DELETE_ELEMENTS, 0)
        whose = _whose(run.name)
        # All elements of a run have nearly the same size, so the longest decides.
        fit = (MAX_ATTRIBUTE - ATTRIBUTE.size) // max(map(len, run.elements))
        for start in range(0, len(run.elements), fit):
            elements = b"".join(run.elements[start : start + fit])
            yield kind, flags, whose + attribute(_LIST_ELEMENTS, elements)


def _key(key: GrantKey) -> tuple[bytes, bool]:
    """The attributes that name the element, and whether it is a range."""
    network = key.network
    service = _service(key.protocol, key.port)
    first = network.network_address.packed
    header = _KEY_HEADERS[len(first)]
    if network.prefixlen == network.max_prefixlen:
        return header + first + service, False
    last = network.broadcast_address.packed
    return header + first + service + _KEY_END_HEADERS[len(last)] + last + service, True


def _key_headers(kind: int) -> dict[int, bytes]:
    """What stands before an address, by the address's size: attribute and value headers."""
    value = ATTRIBUTE.size + _SERVICE.size
    return {
        size: ATTRIBUTE.pack(ATTRIBUTE.size + value + size, kind | NLA_F_NESTED)
        + ATTRIBUTE.pack(value + size, VALUE)
        for size in (4, 16)
    }


_KEY_HEADERS = _key_headers(_KEY)
_KEY_END_HEADERS = _key_headers(_KEY_END)


@cache
def _service(protocol: str, port: int) -> bytes:
    return _SERVICE.pack(_PROTOCOLS[protocol], port)


@cache
def _id(entry_id: int) -> bytes:
    # A packet's priority is a number of this machine's own byte order.
    return nested(_DATA, attribute(VALUE, _PRIORITY.pack(entry_id)))


@cache
def _whose(name: str) -> bytes:
    """The attributes before a list of elements: which table and which map."""
    return attribute(_LIST_TABLE, TABLE_NAME) + attribute(_LIST_SET, name.encode() + b"\0")
