"""The beginning of a stream, from segments in any order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.assembly import MAX_STREAM, Assembly

FIRST = (1 << 32) - 3


def test_places_count_from_the_first_byte_across_the_end_of_the_numbers() -> None:
    assembly = Assembly(FIRST + (1 << 32))

    assert [assembly.offset(number) for number in (FIRST - 1, FIRST, 0, 5)] == [-1, 0, 3, 8]


def test_what_waits_is_added_when_the_gap_closes() -> None:
    assembly = Assembly(FIRST)

    assert assembly.add(6, b"gh")
    assert assembly.add(3, b"def")
    assert (assembly.data, assembly.size) == (b"", 5)
    assert assembly.add(0, b"abcd")
    assert (assembly.data, assembly.size) == (b"abcdefgh", 8)


def test_what_differs_is_told_and_what_is_beyond_is_new() -> None:
    assembly = Assembly(FIRST)
    assembly.add(0, b"abc")
    assembly.add(5, b"fgh")

    assert assembly.agrees(1, b"bcd")
    assert assembly.agrees(3, b"??f")
    assert assembly.agrees(8, b"???")
    assert not assembly.agrees(1, b"bX")
    assert not assembly.agrees(4, b"?fgX")


def test_only_the_first_bytes_are_kept() -> None:
    assembly = Assembly(FIRST)
    assembly.add(0, b"abc")
    assembly.add(5, b"fgh")
    assembly.keep(2)

    assert (assembly.data, assembly.size) == (b"ab", 2)
    assembly.add(1, b"x" * MAX_STREAM)
    assert assembly.size == MAX_STREAM


@given(st.binary(max_size=40), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 9))))
def test_pieces_of_one_stream_agree_and_give_its_beginning(
    stream: bytes, places: list[tuple[int, int]]
) -> None:
    assembly = Assembly(FIRST)
    there = set()
    for start, size in places[:30]:
        piece = stream[start : start + size]
        assert assembly.agrees(start, piece)
        if piece:
            assert assembly.add(start, piece)
        there |= set(range(start, start + len(piece)))

    beginning = next(place for place in range(len(stream) + 1) if place not in there)
    assert assembly.data == stream[:beginning]
