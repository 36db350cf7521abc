"""The host of an HTTP request, read as every server reads it, or found to be in doubt."""

from __future__ import annotations

import io
from http.client import parse_headers

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.opening import BrokenRequest, Http2Preface, Request, Target
from ramfw.wire.http_request import (
    MAX_HEAD,
    IncompleteHead,
    NotHttp,
    is_registry_api,
    read,
)

INCOMPLETE, NOT_HTTP = IncompleteHead(), NotHttp()


def head(line: str, *fields: str) -> bytes:
    return "".join(f"{one}\r\n" for one in (line, *fields, "")).encode("latin-1")


def request(stream: bytes) -> Request:
    found = read(stream)
    assert isinstance(found, Request), found
    assert found.end == len(stream)
    return found


def broken(stream: bytes) -> BrokenRequest:
    found = read(stream)
    assert isinstance(found, BrokenRequest), found
    return found


# -- requests as clients send them ---------------------------------------------------------------


def test_the_version_check_of_a_docker_client() -> None:
    stream = head(
        "GET /v2/ HTTP/1.1",
        "Host: Registry.Example:5000",
        "User-Agent: docker/28.2.2 go/go1.24.3",
        "Accept-Encoding: gzip",
        "Connection: close",
    )

    assert request(stream) == Request(
        "GET", "registry.example", 5000, Target.ORIGIN, registry_api=True, end=len(stream)
    )
    assert read(stream + b"a body") == read(stream)


@pytest.mark.parametrize(
    ("line", "fields", "host", "port", "form", "api"),
    [
        ("GET / HTTP/1.1", ["Host: a.example"], "a.example", None, "origin", False),
        ("GET / HTTP/1.1", ["hOST:\t a.example \t"], "a.example", None, "origin", False),
        ("GET / HTTP/1.1", ["Host: 192.0.2.1:80"], "192.0.2.1", 80, "origin", False),
        ("GET / HTTP/1.1", ["Host: [2001:DB8::1]:80"], "2001:db8::1", 80, "origin", False),
        ("GET / HTTP/1.1", ["Host: [2001:db8::1]"], "2001:db8::1", None, "origin", False),
        ("GET / HTTP/1.1", ["Host: a.example."], "a.example.", None, "origin", False),
        ("GET / HTTP/1.1", ["Host: under_score"], "under_score", None, "origin", False),
        ("GET / HTTP/1.1", ["Host:"], None, None, "origin", False),
        ("GET / HTTP/1.0", [], None, None, "origin", False),
        ("GET /v2 HTTP/1.0", ["X: \xe9"], None, None, "origin", True),
        ("GET /caf\xe9 HTTP/1.1", ["Host: a"], "a", None, "origin", False),
        ("OPTIONS * HTTP/1.1", ["Host: a"], "a", None, "asterisk", False),
        ("CONNECT ghcr.io:443 HTTP/1.1", ["Host: ghcr.io:443"], "ghcr.io", 443, "authority", False),
        ("CONNECT GHCR.io:443 HTTP/1.1", ["Host: ghcr.io"], "ghcr.io", 443, "authority", False),
        ("CONNECT ghcr.io:443 HTTP/1.0", [], "ghcr.io", 443, "authority", False),
        (
            "GET http://a.example/v2/ HTTP/1.1",
            ["Host: a.example"],
            "a.example",
            80,
            "absolute",
            True,
        ),
        ("GET HTTP://a:8080 HTTP/1.1", ["Host: A:8080"], "a", 8080, "absolute", False),
        ("GET http://a?/v2/ HTTP/1.1", ["Host: a:80"], "a", 80, "absolute", False),
        ("GET https://a/ HTTP/1.1", ["Host: a"], "a", 443, "absolute", False),
        ("M-SEARCH / HTTP/1.1", ["Host: a"], "a", None, "origin", False),
    ],
)
def test_a_request_names_its_host(  # noqa: PLR0913 - what is sent, and each field of what is read
    line: str, fields: list[str], host: str | None, port: int | None, form: str, *, api: bool
) -> None:
    stream = head(line, *fields)
    found = request(stream)

    assert (found.host, found.port, found.target, found.registry_api) == (host, port, form, api)
    assert all(read(stream[:end]) == INCOMPLETE for end in range(len(stream)))


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "reason", "hosts"),
    [
        (head("GET / HTTP/1.1", "Host: a", "Host: ghcr.io"), "two Host", ("a", "ghcr.io")),
        (head("GET / HTTP/1.1", "Host: a", "Host: a"), "two Host", ("a",)),
        (head("GET / HTTP/1.1", "Host:", " ghcr.io"), "folded", ("ghcr.io",)),
        (head("GET / HTTP/1.1", "X: a", "\tHost: ghcr.io", "Host: a"), "folded", ("a",)),
        (head("GET / HTTP/1.1", " Host: ghcr.io"), "folded", ()),
        (head("GET / HTTP/1.1", "Host : ghcr.io"), "space before", ("ghcr.io",)),
        (head("GET / HTTP/1.1", "Host\t: ghcr.io", "Host: a"), "space before", ("ghcr.io", "a")),
        (head("GET / HTTP/1.1", ": x", "Host: a"), "a field that", ("a",)),
        (head("GET / HTTP/1.1", "Host"), "a field that", ()),
        (head("GET / HTTP/1.1", "X: \x01", "Host: a"), "a field that", ("a",)),
        (head("GET / HTTP/1.1", "X: a\0b", "Host: a"), "a NUL", ("a",)),
        (head("GET / HTTP/1.1", "Host: ghcr.io\0.a"), "a NUL", ("ghcr.io\0.a",)),
        (head("GET / HTTP/1.1"), "no Host", ()),
        (head("GET / HTTP/1.1", "Host: a b"), "not a name", ("a b",)),
        (head("GET / HTTP/1.1", "Host: me@ghcr.io"), "not a name", ("ghcr.io",)),
        (head("GET / HTTP/1.1", "Host: a:"), "not a name", ("a",)),
        (head("GET / HTTP/1.1", "Host: a:0"), "not a name", ("a",)),
        (head("GET / HTTP/1.1", "Host: a:65536"), "not a name", ("a",)),
        (head("GET / HTTP/1.1", "Host: a, ghcr.io"), "not a name", ("a, ghcr.io",)),
        (head("GET / HTTP/1.1", "Host: a/b"), "not a name", ("a/b",)),
        (b"GET / HTTP/1.1\nHost: ghcr.io\n\n", "LF alone", ("ghcr.io",)),
        (b"GET / HTTP/1.1\r\nX: a\nHost: ghcr.io\r\n\r\n", "LF alone", ("ghcr.io",)),
        (b"GET / HTTP/1.1\r\nX: a\rHost: ghcr.io\r\n\r\n", "CR within", ("ghcr.io",)),
        (b"GET / HTTP/1.1\r\r\nHost: ghcr.io\r\n\r\n", "CR within", ("ghcr.io",)),
        (b"\r\nGET / HTTP/1.1\r\nHost: ghcr.io\r\n\r\n", "empty line", ("ghcr.io",)),
        (b"\nGET / HTTP/1.1\r\nHost: ghcr.io\r\n\r\n", "empty line", ("ghcr.io",)),
        (b"GET /\r\n", "request line", ()),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "request line", ("a",)),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "request line", ("a",)),
        (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "request line", ("a",)),
        (b"GET / HTTP/11\r\nHost: a\r\n\r\n", "request line", ("a",)),
        (head("GET / HTTP/2.0", "Host: a"), "version 2.0", ("a",)),
        (head("GET / HTTP/1.2", "Host: a"), "version 1.2", ("a",)),
        (head("GET /a#b HTTP/1.1", "Host: a"), "fragment", ("a",)),
        (head("GET ghcr.io HTTP/1.1", "Host: a"), "neither a path", ("a",)),
        (head("GET ftp://ghcr.io/ HTTP/1.1", "Host: ghcr.io"), "neither a path", ("ghcr.io",)),
        (head("GET * HTTP/1.1", "Host: a"), "neither a path", ("a",)),
        (
            head("GET http://ghcr.io/ HTTP/1.1", "Host: a"),
            "not the one of the URL",
            ("ghcr.io", "a"),
        ),
        (head("GET http://a:81/ HTTP/1.1", "Host: a"), "not the one of the URL", ("a",)),
        (head("GET http://me@ghcr.io/ HTTP/1.1", "Host: a"), "not a name", ("ghcr.io", "a")),
        (head("GET http://a\\@ghcr.io/ HTTP/1.1", "Host: a"), "not a name", ("ghcr.io", "a")),
        (head("GET http:/// HTTP/1.1", "Host: a"), "not a name", ("a",)),
        (head("CONNECT ghcr.io HTTP/1.1", "Host: ghcr.io"), "without a port", ("ghcr.io",)),
        (head("CONNECT / HTTP/1.1", "Host: a"), "not a name", ("/", "a")),
        (head("CONNECT ghcr.io:443 HTTP/1.1", "Host: a"), "the CONNECT", ("ghcr.io", "a")),
        (head("CONNECT ghcr.io:443 HTTP/1.1", "Host: ghcr.io:80"), "the CONNECT", ("ghcr.io",)),
        (head("CONNECT http://ghcr.io/ HTTP/1.1", "Host: a"), "not a name", ("ghcr.io", "a")),
    ],
)
def test_what_can_be_read_in_two_ways_is_broken(
    stream: bytes, reason: str, hosts: tuple[str, ...]
) -> None:
    found = broken(stream)

    assert reason in found.reason
    assert found.hosts == hosts
    assert not found.registry_api


def test_a_broken_request_tells_whether_it_may_ask_for_a_registry() -> None:
    assert broken(b"GET /v2/\r\n").registry_api
    assert broken(b"\r\nGET /v2/ HTTP/1.1\r\n").registry_api
    assert broken(head("GET /x/..//v2/ HTTP/1.1", "Host : a")).registry_api
    assert broken(head("GET http://me@a/v2/x HTTP/1.1", "Host: a")).registry_api
    assert broken(b"GET /v2#/ HTTP/1.1\r\nHost: a\r\n\r\n").registry_api


def test_a_fault_is_found_before_the_server_can_answer() -> None:
    """A server that takes LF alone, or HTTP/0.9, answers at that very byte."""
    for stream in (b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r\nHost: a\n", b"GET /\r\n"):
        assert read(stream[:-1]) == INCOMPLETE
        broken(stream)


def test_a_head_has_a_bound() -> None:
    long = head("GET / HTTP/1.1", "Host: a", "X: " + "x" * (MAX_HEAD - 40))

    assert len(long) < MAX_HEAD
    assert request(long)
    assert "more than" in broken(head("GET / HTTP/1.1", "Host: a", "X: " + "x" * MAX_HEAD)).reason
    assert "request line" in broken(b"GET /" + b"x" * MAX_HEAD).reason
    assert read(b"GET /" + b"x" * (MAX_HEAD - 6)) == INCOMPLETE


# -- what is not HTTP/1 --------------------------------------------------------------------------


def test_the_preface_of_http_2() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    assert all(read(preface[:end]) == INCOMPLETE for end in range(16))
    assert all(read(preface[:end]) == Http2Preface() for end in range(16, len(preface)))


@pytest.mark.parametrize(
    "stream",
    [
        b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
        b"EHLO mail.example\r\n",
        b'CONNECT {"verbose":false}\r\n',
        b"OPTIONS rtsp://a.example/ RTSP/1.0\r\n",
        b"REGISTER sip:a.example SIP/2.0\r\n",
        b"PING\r\n",
        b"PING\n",
        b"get key\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"0032git-upload-pack /a.git\0host=a\0",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"<?xml version='1.0'?>",
        b"{}",
        b" GET / HTTP/1.1\r\n",
        b"GET\t/ HTTP/1.1\r\n",
        b"GET /\0v2/ HTTP/1.1\r\n",
        b"\r\n\0",
        b"a" * 25,
        b"hello world " * 3000,
        b"\r\n" * MAX_HEAD,
    ],
)
def test_other_protocols_are_told_apart(stream: bytes) -> None:
    assert read(stream) == NOT_HTTP


@pytest.mark.parametrize(
    ("path", "api"),
    [
        (b"/v2/", True),
        (b"/v2", True),
        (b"/v2?x=/", True),
        (b"/v2/library/alpine/manifests/latest", True),
        (b"/%76%32/", True),
        (b"/v2%2f", True),
        (b"//v2/", True),
        (b"/./v2/", True),
        (b"/a/../v2/", True),
        (b"/a/%2e%2E/v2/", True),
        (b"/../v2/", True),
        (b"/a//../../v2/", True),
        (b"/v2//../x", True),
        (b"/a//../v2/", True),
        (b"\\v2\\x", True),
        (b"/a/..%5cv2/", True),
        (b"/v2/..", False),
        (b"/v2/../x", False),
        (b"/v20/", False),
        (b"/v2x", False),
        (b"/V2/", False),
        (b"/%2576%32/", False),
        (b"/%zz/v2/", False),
        (b"/x/v2/", False),
        (b"/?/v2/", False),
        (b"/v2%00/", False),
        (b"/", False),
        (b"", False),
    ],
)
def test_the_path_of_the_registry_api(path: bytes, *, api: bool) -> None:
    assert is_registry_api(path) is api


# -- whatever the bytes --------------------------------------------------------------------------


WORDS = [b"GET ", b"CONNECT ", b"/", b"/v2/", b"http://", b"a:1", b" HTTP/1.1", b"PRI * HTTP/2.0"]
WORDS += [b"Host: a", b"Host: ghcr.io", b"\r\n", b"\r", b"\n", b" ", b"\t", b"\0", b"#", b"X"]


@given(st.lists(st.sampled_from(WORDS), max_size=12).map(b"".join) | st.binary(max_size=60))
def test_an_outcome_is_final(stream: bytes) -> None:
    found = read(stream)
    shorter = [read(stream[:end]) for end in range(len(stream))]

    firsts = [one for one in [*shorter, found] if one != INCOMPLETE]
    assert {type(one) for one in firsts} <= {type(found)}
    assert [one == INCOMPLETE for one in shorter] == sorted(
        (one == INCOMPLETE for one in shorter), reverse=True
    )


TEXT = st.text(st.sampled_from("abAB.-_ \t,@[]/"), max_size=12)


@given(st.lists(st.tuples(st.sampled_from(["Host", "host", "X", "Y"]), TEXT), max_size=4))
def test_pythons_own_reader_finds_the_same_host(fields: list[tuple[str, str]]) -> None:
    stream = head("GET / HTTP/1.1", *(f"{name}: {value}" for name, value in fields))
    found = read(stream)
    said = parse_headers(io.BytesIO(stream.partition(b"\r\n")[2])).get_all("Host") or []

    if isinstance(found, Request):
        assert [host.strip().lower() or None for host in said] == [found.host]
    else:
        assert len(said) != 1 or not said[0].strip().replace(".", "").isalnum()
