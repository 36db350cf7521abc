"""The processes themselves: started as a service manager starts them, on a socket passed on."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from ramfw.explainer.activation import passed_sockets
from ramfw.explainer.certificates import Identity
from ramfw.explainer.signing import question
from tests.unit.explainer.authority import make_authority, policy_with
from tests.unit.explainer.test_server import careless

START = 'exec 3<&$1; shift; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
HELLO_BEGUN = b"\x16\x03\x01\x40\x00\x01"
MOST_MEMORY = 100 * 1024
"""KiB that the explainer may hold under a thousand connections; half is Python itself."""


@contextmanager
def started(
    listener: socket.socket, command: str, *options: str
) -> Iterator[subprocess.Popen[str]]:
    """A command of ramfw with the socket as its third descriptor, until the block ends."""
    number = listener.fileno()
    process = subprocess.Popen(
        ["bash", "-c", START, "-", str(number), sys.executable, "-m", "ramfw", *options, command],
        pass_fds=(number,),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=10)
        assert process.returncode == 0, output


def get(port: int, name: str = "ghcr.io") -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        careless().wrap_socket(plain, server_hostname=name) as connection,
    ):
        connection.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
        return connection.makefile("rb").read()


def memory(pid: int) -> int:
    """The most memory that a process has held, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def test_the_explainer_answers_on_the_socket_that_it_was_given_and_is_not_root(
    tmp_path: Path,
) -> None:
    """Whoever connects before it runs waits in the socket; a policy that it cannot read, as here,
    leaves it with fewer words. A thousand that never finish cost it no more than so much."""
    policy = str(tmp_path / "absent.toml")
    with closing(socket.create_server(("127.0.0.1", 0), backlog=1024)) as listener:
        port = listener.getsockname()[1]
        with started(listener, "explainer", "--policy", policy) as process:
            assert b"Access to ghcr.io has been restricted by your administrators." in get(port)
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "\nUid:\t0\t" not in status
            assert "\nCapEff:\t0000000000000000\n" in status
            many = [socket.create_connection(("127.0.0.1", port)) for _ in range(1000)]
            for number, connection in enumerate(many):
                with suppress(ConnectionError):  # the oldest are pushed out
                    connection.sendall(HELLO_BEGUN + bytes([number % 256]) * 5000)
            begun = time.monotonic()
            assert b"DENIED" in get(port)
            assert time.monotonic() - begun < 2
            assert memory(process.pid) < MOST_MEMORY
            for connection in many:
                connection.close()


def test_the_signer_answers_on_the_socket_that_it_was_given(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(policy_with(*make_authority(tmp_path)))
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(tmp_path / "signer.sock"))
        listener.listen()
        with started(listener, "signer", "--policy", str(policy)):
            answers = []
            for name in ("ghcr.io", "registry-1.docker.io"):
                with socket.socket(socket.AF_UNIX) as connection:
                    connection.settimeout(10)
                    connection.connect(str(tmp_path / "signer.sock"))
                    connection.sendall(question(name, Identity().public_key))
                    answers.append(json.loads(connection.makefile("rb").readline()))
    assert list(answers[0]) == ["chain"]
    assert answers[1] == {"error": "the policy permits this name"}


def test_the_signer_that_makes_its_own_socket_is_asked_by_its_own_user_only(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(policy_with(*make_authority(tmp_path)))
    path = tmp_path / "signer.sock"
    command = [sys.executable, "-m", "ramfw", "signer"]
    notify = tmp_path / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(notify))
        manager.settimeout(10)
        process = subprocess.Popen(
            [*command, "--policy", str(policy), "--signer", str(path)],
            env={**os.environ, "NOTIFY_SOCKET": str(notify)},
        )
        assert manager.recv(100) == b"READY=1"
        assert path.stat().st_mode & 0o777 == 0o600
        process.terminate()
        assert process.wait(10) == 0


def test_what_was_passed_to_another_process_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", "1")
    assert passed_sockets() == []
    assert "LISTEN_FDS" not in os.environ
    monkeypatch.setenv("LISTEN_FDS", "many")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert passed_sockets() == []


def test_the_processes_live_where_no_memory_may_be_written_and_then_run() -> None:
    """systemd's MemoryDenyWriteExecute= is prctl(PR_SET_MDWE), on kernels since 6.3."""
    program = """
import ctypes, os
version = tuple(int(part) for part in os.uname().release.split(".")[:2])
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0 or version < (6, 3)
from ramfw.explainer.certificates import Identity
from ramfw.explainer import server, signer
identity = Identity()
assert identity.context(identity.self_made("Access to ghcr.io"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_an_untrusting_client_ends_quickly_and_the_next_is_served() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        with started(listener, "explainer", "--policy", "/nonexistent"):
            get(port)
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                pytest.raises(ssl.SSLCertVerificationError),
            ):
                ssl.create_default_context().wrap_socket(plain, server_hostname="ghcr.io")
            assert b"DENIED" in get(port)
