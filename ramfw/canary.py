"""Does the filter really stop what it should? Tried from inside the engines' slice.

The canary opens a server on loopback, on a port that nobody can have permitted, and connects to
it: what an engine sends to loopback is judged like anything else, and nothing leaves the machine
whether the filter holds or not. That the daemon's counters have counted it shows that ramfw, and
nobody else, refused it. In audit mode the connection is to succeed, and to be counted.

A refused connection may be turned to the explainer, and so come about. What counts is therefore
whether the server that was meant gets it: the client speaks first, as HTTP, so that either that
server hears of it or the explainer answers.
"""

from __future__ import annotations

import errno
import select
import socket
from dataclasses import dataclass
from pathlib import Path

from ramfw.control import NotRunningError, request

PATIENCE = 3.0
"""Seconds that a connection may take; one over loopback takes none."""
QUESTION = b"GET / HTTP/1.0\r\n\r\n"
ADDRESSES = (
    (socket.AF_INET, "127.0.0.1"),
    (socket.AF_INET6, "::1"),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen, and whether the filter holds; None where there is none to test."""

    detail: str
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Scope:
    """What the daemon says of the scope engines, in packets."""

    by_cgroup: bool
    is_off: bool
    is_audited: bool
    refused: int
    audited: int


def examine(control: Path) -> Finding:
    """What the filter does to this process, which should be in the engines' slice.

    Raises ControlError where a daemon is there and does not answer.
    """
    before = _engines(control)
    if before is not None and not before.by_cgroup:
        return Finding("this kernel cannot tell engines from the rest of the host", holds=None)
    if before is not None and before.is_off:
        return Finding("the scope engines is off", holds=None)
    seen = {
        address: outcome
        for family, address in ADDRESSES
        if (outcome := _connect(family, address)) is not None
    }
    if not seen:
        return Finding("there is no loopback to test with", holds=False)
    return _judged(before, _engines(control), seen)


def _judged(before: Scope | None, after: Scope | None, seen: dict[str, str]) -> Finding:
    told = ", ".join(f"{address}: {outcome}" for address, outcome in seen.items())
    passed = "connected" in seen.values()
    if before is None or after is None:
        if passed:
            words = f"the daemon is not running, and what is refused passed ({told})"
            return Finding(words, holds=False)
        return Finding(f"the daemon is not running, and its rules refuse ({told})", holds=True)
    if after.is_audited:
        if after.audited - before.audited < len(seen):
            return Finding(f"what would be refused is not counted ({told})", holds=False)
        return Finding("audit mode: what would be refused passes, and is counted", holds=True)
    if passed:
        return Finding(f"what the policy refuses passed ({told})", holds=False)
    if after.refused - before.refused < len(seen):
        return Finding(f"something else than ramfw refused it ({told})", holds=False)
    return Finding(f"what the policy refuses was refused ({told})", holds=True)


def _engines(control: Path) -> Scope | None:
    """What the daemon says of the scope; None where none runs."""
    try:
        facts = request(control, "status")
    except NotRunningError:
        return None
    scope = next(scope for scope in facts["scopes"] if scope["name"] == "engines")
    return Scope(
        facts["by_cgroup"],
        scope["mode"] == "off",
        facts["mode"] == "audit",
        scope["refused"]["packets"],
        scope["audited"]["packets"],
    )


def _connect(family: socket.AddressFamily, address: str) -> str | None:
    """How a connection to a server of our own ends; None where there is no such loopback."""
    try:
        server = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        return None
    with server, socket.socket(family, socket.SOCK_STREAM) as client:
        try:
            server.bind((address, 0))
        except OSError:
            return None  # IPv6 is switched off
        server.listen(1)
        client.settimeout(PATIENCE)
        try:
            client.connect(server.getsockname())
            client.sendall(QUESTION)
            heard, _, _ = select.select([server, client], [], [], PATIENCE)
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        if server in heard:
            return "connected"
        return "turned to the explainer" if heard else "no answer"
