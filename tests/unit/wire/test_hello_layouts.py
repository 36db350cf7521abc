"""What is read in one step is what is read through, for every byte that may differ."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ramfw.core.opening import Hello
from ramfw.wire import first_bytes
from ramfw.wire.first_bytes import Reader
from ramfw.wire.hello_layouts import MOST_LAYOUTS, HelloLayouts
from tests.unit.wire.hello_sample import alpn, extension, hello, message, recorded, server_name

RECORDED = {
    client: stream
    for client, stream in recorded().items()
    if isinstance(read := first_bytes.read(stream), Hello) and read.server_name
}


def taught(stream: bytes) -> HelloLayouts:
    """Layouts that know how this hello is laid out."""
    layouts = HelloLayouts()
    read = first_bytes.read(stream)
    assert isinstance(read, Hello)
    layouts.teach(stream, read)
    return layouts


@pytest.mark.parametrize("client", sorted(RECORDED))
def test_a_real_hello_that_was_taught_is_found(client: str) -> None:
    stream = RECORDED[client]
    layouts = taught(stream)

    assert layouts.find(stream) == first_bytes.read(stream)
    assert layouts.find(stream + b"\0") is None
    assert layouts.find(stream[:-1]) is None


@pytest.mark.parametrize("client", sorted(RECORDED))
@pytest.mark.parametrize(
    "changed",
    [lambda byte: byte ^ 0xFF, lambda byte: (byte + 1) & 0xFF, lambda _: 0, lambda _: 0x20],
    ids=["all bits", "one more", "NUL", "space"],
)
def test_a_hello_that_differs_in_any_byte_is_found_as_it_is_read_through_or_not_at_all(
    client: str, changed: Callable[[int], int]
) -> None:
    stream = RECORDED[client]
    found = 0
    for place, byte in enumerate(stream):
        other = stream[:place] + bytes((changed(byte),)) + stream[place + 1 :]
        one_step = taught(stream).find(other)
        found += one_step is not None
        assert one_step in (None, first_bytes.read(other)), place
    # Random numbers, keys and the name: most of it may differ.
    assert found > len(stream) / 4


def test_another_name_of_the_same_length_is_found_in_lower_case() -> None:
    layouts = taught(hello(alpn(b"h2"), server_name(b"registry.example.com")))

    found = layouts.find(hello(alpn(b"h2"), server_name(b"Elsewhere.example.NE")))

    assert found is not None
    assert found.server_name == "elsewhere.example.ne"
    assert layouts.find(hello(alpn(b"h2"), server_name(b"registry.example\0com"))) is None
    assert layouts.find(hello(alpn(b"h1"), server_name(b"registry.example.com"))) is None


@pytest.mark.parametrize(
    "stream",
    [
        hello(server_name(b"registry.example.com"), size=40),
        hello(alpn(b"h2")),
        hello(server_name(b"registry.example.com")) + b"\x16",
    ],
    ids=["in several records", "without a name", "with more behind it"],
)
def test_what_is_not_one_record_with_a_name_is_not_taught(stream: bytes) -> None:
    assert taught(stream).find(stream) is None


def test_a_client_that_changes_its_layout_each_time_is_taught_every_second_time_only() -> None:
    reader, layouts = Reader(), HelloLayouts()
    streams = [hello(server_name(b"a.example"), extension(0x0A0A + n * 0x1010)) for n in range(4)]
    for stream in streams:
        assert reader.read(stream) == first_bytes.read(stream)

    read = first_bytes.read(streams[0])
    assert isinstance(read, Hello)
    layouts.teach(streams[0], read)
    assert layouts.find(streams[1]) is None
    assert layouts.find(streams[0]) is None


def test_no_more_layouts_are_remembered_than_may_be() -> None:
    layouts = HelloLayouts()
    streams = [hello(server_name(b"a" * n + b".example")) for n in range(1, MOST_LAYOUTS + 2)]
    for stream in streams:
        read = first_bytes.read(stream)
        assert isinstance(read, Hello)
        layouts.teach(stream, read)

    assert [stream for stream in streams if layouts.find(stream)] == [streams[-1]]


EXTENSIONS = st.lists(
    st.one_of(
        st.builds(extension, st.integers(0, 60), st.binary(max_size=20)),
        st.builds(server_name, st.binary(min_size=1, max_size=12)),
        st.builds(alpn, st.binary(min_size=1, max_size=4)),
        st.builds(extension, st.just(0xFE0D), st.binary(max_size=4)),
    ),
    max_size=6,
)
SESSIONS = st.sampled_from([b"", bytes(32), bytes(33)])


@given(
    st.sampled_from(sorted(RECORDED)),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    EXTENSIONS,
    SESSIONS,
)
@example("curl", [], [], b"")
def test_a_reader_says_what_is_said_without_it_whatever_came_before(
    client: str, changes: list[tuple[int, int]], extensions: list[bytes], session: bytes
) -> None:
    made = message(b"".join(extensions), session=session)
    whole = b"\x16\x03\x01" + len(made).to_bytes(2) + made
    reader = Reader()
    for stream in (RECORDED[client], whole):
        tampered = bytearray(stream)
        for place, value in changes:
            tampered[place % len(tampered)] = value
        for one in (stream, bytes(tampered), stream, stream, bytes(tampered)):
            assert reader.read(one) == first_bytes.read(one)
