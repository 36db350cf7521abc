"""The process itself, started as a service manager starts it, on a socket passed on."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import takewhile
from pathlib import Path

import pytest

from ramfw.core.probe import Outcome
from ramfw.core.registry_check import Evidence
from ramfw.prober import protocol
from tests.unit.explainer.authority import make_authority
from tests.unit.explainer.test_service import memory, started
from tests.unit.prober.stranger import REGISTRY

MOST_MEMORY = 96 * 1024
"""KiB under as many endless answers as it takes at once; a third is Python itself."""
MANY = 64


@contextmanager
def serving(directory: Path, *, endless: bool = False) -> Iterator[int]:
    """A registry in threads, or a server whose headers never end; its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_authority(directory))

    def serve(client: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(client, server_side=True) as tls:
            tls.recv(4096)
            tls.sendall(b"HTTP/1.1 200 OK\r\nX: " if endless else REGISTRY)
            while endless:
                tls.sendall(b"x" * 10)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=MANY) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def ask(path: Path, port: int) -> socket.socket:
    """Put a question; the socket on which the answer comes."""
    asked = socket.socket(socket.AF_UNIX)
    asked.settimeout(20)
    asked.connect(str(path))
    with socket.create_connection(("127.0.0.1", port)) as connection:
        line = protocol.question("registry.example", port)
        socket.send_fds(asked, [line], [connection.fileno()])
    return asked


def test_it_answers_on_the_socket_that_it_was_given_and_is_not_root(tmp_path: Path) -> None:
    path = tmp_path / "prober.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen(MANY)
        with started(listener, "prober") as process:
            with serving(tmp_path) as port, ask(path, port) as asked:
                answer = protocol.read_answer(asked.recv(4096))
            status = Path(f"/proc/{process.pid}/status").read_text()
            with serving(tmp_path, endless=True) as port:
                crowd = [ask(path, port) for _ in range(MANY)]
                outcomes = {protocol.read_answer(one.recv(4096))[0] for one in crowd}
            for one in crowd:
                one.close()
            held = memory(process.pid)
    assert answer == (Outcome.REGISTRY, Evidence.HEADER)
    assert "\nUid:\t0\t" not in status
    assert "\nCapEff:\t0000000000000000\n" in status
    assert outcomes <= {Outcome.OTHER, Outcome.SILENT}
    assert held < MOST_MEMORY


def test_by_itself_it_makes_a_socket_that_only_its_own_user_can_ask(tmp_path: Path) -> None:
    path, manager_path = tmp_path / "prober.sock", tmp_path / "notify.sock"
    command = [sys.executable, "-m", "ramfw", "prober", "--prober", str(path)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(manager_path))
        manager.settimeout(20)
        if os.geteuid() == 0:
            tmp_path.chmod(0o755)
            manager_path.chmod(0o666)
            shared = Path(tempfile.gettempdir())
            for parent in takewhile(lambda parent: parent != shared, tmp_path.parents):
                parent.chmod(0o755)
        process = subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": str(manager_path)})
        try:
            assert manager.recv(100) == b"READY=1"
            assert path.stat().st_mode & 0o777 == 0o600
            assert manager.recv(100) == b"WATCHDOG=1"
        finally:
            process.terminate()
        assert process.wait(10) == 0


def test_where_it_cannot_listen_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "absent" / "prober.sock"
    command = [sys.executable, "-m", "ramfw", "prober", "--prober", str(path)]
    met = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert met.returncode == 1
    assert met.stderr.startswith(f"ramfw: cannot listen at {path}")


@pytest.mark.parametrize("option", ["--help"])
def test_its_help_says_what_it_is_for(option: str) -> None:
    command = [sys.executable, "-m", "ramfw", "prober", option]
    met = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert "unknown" in met.stdout
