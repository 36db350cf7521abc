"""One place tells what a client speaks, from its first bytes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.opening import (
    BrokenHello,
    BrokenRequest,
    Hello,
    Http2Preface,
    Opening,
    Other,
    Request,
    Ssl2Hello,
    Unfinished,
    judged_end,
)
from ramfw.wire.first_bytes import MAX_BYTES, ended, read
from tests.unit.wire.hello_sample import hello, recorded, server_name

HELLO = hello(server_name(b"registry.example"))
REQUEST = b"GET /v2/ HTTP/1.1\r\nHost: registry.example\r\n\r\n"


def fed(stream: bytes, size: int) -> Unfinished | Opening:
    found: Unfinished | Opening = Unfinished()
    for end in range(0, len(stream) + size, size):
        if not isinstance(found, Unfinished):
            break
        found = read(stream[:end], found)
    return found


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (HELLO, Hello),
        (b"\x16\x03\x01\0\0", BrokenHello),
        (b"\x80\x2e\x01\0\x02", Ssl2Hello),
        (REQUEST, Request),
        (REQUEST.replace(b"Host", b"Host "), BrokenRequest),
        (b"PRI * HTTP/2.0\r\n\r\n", Http2Preface),
        (b"\0\0\0\x08\x04\xd2\x16\x2f", Other),
        (b"\xff", Unfinished),
        (b"\xff\xff\xff\xff", Other),
        (b"", Unfinished),
    ],
)
def test_each_protocol_has_its_kind(stream: bytes, kind: type) -> None:
    assert type(read(stream)) is kind
    assert type(fed(stream, 1)) is kind


def test_ssh_is_called_by_its_name() -> None:
    assert read(b"SSH-2.0-OpenSSH_9.2p1\r\n") == Other("SSH")
    assert read(b"SSH-2.0-OpenSSH") == Unfinished()
    assert read(b"EHLO a.example\r\n") == Other("")


def test_a_judgement_rests_on_the_bytes_that_were_read() -> None:
    for stream in (HELLO, REQUEST):
        found = read(stream + b"more")
        assert not isinstance(found, Unfinished)
        assert judged_end(found, len(stream) + 4) == len(stream)
    assert judged_end(Other(""), 7) == 7


@pytest.mark.parametrize(
    "first", [b"\x16\x03\x01", b"\x16\x03\x01\0\x01\x01" * 4, b"GET / ", b"a", b"\n"]
)
@given(data=st.data())
def test_no_stream_is_unfinished_for_ever(first: bytes, data: st.DataObject) -> None:
    more = data.draw(st.sampled_from([b"a", b"\x16\x03\x01\0\x01x", b"\r\n", b"x: y\r\n", b"\0"]))
    stream = first + more * MAX_BYTES

    assert not isinstance(read(stream[:MAX_BYTES]), Unfinished)


@pytest.mark.parametrize("client", recorded())
@pytest.mark.parametrize("size", [1, 100, 1448])
def test_a_real_hello_is_unfinished_to_its_last_byte(client: str, size: int) -> None:
    stream = recorded()[client]

    assert fed(stream, size) == read(stream)
    assert isinstance(fed(stream[:-1], size), Unfinished)


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (HELLO[:-1], BrokenHello("a ClientHello that is not whole")),
        (b"\x16\x03", BrokenHello("a ClientHello that is not whole")),
        (b"\x16", Other("")),
        (b"GET /v2/", BrokenRequest("a request that is not whole", (), registry_api=True)),
        (
            b"\r\n" + REQUEST[:-2],
            BrokenRequest("an empty line before the request", ("registry.example",), True),  # noqa: FBT003
        ),
        (
            REQUEST[:-3],
            BrokenRequest("a request that is not whole", ("registry.example",), registry_api=True),
        ),
        (
            b"HEAD http://ghcr.io/ HTTP",
            BrokenRequest("a request that is not whole", ("ghcr.io",), registry_api=False),
        ),
        (b"\r\n", Other("")),
        (b"stats", Other("")),
        (b"", Other("")),
        (REQUEST, read(REQUEST)),
        (HELLO, read(HELLO)),
    ],
)
def test_what_a_stream_is_that_ends_too_soon(stream: bytes, expected: Opening) -> None:
    assert ended(stream) == expected
