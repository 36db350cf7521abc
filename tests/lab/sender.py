"""A program that never pauses trying to reach places, and how it fared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.space import Process

PROGRAMS = Path(__file__).parent / "servers"


class Sender:
    """A running `servers/sender.py`, on the host or in a container."""

    def __init__(self, process: Process) -> None:
        self._process = process
        process.wait_for("sending")

    @staticmethod
    def command(places: Sequence[str], python: str = "/usr/bin/python3") -> tuple[str, ...]:
        return (python, "-I", str(PROGRAMS / "sender.py"), *places)

    def stop(self) -> tuple[int, int]:
        """End it: how many connections it attempted, and how many were answered."""
        self._process.stop()
        said = self._process.lines[-1].split()
        return int(said[1]), int(said[3])
