"""A daemon that only answers: a control socket with answers written beforehand."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = dict[str, Any]


class FakeDaemon:
    """Answers each command with what is written for it, and remembers what it was asked."""

    def __init__(self, path: Path, answers: Mapping[str, Answer]) -> None:
        self.path = path
        self.asked: list[Answer] = []
        self._answers = answers
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                question = json.loads(stream.readline())
                self.asked.append(question)
                connection.sendall(json.dumps(self._answers[question["command"]]).encode() + b"\n")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        # A closed listener does not wake accept(); one that is shut down does.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()


@contextmanager
def fake_daemon(path: Path, **answers: Answer) -> Iterator[FakeDaemon]:
    """A daemon at the path; `status={"result": ...}` is its answer to `status`."""
    daemon = FakeDaemon(path, answers)
    daemon.start()
    try:
        yield daemon
    finally:
        daemon.stop()
