"""The engine's cgroup comes and goes; what Docker does on the host keeps working."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.addresses import GHCR, HOST, HUB
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.lab import Lab
from tests.lab.policies import HUB_ONLY
from tests.lab.space import wait_until

PUBLISHED = ("--publish", "8080:80")
HTTPD = ("httpd", "-f", "-p", "80", "-h", "/")


def test_restarted_engine_is_filtered_from_its_first_connection(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    host.start_engine()
    host.start_ramfw(HUB_ONLY)
    first = host.engine_cgroup_id()

    host.stop_engine()
    host.start_engine()

    assert host.engine_cgroup_id() != first, "its cgroup is another one"
    assert host.pull("ghcr.io/corp/app:1").refused
    assert internet.packets(GHCR) == 0
    assert host.pull("docker.io/corp/app:1").ok


def test_engine_that_starts_after_ramfw_is_filtered(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    host.start_ramfw(HUB_ONLY)

    host.start_engine()

    assert host.pull("ghcr.io/corp/app:1").refused
    assert internet.packets(GHCR) == 0


def test_in_the_slice_an_engine_is_filtered_though_the_daemon_is_dead(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    host.start_engine(in_slice=True)
    host.start_ramfw(HUB_ONLY)
    host.kill_ramfw()

    host.stop_engine()
    # Nothing follows the new cgroup: the very first program in it is refused all the same.
    first = host.curl(f"https://{GHCR.name}/v2/", as_engine=True)
    host.start_engine(in_slice=True)

    assert first.refused, first
    assert host.pull("ghcr.io/corp/app:1").refused
    assert internet.packets(GHCR) == 0
    host.start_ramfw(HUB_ONLY)
    assert host.pull("docker.io/corp/app:1").ok, "a permitted name is read again"


def test_new_cgroup_of_an_engine_is_followed_within_milliseconds(
    fresh_lab: Lab, record_property: Callable[[str, object], None]
) -> None:
    host = fresh_lab.host
    host.start_ramfw(HUB_ONLY)
    assert host.engine_cgroup not in host.rules()

    host.engine_cgroup_id()  # makes it
    seconds = wait_until(lambda: host.engine_cgroup in host.rules(), 5, "its rules are in")

    record_property("seconds_until_followed", seconds)
    assert seconds < 0.25


@pytest.fixture
def web_server(host: Host) -> Container:
    """A container that publishes its port 80 as 8080, with the filter on."""
    host.start_ramfw(HUB_ONLY)
    container = host.container(*PUBLISHED, command=HTTPD)
    local = "http://127.0.0.1:8080/bin/"
    wait_until(lambda: "404" in host.curl(local).output, 5, "the server has begun")
    assert host.pull("ghcr.io/corp/app:1").refused, "the filter is on"
    return container


@pytest.mark.usefixtures("web_server")
@pytest.mark.parametrize("address", ["127.0.0.1", "[::1]", HOST.v4, f"[{HOST.v6}]"])
def test_published_port_answers_from_the_host(host: Host, address: str) -> None:
    fetched = host.curl(f"http://{address}:8080/tools")

    assert "200" in fetched.output, fetched.output


@pytest.mark.usefixtures("web_server")
@pytest.mark.parametrize("address", [HOST.v4, f"[{HOST.v6}]"])
def test_published_port_answers_from_outside(internet: Internet, address: str) -> None:
    fetched = internet.namespace.run("curl", "-sS", f"http://{address}:8080/tools")

    assert fetched.output == "tools", fetched.output


@pytest.mark.parametrize("port", ["80", "5000"])
def test_containers_of_one_network_reach_each_other(host: Host, port: str) -> None:
    host.start_ramfw(HUB_ONLY)
    assert host.docker("network", "create", "together").ok
    serving = host.container(
        *("--network", "together", "--network-alias", "server"),
        command=["httpd", "-f", "-p", port, "-h", "/"],
    )
    asking = host.container("--network", "together")

    wait_until(
        lambda: "200" in asking.curl(f"http://server:{port}/tools").output,
        timeout=5,
        what="one container reaches the other by name",
    )
    assert "200" in asking.curl(f"http://{serving.address}:{port}/tools").output
    assert asking.curl(f"https://{GHCR.name}/v2/").refused, "the filter is on"


def test_container_on_the_hosts_network_is_filtered(host: Host, internet: Internet) -> None:
    container = host.container("--network", "host")
    assert container.curl(f"https://{GHCR.name}/v2/").ok

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    assert container.curl(f"https://{GHCR.name}/v2/").refused
    assert container.curl(f"https://{GHCR.name}:5000/v2/").refused
    assert internet.packets(GHCR) == 0
    assert container.curl(f"https://{HUB.name}/v2/").ok
    assert container.curl(f"http://{GHCR.name}:5432/").ok


def test_container_made_later_on_the_hosts_network_is_filtered(
    host: Host, internet: Internet
) -> None:
    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    container = host.container("--network", "host")

    assert container.curl(f"https://{GHCR.name}/v2/").refused
    assert internet.packets(GHCR) == 0


@pytest.mark.parametrize("network", ["host", "bridge"])
def test_build_step_is_filtered(host: Host, internet: Internet, network: str) -> None:
    dockerfile = f"FROM tools:1\nRUN nc {GHCR.v4} 443 </dev/null\n"
    assert host.build(dockerfile, "--network", network).ok

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    built = host.build(dockerfile, "--network", network)
    assert not built.ok
    assert "Connection refused" in built.output
    assert internet.packets(GHCR) == 0
    reaching = f"FROM tools:1\nRUN nc {HUB.v4} 443 </dev/null\n"
    assert host.build(reaching, "--network", network).ok
