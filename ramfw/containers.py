"""The names of running containers by address, as far as the caller may ask an engine for them.

Over the engines' own sockets, with the caller's rights: who may not talk to an engine learns none.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

SOCKETS = ("/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock")
PATIENCE = 2.0
"""Seconds that an engine may take."""
MOST_BYTES = 16 << 20
NO_ANSWER = (
    *(OSError, http.client.HTTPException),
    *(ValueError, TypeError, LookupError, AttributeError),  # an answer of another form
)


def names_by_address() -> dict[str, str]:
    """The name of each container that has the address; empty where no engine answers."""
    named: dict[str, str] = {}
    for path in dict.fromkeys(_sockets()):
        with suppress(*NO_ANSWER):
            for address, name in _named(_running(path)):
                named.setdefault(address, name)
    return named


def _sockets() -> Iterator[str]:
    host = os.environ.get("DOCKER_HOST", "")
    if host.startswith("unix://"):
        yield host.removeprefix("unix://")
    yield from (os.path.realpath(path) for path in SOCKETS)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self._path)


def _running(path: str) -> Any:  # noqa: ANN401 - an engine's JSON
    connection = _UnixConnection(path)
    try:
        connection.request("GET", "/containers/json")
        answer = connection.getresponse()
        return json.loads(answer.read(MOST_BYTES)) if answer.status == http.client.OK else []
    finally:
        connection.close()


def _named(containers: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - the same
    for container in containers:
        name = str(container["Names"][0]).removeprefix("/")
        for network in container["NetworkSettings"]["Networks"].values():
            for key in ("IPAddress", "GlobalIPv6Address"):
                if address := network.get(key):
                    yield str(address), name
