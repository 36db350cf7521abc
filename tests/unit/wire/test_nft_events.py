"""nf_tables' events, with bytes as the kernel packs them and with any others."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.nft_events import Generation, TableChanged, changes

INET, IP = 1, 2
NEW_TABLE, DELETE_TABLE, NEW_RULE, NEW_ELEMENT, NEW_GENERATION = 0, 2, 6, 12, 15


def attribute(kind: int, value: bytes) -> bytes:
    packed = struct.pack("=HH", 4 + len(value), kind) + value
    return packed + b"\0" * (-len(packed) % 4)


def event(
    kind: int, port: int, *attributes: bytes, family: int = INET, subsystem: int = 10
) -> bytes:
    payload = struct.pack("!BBH", family, 0, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(payload), subsystem << 8 | kind, 0, 7, port) + payload


def of_table(name: bytes, kind: int = NEW_RULE, port: int = 42, family: int = INET) -> bytes:
    return event(kind, port, attribute(1, name + b"\0"), attribute(2, b"guard\0"), family=family)


def generation(port: int, pid: int, program: bytes) -> bytes:
    return event(
        NEW_GENERATION,
        port,
        attribute(1, struct.pack("!I", 9)),
        attribute(2, struct.pack("!I", pid)),
        attribute(3, program + b"\0"),
        family=0,
    )


def test_a_flush_is_told_with_the_process_that_did_it() -> None:
    datagram = of_table(b"ramfw", DELETE_TABLE) + generation(42, 4711, b"nft")
    assert list(changes(datagram)) == [TableChanged(42), Generation(42, 4711, "nft")]


@pytest.mark.parametrize("kind", [NEW_TABLE, DELETE_TABLE, NEW_RULE, NEW_ELEMENT])
def test_every_kind_of_object_names_its_table(kind: int) -> None:
    assert list(changes(of_table(b"ramfw", kind))) == [TableChanged(42)]


@pytest.mark.parametrize(
    "other",
    [
        of_table(b"ramfw2"),
        of_table(b"ram"),
        of_table(b"filter"),
        of_table(b"ramfw", family=IP),
        event(NEW_RULE, 42, attribute(1, b"ramfw\0"), subsystem=1),
    ],
)
def test_what_is_not_of_the_table_is_passed_over(other: bytes) -> None:
    assert list(changes(other)) == []


def test_a_generation_that_names_nobody_is_one_all_the_same() -> None:
    assert list(changes(event(NEW_GENERATION, 42, family=0))) == [Generation(42, 0, "")]


def test_an_attribute_that_leaves_its_message_is_an_error() -> None:
    broken = bytearray(of_table(b"ramfw"))
    struct.pack_into("=H", broken, 20, 400)
    with pytest.raises(ValueError, match="attribute"):
        list(changes(bytes(broken)))


@given(st.binary(max_size=200))
def test_any_bytes_end_in_events_or_in_one_error(data: bytes) -> None:
    with suppress(ValueError):
        list(changes(data))


@given(st.binary(max_size=200))
def test_any_attributes_of_a_message_end_in_events_or_in_one_error(data: bytes) -> None:
    with suppress(ValueError):
        list(changes(event(NEW_RULE, 1, data) + event(NEW_GENERATION, 1, data)))
