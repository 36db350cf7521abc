"""Netlink's framing, with bytes as the kernel packs them and with any others."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire import netlink


def reply(sequence: int, errno: int, request: bytes = b"") -> bytes:
    return netlink.message(netlink.NLMSG_ERROR, 0, sequence, struct.pack("=i", -errno) + request)


def test_attributes_are_padded_and_nested() -> None:
    inner = netlink.attribute(1, b"abc")

    assert inner == struct.pack("=HH", 7, 1) + b"abc\0"
    assert netlink.u32(2, 7) == struct.pack("=HH", 8, 2) + b"\0\0\0\7"
    assert netlink.nested(3, inner, inner) == struct.pack("=HH", 20, 0x8003) + inner + inner


def test_what_is_too_long_for_an_attribute_is_a_value_error() -> None:
    assert len(netlink.attribute(1, bytes(0xFFFF - 4))) == 0x10000
    with pytest.raises(ValueError, match="65536 bytes"):
        netlink.attribute(1, bytes(0x10000 - 4))


def test_each_answer_tells_its_errno() -> None:
    other = netlink.message(0x300, 0, 9, b"payload1")

    assert list(netlink.errors(reply(1, 0) + other + reply(2, 17, b"x" * 5))) == [(1, 0), (2, 17)]


def test_an_answer_that_a_short_buffer_cut_tells_its_errno() -> None:
    buffer = reply(1, 0) + reply(2, 1, bytes(1000))

    assert list(netlink.errors(buffer[:80])) == [(1, 0), (2, 1)]
    with pytest.raises(ValueError, match="without an errno"):
        list(netlink.errors(reply(1, 0)[:18]))


@given(st.binary(max_size=120))
def test_any_bytes_end_or_raise_value_error(buffer: bytes) -> None:
    for read in (netlink.messages, netlink.errors):
        try:
            count = sum(1 for _ in read(buffer))
        except ValueError:
            continue
        assert count <= len(buffer) / netlink.HEADER.size
