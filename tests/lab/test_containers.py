"""What containers may reach, on Docker's own bridge and on one that is made later."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.addresses import GHCR, HUB
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import HUB_AND_GHCR, HUB_ONLY

Start = Callable[[], Container]
POSTGRESQL = 5432


@pytest.fixture(params=["docker0", "a network made after ramfw started"])
def start_filtered(request: pytest.FixtureRequest, host: Host) -> Start:
    """Starts ramfw and then a container, on one kind of network or the other."""

    def start() -> Container:
        host.start_ramfw(HUB_ONLY)
        if request.param == "docker0":
            return host.container()
        made = host.docker("network", "create", "--ipv6", "--subnet", "2001:db8:e::/64", "later")
        assert made.ok, made.output
        return host.container("--network", "later")

    return start


def test_permitted_registry_is_reached(start_filtered: Start, internet: Internet) -> None:
    container = start_filtered()

    for family in ("-4", "-6"):
        fetched = container.curl(f"https://{HUB.name}/v2/", family)
        assert fetched.ok, fetched.output
    assert internet.packets(HUB, 443, "tcp") > 0
    assert container.curl(f"https://{GHCR.name}/v2/").refused, "the filter is on"


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("url", [f"https://{GHCR.name}/v2/", f"https://{GHCR.name}:5000/v2/"])
def test_other_registry_is_refused(
    start_filtered: Start, host: Host, internet: Internet, url: str, family: str
) -> None:
    unfiltered = host.container().curl(url, family)
    assert unfiltered.ok, f"the way is open while nothing filters: {unfiltered.output}"

    container = start_filtered()
    internet.reset_counts()

    fetched = container.curl(url, family)
    assert fetched.refused, fetched
    assert internet.packets(GHCR) == 0


def test_plain_http_to_the_other_registry_is_refused(host: Host, internet: Internet) -> None:
    container = host.container()
    assert container.curl(f"http://{GHCR.name}/v2/").ok

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    assert container.curl(f"http://{GHCR.name}/v2/").refused
    assert internet.packets(GHCR) == 0


def test_unrelated_port_is_untouched(start_filtered: Start) -> None:
    container = start_filtered()

    for family in ("-4", "-6"):
        fetched = container.curl(f"http://{GHCR.name}:{POSTGRESQL}/", family)
        assert fetched.ok, fetched.output
    assert container.curl(f"https://{GHCR.name}/v2/").refused, "the filter is on"


def test_reload_opens_and_closes_for_containers(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)
    container = host.container()
    assert container.curl(f"https://{GHCR.name}/v2/").refused

    assert host.reload(HUB_AND_GHCR).ok
    assert container.curl(f"https://{GHCR.name}/v2/").ok

    assert host.reload(HUB_ONLY).ok
    assert container.curl(f"https://{GHCR.name}/v2/").refused


def test_quic_is_refused_to_containers(host: Host, internet: Internet) -> None:
    container = host.container()
    datagram = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        f"[s.sendto(b'x', ('{HUB.v4}', port)) for port in (443, 4433)]"
    )
    container.run("python3", "-c", datagram)
    assert internet.packets(HUB, 443, "udp") == 1

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()
    container.run("python3", "-c", datagram)

    assert internet.packets(HUB, 443, "udp") == 0
    assert internet.packets(HUB, 4433, "udp") == 1, "no registry speaks there: let alone"
