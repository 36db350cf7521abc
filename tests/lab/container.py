"""A container of the lab's image, with curl and the other programs of the host in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.lab.sender import Sender, download_command
from tests.lab.space import Outcome, Process


class Container:
    """A running container, until `remove` or the end of the lab."""

    def __init__(
        self, docker: Callable[..., Outcome], start: Callable[..., Process], identity: str
    ) -> None:
        self._docker = docker
        self._start = start
        self.id = identity

    def run(self, *argv: str, timeout: float = 20) -> Outcome:
        """Run a program in the container."""
        return self._docker("exec", self.id, *argv, timeout=timeout)

    def start(self, *argv: str) -> Process:
        """Start a program of the host in the container's network."""
        return self._start(*self._in_network, *argv)

    def curl(self, url: str, *more: str) -> Outcome:
        """Fetch a URL from within; any HTTP answer is a success."""
        options = ("-sS", "--max-time", "10", "-o", "/dev/null", "-w", "%{stderr}%{http_code}\n")
        return self.run("curl", *options, *more, url)

    def start_sender(self, *places: str) -> Sender:
        """Start a program in the container's network that tries to reach places without pause."""
        return Sender(self.start(*Sender.command(places)))

    def start_download(self, image: str) -> Process:
        """The same as the host's, in the container's network."""
        download = self.start(*download_command(image))
        download.wait_for("receiving")
        return download

    @property
    def _in_network(self) -> tuple[str, ...]:
        # Not docker exec, which hands no signal on.
        return ("nsenter", "--target", str(self._shown["State"]["Pid"]), "--net")

    @property
    def address(self) -> str:
        """The IPv4 address on its first network."""
        networks = self._shown["NetworkSettings"]["Networks"]
        return str(next(iter(networks.values()))["IPAddress"])

    @property
    def _shown(self) -> Any:  # noqa: ANN401
        return json.loads(self._docker("inspect", self.id).output)[0]
