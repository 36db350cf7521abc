"""The elements of a map of grants, as the kernel dumps them: piece by piece, however many.

Pure. libnftables would hold them all at once, several times over (390 MiB for 100,000). Formats:
linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ramfw.core.ruleset import TABLE
from ramfw.core.tablestate import FOREIGN, HeldGrant
from ramfw.core.transaction import PROTOCOLS, SERVICE_SIZE
from ramfw.wire.netlink import (
    NFGEN,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    attribute,
    attributes,
    message,
)
from ramfw.wire.nft_batch import FAMILY, VALUE

_NEW_ELEMENTS = 10 << 8 | 12
_GET_ELEMENTS = 10 << 8 | 13
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY, _DATA, _EXPIRATION, _KEY_END = 1, 2, 5, 10
_MILLISECONDS = struct.Struct("!Q")
_ID = struct.Struct("=I")
_KEY_SIZES = (4 + SERVICE_SIZE, 16 + SERVICE_SIZE)
_SERVICES = frozenset(PROTOCOLS.values())

ENDLESS = 86400
"""Seconds that an element without an end is said to have left, so that it is taken away."""

Found = tuple[bytes | None, HeldGrant]
"""The key of an element (`GrantKey.packed`; None where ramfw cannot have written it), and it."""


def request(name: str, sequence: int) -> bytes:
    """The message that asks for all elements of a map; the dump ends with NLMSG_DONE."""
    whose = attribute(_LIST_TABLE, TABLE.encode() + b"\0") + attribute(
        _LIST_SET, name.encode() + b"\0"
    )
    return message(_GET_ELEMENTS, NLM_F_REQUEST | NLM_F_DUMP, sequence, FAMILY + whose)


def is_elements(kind: int) -> bool:
    """Whether a message of this kind carries elements."""
    return kind == _NEW_ELEMENTS


def elements(buffer: bytes, start: int, end: int) -> Iterator[Found]:
    """The elements in one message of the dump, `buffer[start:end]` behind netlink's header.

    Raises ValueError where the framing is broken.
    """
    for kind, first, last in attributes(buffer, start + NFGEN.size, end):
        if kind == _LIST_ELEMENTS:
            for _, begins, ends in attributes(buffer, first, last):
                yield _element(buffer, begins, ends)


def _element(buffer: bytes, start: int, end: int) -> Found:
    parts = {kind: (first, last) for kind, first, last in attributes(buffer, start, end)}
    expiration = parts.get(_EXPIRATION)
    remaining = ENDLESS
    entry_id = FOREIGN
    if expiration is not None and expiration[1] - expiration[0] == _MILLISECONDS.size:
        # Rounded down: it is never thought to live longer than it does.
        remaining = _MILLISECONDS.unpack_from(buffer, expiration[0])[0] // 1000
        data = _value(buffer, parts.get(_DATA))
        if len(data) == _ID.size:
            entry_id = _ID.unpack(data)[0]
    key = _packed(_value(buffer, parts.get(_KEY)), _value(buffer, parts.get(_KEY_END)))
    return key, HeldGrant(entry_id, remaining)


def _packed(key: bytes, last: bytes) -> bytes | None:
    if len(key) not in _KEY_SIZES or key[-SERVICE_SIZE] not in _SERVICES:
        return None
    if not last or last == key:
        return key
    address, service = key[:-SERVICE_SIZE], key[-SERVICE_SIZE:]
    if last[-SERVICE_SIZE:] != service or len(last) != len(key):
        return None
    # A prefix: the bits that differ are the last ones, all 0 in the first and 1 in the last.
    first, end = int.from_bytes(address, "big"), int.from_bytes(last[:-SERVICE_SIZE], "big")
    differ = first ^ end
    if differ & (differ + 1) or first & differ:
        return None
    return key + bytes((8 * len(address) - differ.bit_length(),))


def _value(buffer: bytes, place: tuple[int, int] | None) -> bytes:
    """The plain value in nested data; empty where there is none."""
    if place is not None:
        for kind, first, last in attributes(buffer, *place):
            if kind == VALUE:
                return buffer[first:last]
    return b""
