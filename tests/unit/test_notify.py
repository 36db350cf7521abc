"""The service manager hears what it is told, and its absence or death harms nothing."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Any

import pytest

from ramfw.notify import keep, kept, notify


def heard(address: str, named: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", named)
        notify("READY=1")
        notify("STATUS=größer")
        return [manager.recv(100).decode() for _ in range(2)]


def test_states_reach_a_socket_in_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    assert heard(path, path, monkeypatch) == ["READY=1", "STATUS=größer"]


def test_states_reach_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"ramfw-test-{uuid.uuid4()}"
    assert heard(f"\0{name}", f"@{name}", monkeypatch) == ["READY=1", "STATUS=größer"]


@pytest.mark.parametrize("address", [None, "", "/nobody/listens/here"])
def test_where_nobody_listens_nothing_happens(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    original = socket.socket.sendmsg

    def sendmsg(self: socket.socket, said: list[bytes], rights: Any, flags: int, to: str) -> int:  # noqa: ANN401
        tried.append(to)
        return original(self, said, rights, flags, to)

    monkeypatch.setattr(socket.socket, "sendmsg", sendmsg)
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
    keep("lock", 0)
    assert tried == ([address, address] if address else [])


def test_a_descriptor_to_keep_goes_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        (tmp_path / "x").open("w") as x,
    ):
        manager.bind(path)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        keep("lock", x.fileno())
        state, (descriptor,), _flags, _address = socket.recv_fds(manager, 100, 4)
    assert state == b"FDSTORE=1\nFDNAME=lock\nFDPOLL=0"
    assert os.fstat(descriptor).st_ino == (tmp_path / "x").stat().st_ino
    os.close(descriptor)


@pytest.fixture
def handed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Three descriptors as a service manager hands them over, though not from 3 on."""
    first = os.open(tmp_path, os.O_RDONLY)
    descriptors = [os.dup2(first, number, inheritable=True) for number in range(500, 503)]
    os.close(first)
    monkeypatch.setattr("ramfw.notify.FIRST", 500)
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "3")
    monkeypatch.setenv("LISTEN_FDNAMES", "other:lock:lock")
    return descriptors


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def test_what_was_kept_comes_back_once_and_nothing_else_stays_open(handed_over: list[int]) -> None:
    assert kept("lock") == 501
    assert [is_open(descriptor) for descriptor in handed_over] == [False, True, False]
    assert not os.get_inheritable(501)
    assert kept("lock") is None
    os.close(501)


@pytest.mark.parametrize(
    ("name", "value"), [("LISTEN_PID", "1"), ("LISTEN_FDS", "many"), ("LISTEN_FDNAMES", "a:b:c")]
)
def test_what_is_not_meant_for_us_is_not_taken(
    name: str, value: str, handed_over: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert kept("lock") is None
    for descriptor in filter(is_open, handed_over):
        os.close(descriptor)
