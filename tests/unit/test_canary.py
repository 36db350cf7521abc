"""What the canary concludes from what it saw and from what the daemon has counted."""

from __future__ import annotations

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from ramfw import canary
from ramfw.control import NotRunningError

BOTH = {"127.0.0.1", "::1"}


class World:
    """A daemon that counts, and a loopback on which connections end as is said."""

    def __init__(self, outcome: str, *, counts: bool = True, mode: str = "enforce") -> None:
        self.outcome, self.counts, self.mode = outcome, counts, mode
        self.scope = "strict"
        self.running = self.by_cgroup = True
        self.refused = self.audited = 5

    def request(self, _path: Path, command: str) -> dict[str, Any]:
        assert command == "status"
        if not self.running:
            raise NotRunningError("nobody answers")
        engines = {
            "name": "engines",
            "mode": self.scope,
            "refused": {"packets": self.refused},
            "audited": {"packets": self.audited},
        }
        return {
            "by_cgroup": self.by_cgroup,
            "mode": self.mode,
            "scopes": [{"name": "host"}, engines],
        }

    def connect(self, _family: object, _address: str) -> str | None:
        if self.counts:
            if self.mode == "audit":
                self.audited += 1
            else:
                self.refused += 1
        return self.outcome or None


def found(world: World, monkeypatch: pytest.MonkeyPatch) -> canary.Finding:
    monkeypatch.setattr(canary, "request", world.request)
    monkeypatch.setattr(canary, "_connect", world.connect)
    return canary.examine(Path("control.sock"))


@pytest.mark.parametrize(
    ("world", "holds", "words"),
    [
        (World("ECONNREFUSED"), True, "was refused"),
        (World("connected"), False, "passed"),
        (World("connected", counts=False), False, "passed"),
        (World("ECONNREFUSED", counts=False), False, "something else"),
        (World("no answer"), True, "no answer"),
        (World("turned to the explainer"), True, "was refused"),
        (World("turned to the explainer", counts=False), False, "something else"),
        (World("connected", mode="audit"), True, "is counted"),
        (World("connected", mode="audit", counts=False), False, "not counted"),
        (World(""), False, "no loopback"),
    ],
)
def test_it_believes_what_was_seen_and_counted(
    *, world: World, holds: bool, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = found(world, monkeypatch)
    assert (finding.holds, words in finding.detail) == (holds, True), finding


def test_a_kernel_that_cannot_tell_engines_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("connected")
    world.by_cgroup = False
    assert found(world, monkeypatch).holds is None


def test_a_scope_that_is_off_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World("connected")
    world.scope = "off"
    assert found(world, monkeypatch).holds is None


@pytest.mark.parametrize(("outcome", "holds"), [("connected", False), ("ECONNREFUSED", True)])
def test_without_a_daemon_the_rules_it_left_are_tested(
    *, outcome: str, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(outcome)
    world.running = False
    finding = found(world, monkeypatch)
    assert finding.holds is holds
    assert "not running" in finding.detail


def test_a_connection_to_itself_is_made_where_nothing_filters() -> None:
    outcomes = {canary._connect(family, address) for family, address in canary.ADDRESSES}
    assert outcomes <= {"connected", None}
    assert "connected" in outcomes


@pytest.mark.parametrize(
    ("answer", "outcome"), [(b"HTTP/1.0 403 \r\n", "turned to the explainer"), (b"", "no answer")]
)
def test_a_connection_that_another_server_got_did_not_pass(
    answer: bytes, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it is turned: it comes about, and the server that was meant never hears of it."""
    monkeypatch.setattr(canary, "PATIENCE", 0.3)
    connect = socket.socket.connect
    with socket.create_server(("127.0.0.1", 0)) as explainer:
        accepted = []

        def turned(client: socket.socket, _address: object) -> None:
            connect(client, explainer.getsockname())
            accepted.append(explainer.accept()[0])
            accepted[0].sendall(answer)

        monkeypatch.setattr("socket.socket.connect", turned)
        ended = canary._connect(*canary.ADDRESSES[0])
        accepted[0].close()
        assert ended == outcome


def test_how_a_connection_ended_is_told_by_its_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_socket: object, _address: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "no route")

    monkeypatch.setattr("socket.socket.connect", refuse)
    assert canary._connect(*canary.ADDRESSES[0]) == "EHOSTUNREACH"
