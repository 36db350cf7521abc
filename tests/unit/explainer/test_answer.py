"""Bytes in, an answer out: a registry's error for clients, a page for people, nothing for noise."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.explainer.answer import LONGEST_HEAD, Conversation

MESSAGE = "Access to ghcr.io has been restricted by your administrators (Müller)."


def exchange(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Status line, headers and body of the answer to a request."""
    conversation = Conversation()
    asked = conversation.receive(request)
    assert asked is not None
    head, _, body = conversation.answer(asked, "ghcr.io", MESSAGE).partition(b"\r\n\r\n")
    status, *lines = head.decode("ascii").split("\r\n")
    return status, dict(line.lower().split(": ", 1) for line in lines), body


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/x/manifests/1?ns=ghcr.io", "/token"])
def test_a_registry_client_gets_a_registrys_error(path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: ghcr.io\r\nAccept: application/json\r\n\r\n"
    status, headers, body = exchange(request.encode())
    assert status.startswith("HTTP/1.1 403 ")
    assert headers["content-type"] == "application/json"
    assert headers["docker-distribution-api-version"] == "registry/2.0"
    assert int(headers["content-length"]) == len(body)
    (error,) = json.loads(body)["errors"]
    assert error == {"code": "DENIED", "message": MESSAGE, "detail": {"host": "ghcr.io"}}


def test_below_v2_even_a_browser_gets_the_registrys_error() -> None:
    _, headers, _ = exchange(b"GET /v2/ HTTP/1.1\r\nHost: ghcr.io\r\nAccept: text/html\r\n\r\n")
    assert headers["content-type"] == "application/json"


def test_a_browser_gets_a_page_in_which_nothing_is_markup() -> None:
    conversation = Conversation()
    asked = conversation.receive(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/html,*/*\r\n\r\n")
    assert asked is not None
    answer = conversation.answer(asked, "x", 'a <script> & "b"')
    assert b"Content-Type: text/html" in answer
    assert b"a &lt;script&gt; &amp; &quot;b&quot;" in answer
    assert b"<script>" not in answer.partition(b"\r\n\r\n")[2]


def test_where_no_body_is_read_the_status_line_has_the_message() -> None:
    status, headers, body = exchange(b"HEAD /v2/x/manifests/1 HTTP/1.1\r\nHost: ghcr.io\r\n\r\n")
    words = "Access to ghcr.io has been restricted by your administrators (Muller)."
    assert status == f"HTTP/1.1 403 {words}"
    assert int(headers["content-length"]) > 0
    assert body == b""


@pytest.mark.parametrize("agent", ["skopeo/1.9.3", "libpod/4.3.1", "Buildah/1.28.2"])
def test_podman_and_its_kin_are_asked_to_go_on_to_what_they_came_for(agent: str) -> None:
    asked = f"Host: ghcr.io\r\nUser-Agent: {agent}\r\n\r\n"
    first, _, body = exchange(f"GET /v2/ HTTP/1.1\r\n{asked}".encode())
    assert first.startswith("HTTP/1.1 401 ")
    assert b"DENIED" in body
    then, _, _ = exchange(f"GET /v2/x/manifests/1 HTTP/1.1\r\n{asked}".encode())
    assert then.startswith("HTTP/1.1 403 ")


def test_a_proxy_that_is_refused_is_told_apart_by_what_was_to_be_reached() -> None:
    asked = Conversation().receive(b"CONNECT ghcr.io:443 HTTP/1.1\r\nHost: proxy:3128\r\n\r\n")
    assert asked is not None
    assert asked.host == "ghcr.io:443"


def test_a_request_may_come_in_pieces_and_an_upload_is_answered_before_its_body() -> None:
    conversation = Conversation()
    request = (
        b"POST /v2/x/blobs/uploads/ HTTP/1.1\r\nHost: ghcr.io\r\nContent-Length: 900000\r\n\r\n"
    )
    *begin, last = (request[i : i + 1] for i in range(len(request)))
    assert [conversation.receive(piece) for piece in begin] == [None] * len(begin)
    asked = conversation.receive(last)
    assert asked is not None
    assert conversation.answer(asked, "ghcr.io", MESSAGE).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "noise",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00" * 100,
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * LONGEST_HEAD,
    ],
)
def test_what_is_no_request_is_no_request(noise: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Conversation().receive(noise)


@given(st.lists(st.binary(max_size=64), max_size=8))
def test_whatever_comes_it_is_a_request_or_a_value_error(pieces: list[bytes]) -> None:
    conversation = Conversation()
    for piece in pieces:
        try:
            asked = conversation.receive(piece)
        except ValueError:
            return
        if asked is not None:
            assert conversation.answer(asked, "ghcr.io", MESSAGE).startswith(b"HTTP/1.1 403 ")
            return
