"""The programs that make traffic: one that never pauses, and one that downloads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.space import Process

PROGRAMS = Path(__file__).parent / "servers"
PYTHON = "/usr/bin/python3"


def download_command(image: str) -> tuple[str, ...]:
    """The command that fetches an image's last layer."""
    return (PYTHON, "-I", str(PROGRAMS / "download.py"), image)


class Sender:
    """A running `servers/sender.py`, on the host or in a container."""

    def __init__(self, process: Process) -> None:
        self._process = process
        process.wait_for("sending")

    @staticmethod
    def command(places: Sequence[str]) -> tuple[str, ...]:
        return (PYTHON, "-I", str(PROGRAMS / "sender.py"), *places)

    def stop(self) -> tuple[int, int]:
        """End it: how many connections it attempted, and how many were answered."""
        self._process.stop()
        said = self._process.lines[-1].split()
        return int(said[1]), int(said[3])
