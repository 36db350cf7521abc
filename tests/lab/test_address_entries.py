"""Entries without a name: a log server by UDP, a registry on this host, a proxy; and scopes."""

from __future__ import annotations

import pytest

from tests.lab.addresses import GHCR, LOGS, NEXUS, PROXY
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.lab import Lab
from tests.lab.policies import DOCKER_IO, HUB_ONLY, policy
from tests.lab.space import wait_until

LOG_SERVER = f"""address = "{LOGS.v4}"
ports = [514]
protocol = "udp"
names = false"""
LOCAL_REGISTRY = 'address = "127.0.0.1"\nports = [5000]'
CORPORATE_PROXY = f'proxy = "{PROXY.name}"\nports = [3128]'


def test_log_driver_reaches_the_log_server_that_is_permitted(
    host: Host, internet: Internet
) -> None:
    """Docker's syslog driver: the engine itself sends, by UDP."""
    driver = ("--log-driver", "syslog", "--log-opt", f"syslog-address=udp://{LOGS.v4}:514")

    def log(count: int = 1) -> None:
        for _ in range(count):
            assert host.docker("run", "--rm", *driver, "tools:1", "echo", "hello").ok

    def arrived() -> int:
        return internet.packets(LOGS, 514, "udp")

    log()
    wait_until(lambda: arrived() == 1, 5, "a line arrives while nothing filters")
    host.start_ramfw(HUB_ONLY)
    log(3)
    assert host.reload(policy(DOCKER_IO, LOG_SERVER)).ok
    log()
    wait_until(lambda: arrived() > 1, 5, "a line arrives once the server is permitted")
    assert arrived() == 2, "none of the lines between did"


def test_registry_on_this_host_needs_an_entry(fresh_lab: Lab) -> None:
    host = fresh_lab.host
    host.start_engine(insecure=["127.0.0.1:5000"])
    host.start_registry(5000)
    image = "127.0.0.1:5000/corp/app:1"
    assert host.pull("ghcr.io/corp/app:1").ok
    assert host.docker("tag", "ghcr.io/corp/app:1", image).ok
    assert host.docker("push", image).ok, "the way is open while nothing filters"

    host.start_ramfw(HUB_ONLY)
    assert host.pull(image).refused

    assert host.reload(policy(DOCKER_IO, LOCAL_REGISTRY)).ok
    pulled = host.pull(image)
    assert pulled.ok, pulled.output


def test_proxy_of_the_organization_serves_once_it_is_permitted(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    host.start_engine(proxy=f"http://{PROXY.name}:3128")
    host.start_ramfw(HUB_ONLY)
    assert host.pull("docker.io/corp/app:1").refused

    assert host.reload(policy(CORPORATE_PROXY)).ok
    assert host.pull("docker.io/corp/app:1").refused, "nothing is permitted to be asked of it"
    assert internet.packets(PROXY, 3128) > 0

    assert host.reload(policy(DOCKER_IO, CORPORATE_PROXY)).ok

    pulled = host.pull("docker.io/corp/app:1")
    assert pulled.ok, pulled.output
    refused = host.pull("ghcr.io/corp/app:1")
    assert refused.refused, refused
    assert internet.packets(GHCR) == 0


def test_entry_for_engines_opens_nothing_for_containers(host: Host) -> None:
    nexus = f'host = "{NEXUS.name}"\nscopes = ["engines"]'
    host.start_ramfw(policy(DOCKER_IO, nexus))
    container = host.container()

    assert host.pull(f"{NEXUS.name}/corp/app:1").ok
    assert container.curl(f"https://{NEXUS.name}/v2/").refused


def test_network_of_addresses_is_permitted_on_its_ports_alone(host: Host) -> None:
    network = 'address = "203.0.113.16/28"\nports = [5000]'
    host.start_ramfw(policy(DOCKER_IO, network))

    assert host.pull(f"{GHCR.v4}:5000/corp/app:1").ok
    assert host.pull(f"{GHCR.v4}/corp/app:1").refused
    assert host.pull(f"{GHCR.v4}:4433/corp/app:1").refused


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_policy_without_entries_refuses_all(host: Host, internet: Internet, family: str) -> None:
    host.start_ramfw(policy())
    internet.reset_counts()

    assert host.pull("docker.io/corp/app:1").refused
    assert host.container().curl(f"https://{GHCR.name}/v2/", family).refused
    assert internet.packets(GHCR) == 0
