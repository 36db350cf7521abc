"""QUIC is refused in words of ICMP and at once, so that clients fall back to TCP.

Registries speak TCP, and in UDP no name could be read: so strict scopes refuse UDP 443 even at an
address that is permitted. What passes is answered by the server: nothing waits at that port.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from tests.lab.addresses import GHCR, HUB, LOGS, Site
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import DOCKER_IO, OFF, REGISTRIES, STRICT, policy
from tests.lab.sender import PROGRAMS, PYTHON
from tests.lab.space import Outcome

DATAGRAM = (PROGRAMS / "datagram.py").read_text()
FAMILIES = ("v4", "v6")
AT_ONCE = 0.25
"""Seconds; no client of QUIC takes its first packet for lost sooner (RFC 9002 section 6.2)."""
TO_LOGS = [f'address = "{address}"\nports = [514]\nprotocol = "udp"' for address in LOGS.addresses]


class Answer(NamedTuple):
    """An ICMP message: who made it (ip(7), sock_extended_err), its type and its code."""

    origin: int
    kind: int
    code: int


PROHIBITED = {"v4": Answer(2, 3, 13), "v6": Answer(3, 1, 1)}
"""Communication administratively prohibited (RFC 1812, RFC 4443)."""
ARRIVED = {"v4": Answer(2, 3, 3), "v6": Answer(3, 1, 4)}
"""Port unreachable: the server itself says so."""


def asks(who: Host | Container, site: Site, family: str, port: int = 443) -> Answer:
    """What is said of a datagram, at once: to the host, or in a container."""
    return _heard(who.run(*_datagram(site, family, port)))


def asks_as_engine(host: Host, site: Site, family: str, port: int = 443) -> Answer:
    """The same, to the engine."""
    return _heard(host.as_engine(*_datagram(site, family, port)))


def _datagram(site: Site, family: str, port: int) -> tuple[str, ...]:
    return (PYTHON, "-I", "-c", DATAGRAM, getattr(site, family), str(port))


def _heard(done: Outcome) -> Answer:
    assert done.ok, done.output
    *answer, seconds = json.loads(done.output)
    assert seconds < AT_ONCE
    return Answer(*answer)


@pytest.mark.parametrize("family", FAMILIES)
def test_strict_scopes_are_told_at_once_that_it_is_prohibited(
    host: Host, internet: Internet, family: str
) -> None:
    """At the permitted registry's own address too, where TCP is open."""
    container = host.container()
    host.start_ramfw(policy(DOCKER_IO, *TO_LOGS, host=STRICT))
    for site in (HUB, GHCR):
        for who in (host, container):
            assert asks(who, site, family) == PROHIBITED[family]
        assert asks_as_engine(host, site, family) == PROHIBITED[family]
    assert internet.packets(HUB) == internet.packets(GHCR) == 0
    assert all(packets >= 2 for packets in host.counted("refused").values())
    # UDP is not what is refused: another port of it is permitted, or none of ramfw's business.
    assert asks_as_engine(host, LOGS, family, 514) == ARRIVED[family]
    assert asks_as_engine(host, LOGS, family, 515) == PROHIBITED[family]
    for who in (host, container):
        assert asks(who, GHCR, family, 4433) == ARRIVED[family]
        assert who.curl(f"https://{HUB.name}/v2/", f"-{family[1]}").ok


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", [OFF, REGISTRIES])
def test_scopes_that_are_not_strict_are_left_alone(
    host: Host, internet: Internet, family: str, mode: str
) -> None:
    container = host.container()
    host.start_ramfw(policy(DOCKER_IO, containers=mode, host=mode))
    for who in (host, container):
        assert asks(who, GHCR, family) == ARRIVED[family]
    assert internet.packets(GHCR, 443, "udp") == 2
    assert asks_as_engine(host, GHCR, family) == PROHIBITED[family], "engines are always strict"
    assert internet.packets(GHCR, 443, "udp") == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_told_without_a_daemon_as_well(host: Host, internet: Internet, family: str) -> None:
    container = host.container()
    host.start_ramfw(policy(DOCKER_IO, host=STRICT))
    host.kill_ramfw()
    for who in (host, container):
        assert asks(who, HUB, family) == PROHIBITED[family]
    assert asks_as_engine(host, HUB, family) == PROHIBITED[family]
    assert internet.packets(HUB) == 0
