"""The codec of NFQUEUE. That the kernel understands it is shown in tests/lab/test_queue.py."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire import netlink, nfqueue
from ramfw.wire.nfqueue import Queued


def queued(*attributes: bytes) -> bytes:
    return netlink.message(0x300, 0, 0, struct.pack("!BBH", 2, 0, 7) + b"".join(attributes))


HEADER = netlink.attribute(1, struct.pack("!IHB", 5, 0x0800, 1))
PAYLOAD = netlink.attribute(10, b"packet!")


def test_a_packet_is_read_among_other_attributes() -> None:
    buffer = queued(
        HEADER,
        netlink.u32(5, 3),
        netlink.u32(6, 4),
        netlink.u32(3, 0xF0),
        netlink.attribute(9, bytes(12)),
        netlink.u32(13, 9000),
        PAYLOAD,
    )

    assert nfqueue.packets(buffer + queued(HEADER, PAYLOAD)) == [
        Queued(5, 1, 0xF0, 3, 4, 9000, b"packet!"),
        Queued(5, 1, 0, 0, 0, 7, b"packet!"),
    ]


def payloads(data: bytes) -> list[tuple[int, bytes]]:
    """By the quick reading, which has seen the ordinary form."""
    reader = nfqueue.Reader()
    for one in (queued(HEADER, PAYLOAD), data):
        read = reader.payloads(memoryview(one + bytes(64)), len(one))
    return read


@st.composite
def shown_packets(draw: st.DrawFn) -> bytes:
    """What the kernel may send, and now and then what it may not."""
    parts = [netlink.attribute(1, struct.pack("!IHB", draw(st.integers(0, 9)), 0x0800, 1))]
    more = [netlink.u32(5, 3), netlink.u32(3, 9), b""]
    parts += draw(st.lists(st.sampled_from(more), max_size=2))
    body = draw(st.binary(max_size=12))
    parts.append(netlink.attribute(10, body)[: len(body) + 4 + draw(st.integers(0, 3))])
    data = bytearray(queued(*parts, draw(st.sampled_from([b"", b"", b"", PAYLOAD, HEADER]))))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def test_the_quick_reading_says_the_same_of_each_packet() -> None:
    full = queued(HEADER, netlink.u32(5, 3), netlink.attribute(9, bytes(12)), PAYLOAD)
    buffer = full + netlink.message(netlink.NLMSG_ERROR, 0, 1, bytes(20)) + queued(HEADER)

    assert payloads(buffer) == [(5, b"packet!"), (5, b"")]
    assert payloads(buffer) == [(q.id, q.payload) for q in nfqueue.packets(buffer)]


@pytest.mark.parametrize(
    "buffer",
    [
        queued(PAYLOAD),
        queued(netlink.attribute(1, b"\0")),
        queued(HEADER, struct.pack("=HH", 3, 1)),
        queued(HEADER, struct.pack("=HH", 9, 10)),
        queued(HEADER)[:-1],
    ],
)
def test_the_quick_reading_refuses_a_broken_framing_too(buffer: bytes) -> None:
    with pytest.raises(ValueError, match=r"netlink|packet"):
        payloads(buffer)


@given(st.lists(shown_packets(), min_size=1, max_size=12))
def test_the_quick_reading_says_the_same_of_one_datagram_after_the_other(
    shown: list[bytes],
) -> None:
    """Also where the next is laid out as the last one, but for a header, a length or a byte."""
    reader, room = nfqueue.Reader(), memoryview(bytearray(1 << 10))
    for data in shown:
        room[: len(data)] = data
        try:
            read = nfqueue.packets(data)
        except ValueError:
            with pytest.raises(ValueError, match=r"netlink|packet"):
                reader.payloads(room, len(data))
        else:
            meant = [(q.id, q.mark, q.payload) for q in read]
            # The first may teach the second.
            assert reader.marked(room, len(data)) == meant
            assert reader.marked(room, len(data)) == meant
            assert reader.payloads(room, len(data)) == [(q.id, q.payload) for q in read]


def test_answers_to_other_messages_are_passed_over() -> None:
    assert nfqueue.packets(netlink.message(netlink.NLMSG_ERROR, 0, 1, bytes(20))) == []


@pytest.mark.parametrize(
    "buffer",
    [
        queued(PAYLOAD),
        queued(netlink.attribute(1, bytes(6))),
        queued(HEADER, netlink.attribute(5, b"\0")),
        queued(HEADER, struct.pack("=HH", 3, 1)),
        queued(HEADER, struct.pack("=HH", 9, 10)),
        queued(HEADER)[:-1],
    ],
)
def test_what_breaks_the_rules_is_a_value_error(buffer: bytes) -> None:
    with pytest.raises(ValueError, match=r"netlink|packet"):
        nfqueue.packets(buffer)


def attributes(message: bytes) -> dict[int, bytes]:
    """The attributes behind nfgen, by their type."""
    (one,) = netlink.messages(message)
    position, found = one.start + 4, {}
    while position < one.end:
        length, kind = struct.unpack_from("=HH", message, position)
        found[kind] = message[position + 4 : position + length]
        position += netlink.align(length)
    return found


def test_a_queue_never_fails_open() -> None:
    message = nfqueue.bind(7, copy_range=2048, max_length=500, sequence=3)
    (one,) = netlink.messages(message)

    assert (one.kind, one.flags, one.sequence) == (0x302, 5, 3)
    assert message[one.start : one.start + 4] == b"\0\0\0\7"
    found = attributes(message)
    assert found[1][0] == 1
    assert found[2] == struct.pack("!IB", 2048, 2)
    assert found[3] == struct.pack("!I", 500)
    flags, mask = (int.from_bytes(found[kind]) for kind in (5, 4))
    assert (flags, mask & 1, mask & 4) == (4, 1, 4)
    assert attributes(nfqueue.unbind(7, sequence=1))[1][0] == 2


@given(st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_a_quick_verdict_is_the_same(queue: int, ident: int, mark: int) -> None:
    meant = nfqueue.verdict(queue, ident, nfqueue.ACCEPT, mark=mark)

    assert nfqueue.Verdicts(queue).accept(ident, mark) == meant


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_a_verdict_may_bring_a_priority_in_network_order(ident: int, mark: int, says: int) -> None:
    """The kernel turns the attribute round; what it keeps has the bytes that a header has."""
    message = nfqueue.Verdicts(7).accept_with(ident, mark, says)

    (one,) = netlink.messages(message)
    assert (one.kind, one.end) == (0x301, len(message))
    found = attributes(message)
    assert found[2] == struct.pack("!II", nfqueue.ACCEPT, ident)
    assert found[3] == struct.pack("!I", mark)
    kept = struct.pack("=I", *struct.unpack("!I", found[21]))
    assert kept == struct.pack("!I", says)


def test_a_verdict_may_mark_and_replace_the_packet() -> None:
    message = nfqueue.verdict(7, 5, nfqueue.ACCEPT, mark=0x20, payload=b"new")
    plain = nfqueue.verdict(7, 5, nfqueue.DROP)
    (one,) = netlink.messages(message)

    assert (one.kind, one.flags) == (0x301, netlink.NLM_F_REQUEST)
    assert message[one.start : one.start + 4] == b"\0\0\0\7"
    assert attributes(message) == {
        2: struct.pack("!II", 1, 5),
        3: struct.pack("!I", 0x20),
        10: b"new",
    }
    assert attributes(plain) == {2: struct.pack("!II", 0, 5)}
    assert [m.kind for m in netlink.messages(plain + nfqueue.verdict_up_to(7, 9, 1))] == [
        0x301,
        0x303,
    ]


def test_the_longest_packet_fits_and_a_longer_one_is_a_value_error() -> None:
    nfqueue.verdict(7, 5, nfqueue.ACCEPT, payload=bytes(nfqueue.MAX_PAYLOAD))
    with pytest.raises(ValueError, match="65535 is the most"):
        nfqueue.verdict(7, 5, nfqueue.ACCEPT, payload=bytes(nfqueue.MAX_PAYLOAD + 1))


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_a_value_error(data: bytes) -> None:
    for buffer in (data, queued(data), queued(HEADER, data)):
        try:
            nfqueue.packets(buffer)
        except ValueError:
            continue
