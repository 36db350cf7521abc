"""What people try: the hosts file, a proxy on the side; and a mirror, which is the right way."""

from __future__ import annotations

import pytest

from tests.lab.addresses import GHCR, HUB, NEXUS
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.lab import Lab
from tests.lab.policies import HUB_ONLY, NEXUS_ONLY
from tests.lab.space import wait_until

LOCAL_PROXY = 8888


def test_permitted_name_at_the_other_address_opens_nothing(fresh_lab: Lab) -> None:
    """`203.0.113.20 registry-1.docker.io` in /etc/hosts."""
    host, internet = fresh_lab.host, fresh_lab.internet
    host.set_hosts({HUB.name: GHCR.v4})
    host.start_engine()
    assert host.pull("docker.io/corp/app:1").ok, "the other registry answers to any name"
    assert internet.packets(GHCR) > 0

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    assert host.pull("docker.io/corp/app:1").refused
    assert internet.packets(GHCR) == 0


def test_other_name_at_a_permitted_address_opens_nothing(fresh_lab: Lab) -> None:
    """`203.0.113.10 ghcr.io` in /etc/hosts: what answers is the permitted registry, no other."""
    host, internet = fresh_lab.host, fresh_lab.internet
    host.set_hosts({GHCR.name: HUB.v4})
    host.start_engine()
    host.start_ramfw(HUB_ONLY)

    assert host.pull("ghcr.io/corp/app:1").refused, "by its name"

    assert internet.packets(HUB) > 0
    assert internet.packets(GHCR) == 0
    assert host.pull(f"{GHCR.v4}/corp/app:1").refused


@pytest.mark.parametrize("address", ["127.0.0.1", "192.0.2.2", "172.17.0.1", "[::1]"])
def test_proxy_on_the_same_host_is_refused(fresh_lab: Lab, address: str) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    config = host.directory / "tinyproxy.conf"
    config.write_text(f"Port {LOCAL_PROXY}\nListen ::\nListen 0.0.0.0\nLogLevel Info\n")
    proxy = host.namespace.start("tinyproxy", "-d", "-c", str(config))
    proxy.wait_for("listening on fd")
    host.start_engine(proxy=f"http://{address}:{LOCAL_PROXY}")
    assert host.pull("ghcr.io/corp/app:1").ok, "the proxy works while nothing filters"
    assert internet.packets(GHCR) > 0

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    assert host.pull("ghcr.io/corp/app:1").refused
    assert internet.packets(GHCR) == 0


def test_proxy_in_a_container_reaches_no_other_registry(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    host.start_engine()
    host.load_tools()
    config = host.directory / "tinyproxy.conf"
    config.write_text(f"Port {LOCAL_PROXY}\nLogLevel Info\n")
    mounted = ("--volume", f"{config}:/tinyproxy.conf:ro")
    container = host.container(*mounted, command=["tinyproxy", "-d", "-c", "/tinyproxy.conf"])
    proxy = f"http://{container.address}:{LOCAL_PROXY}"

    def fetch_through_it() -> bool:
        url = f"https://{GHCR.name}/v2/"
        return host.curl(url, "--proxy", proxy, as_engine=True).ok

    assert fetch_through_it(), "the proxy works while nothing filters"

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    assert not fetch_through_it()
    assert internet.packets(GHCR) == 0


def test_permitted_mirror_serves_while_docker_hub_is_not_permitted(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    host.start_engine(mirror=f"https://{NEXUS.name}:8443")
    host.start_ramfw(NEXUS_ONLY)

    pulled = host.pull("docker.io/library/app:1")

    assert pulled.ok, pulled.output
    assert internet.packets(NEXUS, 8443) > 0
    assert internet.packets(HUB) == 0
    refused = host.curl(f"https://{HUB.name}/v2/", as_engine=True)
    assert refused.refused, refused


def test_what_the_mirror_lacks_is_not_fetched_from_docker_hub(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    internet.set_name(NEXUS.name, "203.0.113.99")
    host.start_engine(mirror=f"https://{NEXUS.name}:8443")
    assert host.pull("docker.io/library/app:1").ok, "Docker Hub serves what the mirror does not"

    host.start_ramfw(NEXUS_ONLY)
    internet.reset_counts()

    assert not host.pull("docker.io/library/app:1").ok
    assert internet.packets(HUB) == 0


@pytest.mark.parametrize("target", [GHCR.v4, HUB.v4])
def test_packet_from_the_middle_of_no_connection_is_refused(
    host: Host, internet: Internet, target: str
) -> None:
    """Connection tracking takes a lone ACK for a new connection; a client never sends one."""
    site = GHCR if target == GHCR.v4 else HUB
    host.send_lone_ack(target, 443)
    wait_until(lambda: internet.packets(site, 443) > 0, 5, "it arrives while nothing filters")

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()
    host.send_lone_ack(target, 443)
    host.curl(f"https://{NEXUS.name}/v2/")

    assert internet.packets(NEXUS, 443) > 0, "what was sent later has arrived"
    assert internet.packets(site, 443) == 0
