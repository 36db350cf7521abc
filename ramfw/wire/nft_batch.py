"""A netlink batch of nf_tables, packed by hand: the grants of a transaction, all or nothing.

Pure. Does for elements of the maps what `nft_writer` and libnftables do, several times faster;
the kernel holds exactly the same afterwards. Formats: linux/netfilter/nfnetlink.h and
linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from ramfw.core.ruleset import TABLE
from ramfw.core.transaction import SERVICE_SIZE, AddGrant, DeleteGrant, GrantKey
from ramfw.wire.netlink import (
    ATTRIBUTE,
    HEADER,
    MAX_ATTRIBUTE,
    NFGEN,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REQUEST,
    attribute,
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

_ROOM = MAX_ATTRIBUTE - ATTRIBUTE.size
_MILLISECONDS = struct.Struct("!Q")
_PRIORITY = struct.Struct("=I")
_TIMEOUT_HEADER = ATTRIBUTE.pack(ATTRIBUTE.size + _MILLISECONDS.size, _TIMEOUT)

_BATCH = NFGEN.pack(0, 0, _SUBSYSTEM)
_FRAME = struct.Struct(f"{HEADER.format}{NFGEN.size}s")  # both headers, nfnetlink's as it is
_NUMBER_AT = 8  # where a message's header has its sequence number
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


def pack(grants: Sequence[Grant], sequence: int) -> Batch:
    """The batch of these operations, in an order that comes to the same.

    Operations on one key keep their order; in a map of ranges, where one element may stand in the
    way of another, all do. Otherwise many elements go into one message. A batch of more than some
    200 KiB (2,000 elements) needs a larger SO_SNDBUF than the usual one. Raises ValueError where
    there is no operation.
    """
    if len(grants) == 1 and isinstance(grant := grants[0], AddGrant):
        (name, key), entry_id, timeout = grant
        if len(key) in _KEY_HEADERS:
            form, (a, b, c, d, e) = _mold(name, len(key), entry_id, timeout)
            last = sequence + 1
            return Batch(form(a, sequence, b, last, c, key, d, last + 1, e), sequence, last)
    return batch(_messages(_additions(grants) or _runs(grants)), sequence)


def batch(parts: Sequence[tuple[int, int, bytes]], sequence: int) -> Batch:
    """A batch of messages (kind, flags, attributes), of which the last is answered.

    Raises ValueError where there is none.
    """
    if not parts:
        raise ValueError("a batch of nothing, which the kernel would not answer")
    last = sequence + len(parts)
    frame, size = _FRAME.pack, _FRAME.size
    packed = [frame(size, _BEGIN, NLM_F_REQUEST, sequence, 0, _BATCH)]
    for number, (kind, flags, attributes) in enumerate(parts, sequence + 1):
        asked = NLM_F_REQUEST | NLM_F_ACK if number == last else NLM_F_REQUEST
        packed += frame(size + len(attributes), kind, flags | asked, number, 0, FAMILY), attributes
    packed.append(frame(size, _END, NLM_F_REQUEST, last + 1, 0, _BATCH))
    return Batch(b"".join(packed), sequence, last)


@lru_cache
def _mold(
    name: str, size: int, entry_id: int, timeout: int
) -> tuple[Callable[..., bytes], tuple[bytes, ...]]:
    """How to pack the batch that adds one such address: only its key and the numbers differ.

    What nearly all answers open is one, and the answer waits.
    """
    before, after = _around(size, entry_id, timeout)
    whole = batch(_messages([(name, True, [before + bytes(size) + after])]), 0).data
    frame = _FRAME.size
    behind_key = len(whole) - frame - len(after)
    places = (_NUMBER_AT, frame + _NUMBER_AT, behind_key - size, len(whole) - frame + _NUMBER_AT)
    sizes = (4, 4, size, 4)
    starts = (0, *(at + taken for at, taken in zip(places, sizes, strict=True)))
    parts = tuple(
        whole[start:end] for start, end in zip(starts, (*places, len(whole)), strict=True)
    )
    a, b, c, d, e = map(len, parts)
    return struct.Struct(f"={a}sI{b}sI{c}s{size}s{d}sI{e}s").pack, parts


_Run = tuple[str, bool, list[bytes]]
"""A map, and elements that one operation adds (or deletes) there: one message, if they fit."""


def _additions(grants: Sequence[Grant]) -> list[_Run] | None:
    """The same as `_runs`, in less time, of what nearly all batches are: addresses to be added.

    None for others. An addition stands in the way of no other.
    """
    runs: dict[str, _Run] = {}
    for grant in grants:
        if not isinstance(grant, AddGrant):
            return None
        (name, packed), entry_id, timeout = grant
        if len(packed) not in _KEY_HEADERS:
            return None
        before, after = _around(len(packed), entry_id, timeout)
        run = runs.get(name)
        if run is None:
            run = runs[name] = name, True, []
        run[2].append(before + packed + after)
    return list(runs.values())


def _runs(grants: Sequence[Grant]) -> list[_Run]:
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
            runs.append((key.map, adds, []))
        latest[barrier] = candidates[index]
        if isinstance(grant, AddGrant):
            element = _element(packed, grant.entry_id, grant.timeout)
        else:
            element = ATTRIBUTE.pack(ATTRIBUTE.size + len(packed), _ELEMENT) + packed
        runs[candidates[index]][2].append(element)
    return runs


def _element(key: bytes, entry_id: int, timeout: int) -> bytes:
    """An element to be added, with its key's attributes."""
    value = key + _timeout(timeout) + _id(entry_id)
    return ATTRIBUTE.pack(ATTRIBUTE.size + len(value), _ELEMENT) + value


@lru_cache
def _around(size: int, entry_id: int, timeout: int) -> tuple[bytes, bytes]:
    """What stands before and behind the key of so many bytes in such an element."""
    header = _KEY_HEADERS[size]
    element = _element(header + bytes(size), entry_id, timeout)
    start = element.index(header) + len(header)
    return element[:start], element[start + size :]


def _messages(runs: Iterable[_Run]) -> list[tuple[int, int, bytes]]:
    found = []
    for name, adds, elements in runs:
        kind, flags = (_NEW_ELEMENTS, NLM_F_CREATE) if adds else (_DELETE_ELEMENTS, 0)
        whose = _whose(name)
        for joined in _fitting(elements):
            header = ATTRIBUTE.pack(ATTRIBUTE.size + len(joined), _LIST_ELEMENTS)
            found.append((kind, flags, whose + header + joined))
    return found


def _fitting(elements: list[bytes]) -> list[bytes]:
    """The elements joined, as many as one attribute has room for."""
    joined = b"".join(elements)
    if len(joined) <= _ROOM:
        return [joined]
    # All elements of a run have nearly the same size, so the longest decides.
    fit = _ROOM // max(map(len, elements))
    return [b"".join(elements[start : start + fit]) for start in range(0, len(elements), fit)]


def _key(key: GrantKey) -> tuple[bytes, bool]:
    """The attributes that name the element, and whether it is a range."""
    packed = key.packed
    if not key.is_range:
        return _KEY_HEADERS[len(packed)] + packed, False
    packed, last = packed[:-1], key.network.broadcast_address.packed
    service = packed[-SERVICE_SIZE:]
    return _KEY_HEADERS[len(packed)] + packed + _KEY_END_HEADERS[len(packed)] + last + service, True


def _key_headers(kind: int) -> dict[int, bytes]:
    """What stands before a key, by its size: attribute and value headers."""
    return {
        size: ATTRIBUTE.pack(2 * ATTRIBUTE.size + size, kind | NLA_F_NESTED)
        + ATTRIBUTE.pack(ATTRIBUTE.size + size, VALUE)
        for size in (4 + SERVICE_SIZE, 16 + SERVICE_SIZE)
    }


_KEY_HEADERS = _key_headers(_KEY)
_KEY_END_HEADERS = _key_headers(_KEY_END)


@lru_cache
def _timeout(seconds: int) -> bytes:
    return _TIMEOUT_HEADER + _MILLISECONDS.pack(seconds * 1000)


@cache
def _id(entry_id: int) -> bytes:
    # A packet's priority is a number of this machine's own byte order.
    return nested(_DATA, attribute(VALUE, _PRIORITY.pack(entry_id)))


@cache
def _whose(name: str) -> bytes:
    """The attributes before a list of elements: which table and which map."""
    return attribute(_LIST_TABLE, TABLE_NAME) + attribute(_LIST_SET, name.encode() + b"\0")
