"""Counters as the kernel dumps them; the kernel itself is in tests/lab."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.tablestate import Count
from ramfw.wire import nft_counters
from ramfw.wire.netlink import HEADER, NFGEN, attribute, nested
from ramfw.wire.nft_counters import counters, elements

OBJECT, ELEMENTS = 10 << 8 | 18, 10 << 8 | 12


def amount(number: int) -> bytes:
    return struct.pack("!Q", number)


def counter(packets: int, size: int) -> tuple[bytes, bytes]:
    return attribute(1, amount(size)), attribute(2, amount(packets))


def named(name: str, packets: int, size: int) -> bytes:
    return (
        bytes(NFGEN.size)
        + attribute(1, b"ramfw\0")
        + attribute(2, name.encode() + b"\0")
        + nested(4, *counter(packets, size))
    )


def element(key: bytes, *more: bytes) -> bytes:
    return nested(1, nested(1, attribute(1, key)), *more)


def test_a_named_counter_is_read() -> None:
    told = named("entry_16", 5, 300)
    assert list(counters(OBJECT, told, 0, len(told))) == [("entry_16", Count(5, 300))]
    assert list(counters(ELEMENTS, told, 0, len(told))) == []


def test_what_elements_counted_is_read_with_their_keys() -> None:
    counted = nested(7, attribute(1, b"counter\0"), nested(2, *counter(2, 99)))
    other = nested(7, attribute(1, b"quota\0"), nested(2, *counter(2, 99)))
    listed = nested(3, element(b"\x10\0\0\0", counted), element(b"a"), element(b"b", other))
    told = bytes(NFGEN.size) + attribute(2, b"live\0") + listed
    assert list(elements(ELEMENTS, told, 0, len(told))) == [
        (b"\x10\0\0\0", Count(2, 99)),
        (b"a", Count()),
        (b"b", Count()),
    ]
    assert list(elements(OBJECT, told, 0, len(told))) == []


def test_requests_name_the_table_and_the_set() -> None:
    for request in (nft_counters.request_counters(7), nft_counters.request_elements("live", 7)):
        length, _, flags, sequence, _ = HEADER.unpack_from(request)
        assert (length, flags, sequence) == (len(request), 0x301, 7)
        assert b"ramfw\0" in request
    assert b"live\0" in nft_counters.request_elements("live", 7)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(told: bytes) -> None:
    for read, kind in ((counters, OBJECT), (elements, ELEMENTS)):
        try:
            list(read(kind, told, 0, len(told)))
        except ValueError:
            continue


def test_a_length_that_breaks_the_rules_is_refused() -> None:
    told = named("entry_16", 5, 300)
    broken = told[: NFGEN.size] + struct.pack("=HH", 2, 1) + told[NFGEN.size + 4 :]
    with pytest.raises(ValueError, match="netlink attribute of 2 bytes"):
        list(counters(OBJECT, broken, 0, len(broken)))
