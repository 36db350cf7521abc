"""The codec of NFLOG. That the kernel understands it is shown in tests/lab/test_queue.py."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire import netlink, nflog
from ramfw.wire.nflog import Logged


def logged(*attributes: bytes) -> bytes:
    return netlink.message(0x400, 0, 0, struct.pack("!BBH", 2, 0, 7) + b"".join(attributes))


def test_a_copy_is_read_among_other_attributes() -> None:
    buffer = logged(
        netlink.attribute(1, struct.pack("!HBB", 0x0800, 1, 0)),
        netlink.attribute(10, b"dns\0"),
        netlink.u32(4, 3),
        netlink.u32(5, 4),
        netlink.u32(2, 0xF0),
        netlink.attribute(3, bytes(16)),
        netlink.attribute(9, b"packet!"),
    )

    assert nflog.packets(buffer) == [Logged(1, 0xF0, 3, 4, b"dns", b"packet!")]
    assert nflog.packets(netlink.message(netlink.NLMSG_ERROR, 0, 1, bytes(20))) == []


def payloads(*datagrams: bytes) -> list[bytes]:
    """What the quick reading says of the last of these datagrams."""
    reader = nflog.Reader()
    for one in datagrams:
        read = reader.payloads(memoryview(one + bytes(64)), len(one))
    return read


def test_the_quick_reading_says_the_same_of_each_packet() -> None:
    one = logged(netlink.u32(4, 3), netlink.attribute(10, b"dns\0"), netlink.attribute(9, b"one"))
    buffer = one + netlink.message(netlink.NLMSG_ERROR, 0, 1, bytes(20)) + logged()

    assert payloads(buffer) == [b"one", b""]
    assert payloads(buffer) == [copy.payload for copy in nflog.packets(buffer)]
    with pytest.raises(ValueError, match="netlink"):
        payloads(logged(struct.pack("=HH", 9, 9)))


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=9)), min_size=1, max_size=9))
def test_what_is_laid_out_alike_is_read_alike(copies: list[tuple[bool, bytes]]) -> None:
    index = netlink.u32(4, 3)
    datagrams = [logged(*[index] * by, netlink.attribute(9, packet)) for by, packet in copies]
    assert payloads(*datagrams) == [copies[-1][1]]
    assert payloads(*datagrams, datagrams[-1] + datagrams[0]) == [copies[-1][1], copies[0][1]]


def test_a_group_sends_each_packet_at_once() -> None:
    message = nflog.bind(7, copy_range=1500, sequence=3)
    (one,) = netlink.messages(message)

    assert (one.kind, one.flags, one.sequence) == (0x401, 5, 3)
    assert message[one.start : one.start + 4] == b"\0\0\0\7"
    assert netlink.u32(5, 1) in message
    assert netlink.attribute(2, struct.pack("!IBx", 1500, 2)) in message
    assert netlink.attribute(1, b"\1") in message
    assert netlink.attribute(1, b"\2") in nflog.unbind(7, sequence=3)


@pytest.mark.parametrize(
    "buffer",
    [
        logged(netlink.attribute(4, b"\0")),
        logged(struct.pack("=HH", 3, 1)),
        logged(struct.pack("=HH", 9, 10)),
        logged(bytes(4))[:-1],
    ],
)
def test_what_breaks_the_rules_is_a_value_error(buffer: bytes) -> None:
    with pytest.raises(ValueError, match="netlink"):
        nflog.packets(buffer)


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_a_value_error(data: bytes) -> None:
    for buffer in (data, logged(data)):
        try:
            nflog.packets(buffer)
        except ValueError:
            continue
