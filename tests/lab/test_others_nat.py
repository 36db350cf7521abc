"""Refusals of connections that somebody else's NAT sends elsewhere: heard, and soon.

The host has rules of its own, as a transparent proxy or a service's address is made of them: what
it and its containers send to one address goes to another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.addresses import GHCR, HUB, HUB_BLOBS, HUB_BLOBS_MOVED, Site
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet, Service
from tests.lab.policies import DOCKER_IO, GHCR_IO, OFF, REGISTRIES, STRICT, policy
from tests.lab.refused import MESSAGE, NOT_CONNECTED, SOON
from tests.lab.space import Outcome
from tests.lab.test_told import ALERT, telling

AT_ONCE = 0.5
"""Seconds: less than a client takes to send a SYN again, which is one."""
FAMILIES = ("v4", "v6")
MODES = (STRICT, REGISTRIES)


@contextmanager
def sent(host: Host, wanted: Site, instead: Site, masquerade: str = "accept") -> Iterator[None]:
    """Have containers that want one site, and the host, reach another."""
    rules = f"""
    table inet theirs {{
        chain go {{
            ip daddr {wanted.v4} tcp dport 443 dnat ip to {instead.v4}
            ip6 daddr {wanted.v6} tcp dport 443 dnat ip6 to {instead.v6}
        }}
        chain pre {{ type nat hook prerouting priority dstnat; jump go; }}
        chain out {{ type nat hook output priority -100; jump go; }}
        chain post {{ type nat hook postrouting priority srcnat - 1; {masquerade}; }}
    }}
    """
    host.namespace.run("nft", "-f", "-", stdin=rules, check=True)
    try:
        yield
    finally:
        host.namespace.sh("nft delete table inet theirs")


def ask(who: Host | Container, site: Site, family: str, name: str = "") -> Outcome:
    """Ask for a site's registry at its address, by its own name or by another."""
    name = name or site.name
    address = {"v4": site.v4, "v6": f"[{site.v6}]"}[family]
    return who.run(
        *("curl", "-sSk", "--max-time", "10", "--resolve", f"{name}:443:{address}"),
        *("-w", "%{stderr}took %{time_total}\n", f"https://{name}/v2/"),
    )


def waited(outcome: Outcome) -> float:
    """Seconds that the client waited, without those that docker takes to start it."""
    found = re.search(r"^took ([\d.]+)", outcome.output, re.MULTILINE)
    assert found, outcome.output
    return float(found[1])


@pytest.fixture
def container(host: Host) -> Container:
    # br_netfilter is what makes it hard: a reset from the forward hook goes past NAT.
    assert host.run("cat", "/proc/sys/net/bridge/bridge-nf-call-iptables").output.strip() == "1"
    assert host.run("cat", "/proc/sys/net/bridge/bridge-nf-call-ip6tables").output.strip() == "1"
    return host.container(command=("sleep", "60"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_name_that_is_not_permitted_is_refused_soon_at_a_permitted_address(
    host: Host, container: Container, internet: Internet, family: str, mode: str
) -> None:
    """The connection is open when its name is read: the client is told as if there were no NAT."""
    host.start_ramfw(policy(DOCKER_IO, containers=mode))
    host.start_explainer()
    with sent(host, GHCR, HUB):
        refused = ask(container, GHCR, family)
        assert ALERT in refused.output
        assert waited(refused) < AT_ONCE
        assert telling(host) == (1, 1)
        assert internet.packets(HUB, 443) > 0
        assert "UNAUTHORIZED" in ask(container, GHCR, family, HUB.name).output
        assert host.reload(policy(DOCKER_IO, GHCR_IO, containers=mode)).ok
    assert ask(container, GHCR, family).ok
    assert host.counted("refused")["containers"] > 0


@pytest.mark.parametrize("way", [(REGISTRIES, GHCR, HUB), (STRICT, HUB, GHCR)])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_host_s_own_clients_are_told_too(
    host: Host, internet: Internet, family: str, way: tuple[str, Site, Site]
) -> None:
    """Where it is strict, the address that they write has to be permitted to come so far."""
    mode, wanted, instead = way
    host.start_ramfw(policy(DOCKER_IO, host=mode))
    with sent(host, wanted, instead):
        refused = ask(host, wanted, family, GHCR.name)
        assert ALERT in refused.output
        assert waited(refused) < AT_ONCE
        assert telling(host) == (1, 1)
        assert internet.packets(wanted) == 0
        assert host.reload(policy(DOCKER_IO, GHCR_IO, host=OFF)).ok
        assert "alert" not in ask(host, wanted, family, GHCR.name).output
    assert internet.packets(instead, 443) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_where_nat_has_changed_the_client_s_port_too_it_is_reset(
    host: Host, container: Container, internet: Internet, family: str
) -> None:
    """The kernel does not know the flow by anything that the packet says."""
    host.start_ramfw(policy(DOCKER_IO))
    host.start_explainer()
    with sent(host, GHCR, HUB, masquerade="meta l4proto tcp masquerade to :61000-61999"):
        refused = ask(container, GHCR, family)
        assert "reset" in refused.output
        assert waited(refused) < AT_ONCE
        assert telling(host) == (0, 0)
        assert "UNAUTHORIZED" in ask(container, GHCR, family, HUB.name).output
    assert internet.packets(HUB, 443) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_an_address_that_is_not_permitted_is_refused_behind_a_permitted_one(
    host: Host, container: Container, internet: Internet, family: str
) -> None:
    host.start_ramfw(policy(DOCKER_IO))
    host.start_explainer()
    with sent(host, HUB, GHCR):
        refused = ask(container, HUB, family)
        assert refused.code == NOT_CONNECTED, refused
        assert "refused" in refused.output or "connect to server" in refused.output
        assert waited(refused) < AT_ONCE
        assert internet.packets(GHCR) == 0
    assert "UNAUTHORIZED" in ask(container, HUB, family).output


def test_a_download_that_is_revoked_ends_at_once(
    host: Host, container: Container, internet: Internet
) -> None:
    internet.serve(HUB_BLOBS_MOVED, {443: Service.BLOBS})
    internet.set_name(HUB_BLOBS.name, HUB_BLOBS.v4)
    mirror = f'address = "{HUB_BLOBS_MOVED.v4}"\nports = [443]\nnames = false'
    host.start_ramfw(policy(DOCKER_IO, mirror))
    internet.limit_downloads(100_000)
    with sent(host, HUB_BLOBS, HUB_BLOBS_MOVED):
        download = container.start_download("docker.io/library/slow:1")
        assert internet.packets(HUB_BLOBS_MOVED, 443) > 0
        assert host.reload(policy(GHCR_IO)).ok
        download.wait_for(r"after \d+ bytes", timeout=2)
    internet.set_name(HUB_BLOBS.name, *HUB_BLOBS.addresses)


def test_what_is_turned_to_the_explainer_is_not_reset(
    host: Host, container: Container, internet: Internet
) -> None:
    """That is NAT, too: of ramfw's own."""
    host.start_ramfw(policy(DOCKER_IO))
    host.start_explainer()
    for family in FAMILIES:
        answer = ask(container, GHCR, family)
        assert MESSAGE in answer.output
        assert waited(answer) < SOON
    assert internet.packets(GHCR) == 0
