"""The codec of nfnetlink messages, with bytes as the kernel packs them and with any others."""

from __future__ import annotations

import struct
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire import nfnetlink
from ramfw.wire.tcp import FlowKey

CT_NEW = 0x0100


def attribute(kind: int, value: bytes) -> bytes:
    packed = struct.pack("=HH", 4 + len(value), kind) + value
    return packed + b"\0" * (-len(packed) % 4)


def message(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload


def flow(*attributes: bytes) -> bytes:
    return message(CT_NEW, struct.pack("!BBH", 2, 0, 0) + b"".join(attributes))


def marks(buffer: bytes) -> list[int]:
    return [
        nfnetlink.flow_mark(buffer, one)
        for one in nfnetlink.messages(buffer)
        if nfnetlink.is_flow(one)
    ]


def read_all(buffer: bytes) -> None:
    for one in nfnetlink.messages(buffer):
        nfnetlink.flow_mark(buffer, one)
        nfnetlink.error_number(buffer, one)


def test_the_request_asks_for_all_flows_of_both_families() -> None:
    (request,) = nfnetlink.messages(nfnetlink.conntrack_dump_request(sequence=7))

    assert request.kind == 0x0101
    assert request.flags == nfnetlink.NLM_F_REQUEST | nfnetlink.NLM_F_DUMP
    assert request.sequence == 7
    assert nfnetlink.conntrack_dump_request(7)[request.start : request.end] == b"\0\0\0\0"


def test_the_mark_is_found_among_other_attributes_and_absent_is_zero() -> None:
    tuple_orig = attribute(0x8001, attribute(8, b"\xff\xff\xff\xff"))
    odd_length = attribute(7, b"abc")
    mark = attribute(nfnetlink.CTA_MARK, b"\x00\x07\x12\x34")

    assert marks(flow(tuple_orig, odd_length, mark) + flow(tuple_orig)) == [0x71234, 0]


def test_the_end_of_a_dump_carries_its_error() -> None:
    buffer = message(nfnetlink.NLMSG_ERROR, struct.pack("=i", -1) + b"\0" * 16)
    (error,) = nfnetlink.messages(buffer)

    assert nfnetlink.error_number(buffer, error) == 1


@pytest.mark.parametrize(
    "buffer",
    [
        b"\x10\0\0\0\0\0\0",  # shorter than a header
        struct.pack("=IHHII", 0, CT_NEW, 0, 1, 0),  # a length of nothing never ends
        struct.pack("=IHHII", 17, CT_NEW, 0, 1, 0),  # a length beyond the buffer
        flow(struct.pack("=HH", 0, 1)),
        flow(struct.pack("=HH", 5, 1)),
        flow(b"\x08\x00"),
        flow(attribute(nfnetlink.CTA_MARK, b"\x01")),
        message(nfnetlink.NLMSG_DONE, b""),
    ],
)
def test_what_breaks_the_rules_is_a_value_error(buffer: bytes) -> None:
    with pytest.raises(ValueError, match=r"netlink|mark"):
        read_all(buffer)


@given(st.binary(max_size=200))
def test_any_bytes_end_or_raise_value_error(buffer: bytes) -> None:
    seen = []
    try:
        for one in nfnetlink.messages(buffer):
            seen.append(one)
            nfnetlink.flow_mark(buffer, one)
            nfnetlink.error_number(buffer, one)
    except ValueError:
        pass

    assert all(one.start <= one.end <= len(buffer) for one in seen)
    assert all(before.end <= after.start for before, after in pairwise(seen))


@given(st.lists(st.integers(0, 0xFFFFFFFF), max_size=5), st.data())
def test_a_damaged_dump_raises_nothing_else(values: list[int], data: st.DataObject) -> None:
    buffer = bytearray(
        b"".join(flow(attribute(3, b"\0" * 4), attribute(8, v.to_bytes(4))) for v in values)
    )
    assert marks(bytes(buffer)) == values
    if buffer:
        buffer[data.draw(st.integers(0, len(buffer) - 1))] = data.draw(st.integers(0, 255))
        try:
            found = marks(bytes(buffer))
        except ValueError:
            return
        assert len(found) <= len(values)


FOUR = FlowKey(bytes((192, 0, 2, 1)), bytes((198, 51, 100, 7)), 40000, 443)
SIX = FlowKey(bytes(15) + b"\1", bytes(15) + b"\7", 40000, 443)


def tuple_of(kind: int, key: FlowKey) -> bytes:
    first = 1 if len(key.source) == 4 else 3
    addresses = attribute(first, key.source) + attribute(first + 1, key.destination)
    ports = attribute(2, struct.pack("!H", key.sport)) + attribute(3, struct.pack("!H", key.dport))
    parts = attribute(0x8001, addresses) + attribute(0x8002, attribute(1, b"\6") + ports)
    return attribute(0x8000 | kind, parts)


@pytest.mark.parametrize(("key", "family"), [(FOUR, 2), (SIX, 10)])
def test_one_flow_is_asked_for_by_its_client_s_packets(key: FlowKey, family: int) -> None:
    asked = nfnetlink.flow_request(key, 9)
    (request,) = nfnetlink.messages(asked)

    assert (request.kind, request.flags, request.sequence) == (0x0101, 1, 9)
    body = asked[request.start : request.end]
    assert body == struct.pack("!BBH", family, 0, 0) + tuple_of(1, key)


@pytest.mark.parametrize("key", [FOUR, SIX])
def test_each_side_is_what_comes_from_the_wire(key: FlowKey) -> None:
    buffer = flow(tuple_of(1, key), tuple_of(2, key.reverse), attribute(8, bytes(4)))
    (one,) = nfnetlink.messages(buffer)

    assert nfnetlink.reply_of(buffer, one) == key.reverse
    assert nfnetlink.original_of(buffer, one) == key


@pytest.mark.parametrize(
    "attributes",
    [
        (),
        (tuple_of(1, FOUR),),
        (attribute(0x8002, b""),),
        (attribute(0x8002, attribute(0x8001, attribute(1, b"\1\2")) + attribute(0x8002, b"")),),
        (tuple_of(2, FOUR._replace(destination=b"\1\2")),),
    ],
)
def test_answer_without_a_whole_reply_has_none(attributes: tuple[bytes, ...]) -> None:
    buffer = flow(*attributes)
    (one,) = nfnetlink.messages(buffer)

    assert nfnetlink.reply_of(buffer, one) is None


@given(st.binary(max_size=80))
def test_reply_is_read_or_is_a_value_error(data: bytes) -> None:
    buffer = flow(attribute(0x8002, data))
    for one in nfnetlink.messages(buffer):
        with suppress(ValueError):
            nfnetlink.reply_of(buffer, one)
