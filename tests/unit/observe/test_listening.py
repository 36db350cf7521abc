"""A listener that cannot be had is told in words, and its socket given back."""

from __future__ import annotations

import errno
import struct

import pytest

from ramfw.core.watch_rules import QUESTION_GROUP
from ramfw.errors import ObserveError
from ramfw.observe.listening import listen
from ramfw.wire import netlink, nflog


class Refusing:
    """A netlink socket whose kernel answers with an error."""

    def __init__(self, number: int) -> None:
        body = struct.pack("=i", -number) + struct.pack("=IHHII", 16, 0, 0, 1, 0)
        self.answer = netlink.message(netlink.NLMSG_ERROR, 0, 1, body)
        self.is_open = True

    def bind(self, address: tuple[int, int]) -> None:
        assert address == (0, 0)

    def setsockopt(self, *_: object) -> None:
        raise PermissionError

    def settimeout(self, _: float) -> None:
        pass

    def send(self, data: bytes) -> int:
        return len(data)

    def recv(self, _: int) -> bytes:
        return self.answer

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket module's own form
        assert not flag

    def close(self) -> None:
        self.is_open = False


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EBUSY, "another program listens"), (errno.ENOENT, "No such file or directory")],
)
def test_a_group_that_cannot_be_had_is_told_and_its_socket_closed(
    number: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Refusing(number)
    monkeypatch.setattr("ramfw.observe.listening.socket.socket", lambda *_: fake)
    with pytest.raises(ObserveError, match=f"^questions cannot be watched: .*{words}"):
        listen(
            nflog.bind(QUESTION_GROUP, copy_range=512, sequence=1), "questions cannot be watched"
        )
    assert not fake.is_open
