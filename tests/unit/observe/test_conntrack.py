"""Ids that live flows hold, read from a socket that speaks as the kernel does."""

from __future__ import annotations

import errno
import os
import socket
import struct
from types import TracebackType
from typing import Self

import pytest

from ramfw.errors import ObserveError
from ramfw.observe.conntrack import held_ids
from ramfw.wire import nfnetlink

CT_NEW = 0x0100


def message(kind: int, payload: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + payload


def flow(mark: int, flags: int = 0) -> bytes:
    attribute = struct.pack("=HH", 8, nfnetlink.CTA_MARK) + mark.to_bytes(4)
    return message(CT_NEW, struct.pack("!BBH", 2, 0, 0) + attribute, flags)


DONE = message(nfnetlink.NLMSG_DONE, struct.pack("=i", 0))


def refused(number: int) -> bytes:
    return message(nfnetlink.NLMSG_ERROR, struct.pack("=i", -number) + bytes(20))


class Kernel:
    """Gives these datagrams, one a reading; a number is an errno of the reading itself."""

    def __init__(self, *answers: bytes | int) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []

    def __call__(self, *_family: int) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def bind(self, address: tuple[int, int]) -> None:
        assert address == (0, 0)

    def send(self, request: bytes) -> None:
        self.requests.append(request)

    def recvmsg_into(self, buffers: list[bytearray]) -> tuple[int, list[object], int, None]:
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        buffers[0][: len(answer)] = answer
        return len(answer), [], 0, None


def answering(monkeypatch: pytest.MonkeyPatch, *answers: bytes | int) -> Kernel:
    kernel = Kernel(*answers)
    monkeypatch.setattr(socket, "socket", kernel)
    return kernel


@pytest.mark.parametrize(
    ("mask", "ids"),
    [
        (0x0000FFFF, {0x1234, 0x0001}),
        (0xFFFF0000, {0x0007, 0x8000}),
        (0x000FFFF0, {0x7123, 0x8000}),
    ],
)
def test_the_masked_bits_of_every_mark_are_ids(
    monkeypatch: pytest.MonkeyPatch, mask: int, ids: set[int]
) -> None:
    answering(
        monkeypatch,
        flow(0x00071234) + flow(0) + flow(0x80000000),
        flow(0x00080001) if mask == 0x000FFFF0 else flow(0x00000001),
        DONE,
    )

    assert held_ids(mask) == ids


def test_an_empty_table_holds_no_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = answering(monkeypatch, DONE)

    assert held_ids(0xFFFF) == frozenset()
    assert kernel.requests == [nfnetlink.conntrack_dump_request(1)]


@pytest.mark.parametrize(
    "incomplete",
    [
        [flow(1, nfnetlink.NLM_F_DUMP_INTR), DONE],
        [flow(1), errno.ENOBUFS],
    ],
)
def test_a_dump_that_is_not_whole_is_made_again(
    monkeypatch: pytest.MonkeyPatch, incomplete: list[bytes | int]
) -> None:
    kernel = answering(monkeypatch, *incomplete, flow(2), DONE)

    assert held_ids(0xFFFF) == {2}
    assert len(kernel.requests) == 2


def test_a_table_that_never_stands_still_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, *[flow(1, nfnetlink.NLM_F_DUMP_INTR), DONE] * 5)

    with pytest.raises(ObserveError, match="changed under each of 5 readings"):
        held_ids(0xFFFF)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (refused(errno.EPERM), "run as root or with CAP_NET_ADMIN"),
        (refused(errno.EINVAL), "modprobe nf_conntrack_netlink"),
        (errno.EPROTONOSUPPORT, "modprobe nf_conntrack_netlink"),
        (refused(errno.ENOMEM), "Cannot allocate memory"),
        (b"\x01", "malformed"),
    ],
)
def test_a_table_that_cannot_be_read_is_said_with_what_mends_it(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | int, words: str
) -> None:
    answering(monkeypatch, answer)

    with pytest.raises(ObserveError, match=words):
        held_ids(0xFFFF)


@pytest.mark.parametrize("mask", [0, -1, 1 << 32])
def test_a_mask_that_no_mark_has_is_refused(mask: int) -> None:
    with pytest.raises(ValueError, match="mask"):
        held_ids(mask)
