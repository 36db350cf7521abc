"""Connections whose first bytes a test writes itself, from the host or from a container."""

from __future__ import annotations

import json
import signal
import ssl
from dataclasses import dataclass
from typing import Any

from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.sender import PROGRAMS, PYTHON
from tests.lab.space import Process
from tests.unit.wire.hello_sample import python_hello

SERVER_HELLO = "\x16\x03\x03"
"""How the answer of a TLS server begins that has taken a hello."""
RESET = ("ConnectionResetError", "BrokenPipeError")
ACCESS_DENIED = "\x15\x03\x03\0\2\2\x31"
"""TLS's fatal alert 49, in a record."""
FORBIDDEN = "HTTP/1.1 403 "
Step = tuple[str, Any]
HEAR: Step = ("hear", 3)
AWAIT: Step = ("await", "")


@dataclass(frozen=True, slots=True)
class Met:
    """What a connection met: all that came back, and the error that ended it."""

    heard: str
    error: str

    @property
    def is_tls(self) -> bool:
        """Whether the server has read the hello."""
        return self.heard.startswith(SERVER_HELLO)

    @property
    def refused(self) -> bool:
        """Whether it was reset at once, and nothing came back, or was told that it is refused."""
        return (not self.heard and self.error in RESET) or self.told

    @property
    def told(self) -> bool:
        """Whether it was told that it is refused, and nothing else."""
        return self.heard == ACCESS_DENIED or self.heard.startswith(FORBIDDEN)


def hello(name: str | None) -> str:
    """The TLS hello of Python's client."""
    return python_hello(name, [], ssl.TLSVersion.TLSv1_3).decode("latin-1")


def get(host: str, path: str) -> str:
    """A plain HTTP request."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"


def _command(address: str, port: int, steps: tuple[Step, ...]) -> tuple[str, ...]:
    asked = json.dumps({"to": [address, port], "steps": steps})
    return (PYTHON, "-I", "-c", (PROGRAMS / "opener.py").read_text(), asked)


def opens(who: Host | Container, address: str, port: int, *steps: Step) -> Met:
    """Connect, and take the steps: as the engine, or in the container."""
    command = _command(address, port, steps)
    done = who.as_engine(*command) if isinstance(who, Host) else who.run(*command)
    assert done.ok, done.output
    return Met(*json.loads(done.output.splitlines()[-1]))


def says(who: Host | Container, address: str, port: int, text: str) -> Met:
    """Connect, send this, and hear the first of an answer."""
    return opens(who, address, port, ("send", text), HEAR)


def begins(who: Host | Container, address: str, port: int, *steps: Step) -> Process:
    """The same, and wait for the handshake alone: `goes_on` lets a step `AWAIT` end."""
    command = _command(address, port, steps)
    if isinstance(who, Host):
        process = who.namespace.start(*command, cgroup=who.engine_cgroup)
    else:
        process = who.start(*command)
    process.wait_for("connected")
    return process


def goes_on(process: Process) -> Met:
    """What a connection met that was begun."""
    process.send(signal.SIGUSR1)
    process.wait()
    return Met(*json.loads(process.lines[-1]))
