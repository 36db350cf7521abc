"""The question that a host is asked, and whatever strangers say to it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.registry_check import Evidence
from ramfw.wire.registry_answer import (
    LONGEST_BODY,
    LONGEST_HEAD,
    MOST_INTERIM,
    RegistryAnswer,
)

HEAD = b"HTTP/1.1 200 OK\r\n"
VERSION = b"Docker-Distribution-Api-Version: registry/2.0\r\n"
JSON = b"Content-Type: application/json\r\n"
PAGE = HEAD + b"Content-Type: text/html\r\n\r\n<html>"


def answered(*pieces: bytes) -> RegistryAnswer:
    answer = RegistryAnswer("registry.example", 443, "ramfw/1")
    for piece in pieces:
        answer.receive(piece)
    return answer


@pytest.mark.parametrize(
    ("host", "port", "named"),
    [
        ("registry.example", 443, b"registry.example"),
        ("registry.example", 5000, b"registry.example:5000"),
        ("203.0.113.1", 443, b"203.0.113.1"),
        ("2001:db8::1", 443, b"[2001:db8::1]"),
        ("2001:db8::1", 5000, b"[2001:db8::1]:5000"),
    ],
)
def test_the_question(host: str, port: int, named: bytes) -> None:
    assert RegistryAnswer(host, port, "ramfw/1").request == (
        b"GET /v2/ HTTP/1.1\r\nHost: " + named + b"\r\nUser-Agent: ramfw/1\r\n"
        b"Accept: application/json\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize("host", ["a\r\nX: y", "a\nb", "a\0b", " a", "é"])
def test_no_host_can_write_a_header(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        RegistryAnswer(host, 443, "ramfw/1")


def test_a_registry_is_known_by_its_head_alone() -> None:
    answer = answered(HEAD + VERSION, b"\r\n")
    assert (answer.is_whole, answer.evidence) == (True, Evidence.HEADER)


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_an_empty_object_is_known_when_it_is_whole(framing: bytes) -> None:
    whole = HEAD + JSON + framing
    for cut in range(1, len(whole)):
        assert answered(whole[:cut], whole[cut:]).evidence is Evidence.EMPTY
    assert answered(whole).is_whole


def test_a_body_may_end_with_the_stream() -> None:
    answer = answered(HEAD + JSON + b"\r\n{}")
    assert not answer.is_whole
    answer.receive(b"")
    assert (answer.is_whole, answer.evidence) == (True, Evidence.EMPTY)


def test_interim_answers_come_before() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\n\r\n"
    assert answered(interim * MOST_INTERIM + HEAD + VERSION + b"\r\n").evidence
    many = answered(interim * (MOST_INTERIM + 1) + HEAD + VERSION + b"\r\n")
    assert (many.is_whole, many.evidence) == (True, None)


@pytest.mark.parametrize(
    "said",
    [
        PAGE + b"x" * (LONGEST_BODY + 1),
        HEAD + JSON + b"\r\n" + b" " * LONGEST_BODY + b"{}",
        b"HTTP/1.1 302 Found\r\n" + VERSION + b"Location: /v2/x\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        b"* OK IMAP4rev1",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00",
        HEAD + b"X: " + b"a" * (LONGEST_HEAD + 1),
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n" + VERSION + b"\r\n",
        HEAD + VERSION + b"X\x00: y\r\n\r\n",
    ],
)
def test_what_is_no_registry_is_told_and_nothing_more_is_read(said: bytes) -> None:
    answer = answered(said)
    assert (answer.is_whole, answer.evidence) == (True, None)
    answer.receive(HEAD + VERSION + b"\r\n")
    assert answer.evidence is None


@pytest.mark.parametrize("said", [(), (b"",), (b"HTTP/1.1 2", b"")])
def test_of_what_ends_before_an_answer_nothing_is_known(said: tuple[bytes, ...]) -> None:
    answer = answered(*said)
    assert (answer.is_whole, answer.evidence) == (False, None)


def test_a_body_that_breaks_off_is_what_there_was_of_it() -> None:
    answer = answered(HEAD + JSON + b"Content-Length: 9\r\n\r\n{}", b"")
    assert answer.is_whole


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_whatever_strangers_send_nothing_is_raised(pieces: list[bytes]) -> None:
    answer = answered(*pieces)
    assert answer.evidence is None or VERSION[:10].lower() in b"".join(pieces).lower()


BITS = st.sampled_from(
    [
        *(HEAD, VERSION, JSON, b"\r\n", b"{}", b"HTTP/1.1 401 U\r\n", b"HTTP/1.1 100 C\r\n\r\n"),
        *(b"Content-Length: 2\r\n", b"Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n", b"0\r\n"),
        *(b'WWW-Authenticate: Bearer realm="https://a",service="b"\r\n', b"\x00", b" x\r\n", b""),
        b'{"errors":[{"code":"DENIED"}]}',
    ]
)


@given(st.lists(BITS, max_size=16), st.lists(st.integers(0, 400), max_size=8))
def test_pieces_of_answers_are_read_the_same_however_they_are_cut(
    bits: list[bytes], cuts: list[int]
) -> None:
    whole = b"".join(bits)
    at = sorted({0, *(cut for cut in cuts if cut < len(whole)), len(whole)})
    pieces = [whole[a:b] for a, b in pairwise(at)]
    together, apart = answered(*([whole] if whole else []), b""), answered(*pieces, b"")
    assert (together.is_whole, together.evidence) == (apart.is_whole, apart.evidence)
