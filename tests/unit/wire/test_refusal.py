"""What a refused client is told: short, and in its own protocol."""

from __future__ import annotations

import io
import json
import ssl
from email.message import Message
from http.client import parse_headers

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
    Target,
)
from ramfw.wire.refusal import TLS_ALERT, http_forbidden, payload
from ramfw.wire.tcp import MAX_ANSWER

HOST = "ghcr.io"


def parts(response: bytes | None) -> tuple[bytes, Message, bytes]:
    assert response is not None
    stream = io.BytesIO(response)
    status = stream.readline()
    return status, parse_headers(stream), stream.read()


def test_a_tls_client_hears_that_access_is_denied() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming = ssl.MemoryBIO()
    client = context.wrap_bio(incoming, ssl.MemoryBIO(), server_hostname="ghcr.io")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    incoming.write(TLS_ALERT)

    with pytest.raises(ssl.SSLError, match="ALERT_ACCESS_DENIED"):
        client.do_handshake()


def test_a_registry_client_gets_an_error_of_the_registry_api() -> None:
    asked = Request("GET", HOST, None, Target.ORIGIN, registry_api=True, end=0)
    status, fields, body = parts(payload(asked, HOST, "Example Corp: no"))

    assert status == b"HTTP/1.1 403 Example Corp: no\r\n"
    assert fields["Content-Type"] == "application/json"
    (error,) = json.loads(body)["errors"]
    assert error == {"code": "DENIED", "message": "Example Corp: no", "detail": {"host": HOST}}


def test_others_get_a_line_of_text() -> None:
    for asked in (
        Request("GET", HOST, None, Target.ORIGIN, registry_api=False, end=0),
        Request("CONNECT", HOST, 443, Target.AUTHORITY, registry_api=True, end=0),
        BrokenRequest("two Hosts", (HOST, "b.example"), registry_api=False),
    ):
        _, fields, body = parts(payload(asked, HOST, "Example\r\nCorp: é"))

        assert fields["Content-Type"] == "text/plain; charset=utf-8"
        assert body.decode() == "Example Corp: é\n"


def test_the_answer_to_head_is_its_head() -> None:
    asked = Request("HEAD", HOST, None, Target.ORIGIN, registry_api=True, end=0)
    status, fields, body = parts(payload(asked, HOST, "no"))

    assert (status, body) == (b"HTTP/1.1 403 no\r\n", b"")
    assert fields["Content-Length"] is None


@pytest.mark.parametrize("opening", [Other("SSH"), Http2Preface(), Ssl2Hello()])
def test_who_speaks_neither_is_told_nothing(opening: Opening) -> None:
    assert payload(opening, HOST, "no") is None


@pytest.mark.parametrize(
    "opening", [Hello(HOST, encrypted=False, alpn=(), end=9), BrokenHello("odd")]
)
def test_whoever_begins_as_tls_gets_the_alert(opening: Opening) -> None:
    assert payload(opening, HOST, "no") == TLS_ALERT


@given(st.text(max_size=900), st.text(max_size=2000), st.booleans())
def test_whatever_the_message_it_fits_and_is_whole(
    message: str,
    host: str,
    registry_api: bool,  # noqa: FBT001
) -> None:
    response = http_forbidden(host, message, registry_api=registry_api)
    status, fields, body = parts(response)

    assert len(response) <= MAX_ANSWER
    assert status.startswith(b"HTTP/1.1 403 ")
    assert int(fields["Content-Length"]) == len(body)
    if registry_api:
        json.loads(body)


def test_a_long_message_is_cut_not_lost() -> None:
    for character in "x€\N{GRINNING FACE}\x01":
        assert len(http_forbidden(HOST, character * 5000, registry_api=True)) > MAX_ANSWER // 2
