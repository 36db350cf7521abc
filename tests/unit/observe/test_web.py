"""One request is bounded in time and size, whatever the other end does."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ramfw.core.registry_api import Place
from ramfw.errors import ObserveError
from ramfw.observe import web
from ramfw.observe.web import LONGEST_BODY, RefusedAddressError, Web
from tests.unit.observe.registry_server import reply, serving


def here(port: int, scheme: str = "http", target: str = "/v2/") -> Place:
    return Place(scheme, "127.0.0.1", port, target)


def test_an_answer_is_its_status_its_headers_and_where_it_came_from() -> None:
    with serving(lambda *_: reply(401, b"body", WWW_Authenticate="Basic")) as server:
        found = Web(5).ask(here(server.port), any_address=True)
    assert (found.status, found.headers["www-authenticate"]) == (401, "Basic")
    assert (found.body, found.address) == (b"", "127.0.0.1")
    ((line, headers),) = server.asked
    assert line == "GET /v2/"
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert "authorization" not in headers


def test_a_body_is_read_where_it_is_asked_for() -> None:
    with serving(lambda *_: reply(200, b"body")) as server:
        found = Web(5).ask(here(server.port), with_body=True, any_address=True)
    assert found.body == b"body"


def test_a_body_that_nobody_asked_for_is_not_read() -> None:
    """Its sender fills the buffers on the way, and is left there."""
    size = 64 << 20
    with serving(lambda *_: reply(200, b"x" * size)) as server:
        found = Web(5).ask(here(server.port), any_address=True)
    assert found.status == 200
    assert server.sent < size / 2


def test_a_body_without_an_end_is_given_up() -> None:
    endless = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LONGEST_BODY + 100)
    with (
        serving(lambda *_: endless) as server,
        pytest.raises(ObserveError, match=f"more than {LONGEST_BODY} bytes"),
    ):
        Web(5).ask(here(server.port), with_body=True, any_address=True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_said(answer: bytes) -> None:
    with (
        serving(lambda *_: answer) as server,
        pytest.raises(ObserveError, match=rf"127\.0\.0\.1:{server.port}: "),
    ):
        Web(5).ask(here(server.port), with_body=True, any_address=True)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_comes_byte_by_byte_ends_when_its_time_is_over(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte would begin a socket's timeout anew; TLS's handshake is no other case."""
    monkeypatch.setattr(web, "ONE_REQUEST", 0.5)
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(
                        b"HTTP/1.1 200" if scheme == "http" else b"\x16\x03\x03\x3f\xff"
                    )
                    while not over.wait(0.05):
                        connection.sendall(b"0")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        began = time.monotonic()
        with pytest.raises(ObserveError, match="no answer in time"):
            Web(60).ask(here(listener.getsockname()[1], scheme), any_address=True)
        assert time.monotonic() - began < 3
        over.set()
        thread.join(5)


def test_all_requests_together_have_an_end() -> None:
    with pytest.raises(ObserveError, match="the time for all requests is over"):
        Web(0).ask(here(1), any_address=True)


def test_nobody_there_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ObserveError, match=f"127.0.0.1:{port}: Connection refused"):
        Web(5).ask(here(port), any_address=True)


def test_a_special_address_that_the_caller_did_not_name_is_not_asked() -> None:
    with serving(lambda *_: reply(200)) as server:
        with pytest.raises(RefusedAddressError, match="a loopback address: it was not asked"):
            Web(5).ask(here(server.port))
        with pytest.raises(RefusedAddressError, match="a loopback address"):
            Web(5).ask(Place("http", "localhost", server.port, "/"))
        with pytest.raises(RefusedAddressError, match="a cloud metadata service address"):
            Web(5).ask(Place("http", "169.254.169.254", 80, "/"))
    assert server.asked == []


def test_a_certificate_that_is_not_trusted_is_said_and_can_be_trusted(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        (
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-days", "1"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(certificate)),
            *("-subj", "/CN=registry", "-addext", "subjectAltName=IP:127.0.0.1"),
        ),
        check=True,
        capture_output=True,
    )
    with serving(lambda *_: reply(200), certificate, key) as server:
        with pytest.raises(ObserveError, match=r"is not trusted .* --ca"):
            Web(5).ask(here(server.port, "https"), any_address=True)
        assert Web(5, certificate).ask(here(server.port, "https"), any_address=True).status == 200
    with pytest.raises(ObserveError, match="no-such-file"):
        Web(5, tmp_path / "no-such-file")
