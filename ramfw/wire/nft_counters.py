"""Counters of ramfw's table, as the kernel dumps them: named ones, and those of a set's elements.

Pure. nft would print them as JSON, of which 10,000 make 10 MiB of Python's values for a moment.
Formats: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ramfw.core.ruleset import TABLE
from ramfw.core.tablestate import Count
from ramfw.wire.netlink import NFGEN, NLM_F_DUMP, NLM_F_REQUEST, attribute, attributes, message, u32
from ramfw.wire.nft_batch import FAMILY, VALUE

_NEW_ELEMENTS, _GET_ELEMENTS = 10 << 8 | 12, 10 << 8 | 13
_NEW_OBJECT, _GET_OBJECT = 10 << 8 | 18, 10 << 8 | 19
_OBJECT_TABLE, _OBJECT_NAME, _OBJECT_TYPE, _OBJECT_DATA = 1, 2, 3, 4
_COUNTER_OBJECT = 1
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_KEY, _EXPRESSION = 1, 7
_EXPRESSION_NAME, _EXPRESSION_DATA = 1, 2
_COUNT = struct.Struct("!Q")


def request_counters(sequence: int) -> bytes:
    """The message that asks for all named counters of the table."""
    whose = attribute(_OBJECT_TABLE, TABLE.encode() + b"\0") + u32(_OBJECT_TYPE, _COUNTER_OBJECT)
    return message(_GET_OBJECT, NLM_F_REQUEST | NLM_F_DUMP, sequence, FAMILY + whose)


def request_elements(name: str, sequence: int) -> bytes:
    """The message that asks for all elements of a set."""
    table, named = TABLE.encode() + b"\0", name.encode() + b"\0"
    whose = attribute(_LIST_TABLE, table) + attribute(_LIST_SET, named)
    return message(_GET_ELEMENTS, NLM_F_REQUEST | NLM_F_DUMP, sequence, FAMILY + whose)


def counters(kind: int, buffer: bytes, start: int, end: int) -> Iterator[tuple[str, Count]]:
    """The counter in one message of the dump, by name; raises ValueError at broken framing."""
    if kind == _NEW_OBJECT:
        found = {k: (a, b) for k, a, b in attributes(buffer, start + NFGEN.size, end)}
        name, data = found.get(_OBJECT_NAME), found.get(_OBJECT_DATA)
        if name is not None and data is not None:
            yield (
                buffer[slice(*name)].rstrip(b"\0").decode("ascii", "replace"),
                _count(buffer, data),
            )


def elements(kind: int, buffer: bytes, start: int, end: int) -> Iterator[tuple[bytes, Count]]:
    """The elements in one message of the dump: each key's bytes, and what the element counted."""
    if kind != _NEW_ELEMENTS:
        return
    for part, first, last in attributes(buffer, start + NFGEN.size, end):
        if part == _LIST_ELEMENTS:
            for _, begins, ends in attributes(buffer, first, last):
                found = {k: (a, b) for k, a, b in attributes(buffer, begins, ends)}
                if _KEY in found:
                    yield _plain(buffer, found[_KEY]), _counted(buffer, found.get(_EXPRESSION))


def _plain(buffer: bytes, place: tuple[int, int]) -> bytes:
    values = (buffer[a:b] for kind, a, b in attributes(buffer, *place) if kind == VALUE)
    return next(values, b"")


def _counted(buffer: bytes, place: tuple[int, int] | None) -> Count:
    if place is None:
        return Count()
    found = {kind: (a, b) for kind, a, b in attributes(buffer, *place)}
    name, data = found.get(_EXPRESSION_NAME), found.get(_EXPRESSION_DATA)
    if name is None or data is None or buffer[slice(*name)] != b"counter\0":
        return Count()
    return _count(buffer, data)


def _count(buffer: bytes, place: tuple[int, int]) -> Count:
    found = {
        kind: _COUNT.unpack_from(buffer, first)[0]
        for kind, first, last in attributes(buffer, *place)
        if last - first == _COUNT.size
    }
    return Count(found.get(_COUNTER_PACKETS, 0), found.get(_COUNTER_BYTES, 0))
