"""Names of containers by address, from an engine's socket, or none."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ramfw import containers

LISTED = [
    {
        "Names": ["/builder"],
        "NetworkSettings": {
            "Networks": {
                "bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": "2001:db8:d::2"},
                "none": {"IPAddress": "", "GlobalIPv6Address": ""},
            }
        },
    }
]


@contextmanager
def engine(path: Path, answer: bytes) -> Iterator[None]:
    """An engine that gives one answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(containers, "SOCKETS", ())
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    return tmp_path / "docker.sock"


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_each_address_has_its_containers_name(path: Path) -> None:
    with engine(path, http(json.dumps(LISTED).encode())):
        assert containers.names_by_address() == {
            "172.17.0.2": "builder",
            "2001:db8:d::2": "builder",
        }


@pytest.mark.parametrize(
    "answer",
    [
        http(b"{}", "403 Forbidden"),
        http(b"nonsense"),
        http(b'[{"Names": []}]'),
        http(b"[7]"),
        http(b'{"message": "no"}'),
        b"",
        b"SSH-2.0\r\n",
    ],
)
def test_an_engine_that_says_something_else_tells_no_names(path: Path, answer: bytes) -> None:
    with engine(path, answer):
        assert containers.names_by_address() == {}


def test_without_an_engine_there_are_no_names(path: Path) -> None:
    assert not path.exists()
    assert containers.names_by_address() == {}
