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

from ramfw.wire.refusal import TLS_ALERT, http_forbidden
from ramfw.wire.tcp import MAX_ANSWER


def parts(response: bytes) -> tuple[bytes, Message, bytes]:
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
    status, fields, body = parts(http_forbidden("Example Corp: no", registry_api=True))

    assert status == b"HTTP/1.1 403 Forbidden\r\n"
    assert fields["Content-Type"] == "application/json"
    assert json.loads(body)["errors"][0]["code"] == "DENIED"
    assert json.loads(body)["errors"][0]["message"] == "Example Corp: no"


def test_others_get_a_line_of_text() -> None:
    _, fields, body = parts(http_forbidden("Example\r\nCorp: é", registry_api=False))

    assert fields["Content-Type"] == "text/plain; charset=utf-8"
    assert body.decode() == "Example Corp: é\n"


@given(st.text(max_size=900), st.booleans())
def test_whatever_the_message_it_fits_and_is_whole(message: str, registry_api: bool) -> None:  # noqa: FBT001
    response = http_forbidden(message, registry_api=registry_api)
    _, fields, body = parts(response)

    assert len(response) <= MAX_ANSWER
    assert int(fields["Content-Length"]) == len(body)
    if registry_api:
        json.loads(body)


def test_a_long_message_is_cut_not_lost() -> None:
    for character in "x€\N{GRINNING FACE}\x01":
        assert len(http_forbidden(character * 5000, registry_api=True)) > MAX_ANSWER // 2
