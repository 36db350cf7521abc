"""The service manager hears what it is told, and its absence or death harms nothing."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

import pytest

from ramfw.notify import notify


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
    sent: list[str] = []
    original = socket.socket.sendto

    def sendto(self: socket.socket, data: bytes, where: str) -> int:
        sent.append(where)
        return original(self, data, where)

    monkeypatch.setattr(socket.socket, "sendto", sendto)
    if address is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
    assert sent == ([address] if address else [])
