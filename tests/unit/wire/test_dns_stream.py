"""Messages over TCP come out once, in order, whatever the segments; doubt ends the stream."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire.dns_stream import (
    MAX_HISTORY,
    MAX_WAITING,
    MAX_WAITING_SEGMENTS,
    Reassembler,
    StreamMessage,
)

FIRST = 0xFFFFFFF0  # the sequence numbers wrap soon


def framed(*payloads: bytes) -> bytes:
    return b"".join(len(payload).to_bytes(2) + payload for payload in payloads)


def fed(stream: Reassembler, start: int, data: bytes) -> list[bytes]:
    return [message.payload for message in stream.feed((FIRST + start) % (1 << 32), data)]


def test_several_messages_in_one_segment() -> None:
    stream = Reassembler(FIRST)

    assert stream.feed(FIRST, framed(b"one", b"", b"three")) == [
        StreamMessage((FIRST + 2) % (1 << 32), b"one"),
        StreamMessage((FIRST + 7) % (1 << 32), b""),
        StreamMessage((FIRST + 9) % (1 << 32), b"three"),
    ]


def test_one_message_over_many_segments() -> None:
    data = framed(bytes(range(256)) * 255 + bytes(255))
    assert len(data) == 2 + 0xFFFF
    stream = Reassembler(FIRST)

    assert all(fed(stream, at, data[at : at + 1]) == [] for at in range(3))
    assert all(fed(stream, at, data[at : at + 1000]) == [] for at in range(3, 65000, 1000))
    assert fed(stream, 65003, data[65003:]) == [data[2:]]


def test_a_segment_that_is_sent_again_gives_nothing_again() -> None:
    stream = Reassembler(FIRST)
    data = framed(b"one", b"two")

    assert fed(stream, 0, data[:7]) == [b"one"]
    assert fed(stream, 0, data[:7]) == []
    assert fed(stream, 3, data[3:]) == [b"two"]
    assert not stream.broken


@pytest.mark.parametrize("at", [0, 2, 4])
def test_two_copies_that_differ_break_the_stream(at: int) -> None:
    stream = Reassembler(FIRST)
    data = framed(b"one", b"two")
    fed(stream, 0, data[:7])

    assert fed(stream, at, b"XX") == []
    assert stream.broken
    assert fed(stream, 7, data[7:]) == []


def test_segments_may_come_in_any_order_within_bounds() -> None:
    stream = Reassembler(FIRST)
    data = framed(b"one", b"two", b"three")

    assert fed(stream, 10, data[10:]) == []
    assert fed(stream, 5, data[5:10]) == []
    assert fed(stream, 0, data[:5]) == [b"one", b"two", b"three"]


def test_waiting_copies_that_differ_break_the_stream() -> None:
    same_place, overlap = Reassembler(FIRST), Reassembler(FIRST)
    fed(same_place, 3, b"ab")
    fed(same_place, 3, b"xbc")
    fed(overlap, 3, b"abc")
    fed(overlap, 4, b"Xc")
    fed(overlap, 0, b"\0\x09r")

    assert same_place.broken
    assert overlap.broken


def test_too_much_behind_a_gap_breaks_the_stream() -> None:
    bytes_behind, segments_behind = Reassembler(FIRST), Reassembler(FIRST)

    fed(bytes_behind, 1, bytes(MAX_WAITING))
    within = bytes_behind.broken
    fed(bytes_behind, MAX_WAITING + 1, b"x")
    assert (within, bytes_behind.broken) == (False, True)

    for at in range(MAX_WAITING_SEGMENTS):
        fed(segments_behind, 2 * at + 1, b"x")
    within = segments_behind.broken
    fed(segments_behind, 99, b"x")
    assert (within, segments_behind.broken) == (False, True)


def test_what_is_older_than_the_memory_cannot_be_compared() -> None:
    stream = Reassembler(FIRST)
    data = framed(bytes(998)) * 1000

    for at in range(0, len(data), 1000):
        assert fed(stream, at, data[at : at + 1000]) == [bytes(998)]
    assert fed(stream, len(data) - MAX_HISTORY // 2, data[-MAX_HISTORY // 2 :]) == []
    within = stream.broken
    assert fed(stream, 0, data[:1000]) == []
    assert (within, stream.broken) == (False, True)


@given(
    st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 80)), max_size=20),
    st.randoms(use_true_random=False),
)
def test_whatever_is_cut_doubled_and_mixed_the_messages_are_the_same(
    payloads: list[bytes], extra: list[tuple[int, int]], random: Random
) -> None:
    data = framed(*payloads)
    pieces = [(at, data[at : at + 25]) for at in range(0, len(data), 25)]
    pieces += [(at, data[at : at + size]) for at, size in extra if at < len(data)]
    random.shuffle(pieces)
    stream = Reassembler(FIRST)

    found = [payload for at, piece in pieces for payload in fed(stream, at, piece)]

    assert not stream.broken
    assert found == payloads


@given(st.lists(st.tuples(st.integers(0, 1 << 32), st.binary(max_size=50)), max_size=20))
def test_any_segments_are_taken_or_break_the_stream(segments: list[tuple[int, bytes]]) -> None:
    stream = Reassembler(0)
    for sequence, payload in segments:
        was_broken = stream.broken
        assert not (stream.feed(sequence, payload) and was_broken)
