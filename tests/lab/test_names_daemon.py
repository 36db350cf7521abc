"""Names and the daemon: without it strict scopes wait, and in mode `registries` new ones pass."""

from __future__ import annotations

import pytest

from tests.lab.addresses import CDN_BAD, CDN_GOOD, GHCR, HUB
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.opener import AWAIT, HEAR, begins, get, goes_on, hello
from tests.lab.policies import DOCKER_IO, OFF, REGISTRIES, STRICT, policy
from tests.lab.space import wait_until
from tests.lab.test_names import GOOD, GOOD_ONLY, names, refusals

BOTH = policy(DOCKER_IO, containers=REGISTRIES)
LOCAL = 'address = "127.0.0.1"\nports = [5000]'


@pytest.mark.parametrize("address", CDN_GOOD.addresses)
def test_strict_waits_for_the_daemon_and_never_passes(
    host: Host, internet: Internet, address: str
) -> None:
    """The hello is repeated until somebody reads it; that of a connection of before is refused."""
    host.start_ramfw(GOOD_ONLY)
    before = begins(host, address, 443, AWAIT, ("send", hello(CDN_BAD.name)), HEAR)
    host.kill_ramfw()
    steps = (("patience", 60), ("send", hello(CDN_GOOD.name)), HEAR)
    held = begins(host, address, 443, *steps)
    arrived = internet.packets(CDN_GOOD, 443)
    waiting = host.curl(f"https://{CDN_GOOD.name}/v2/", "--max-time", "2", as_engine=True)

    assert not waiting.ok
    assert "imed out" in waiting.output, "it waited"
    assert internet.packets(CDN_GOOD, 443) <= arrived + 6, "handshakes and their ends, no hello"
    assert held.running
    assert len(held.lines) == 1
    host.start_ramfw(GOOD_ONLY)

    assert not goes_on(before).is_tls
    assert host.curl(f"https://{CDN_GOOD.name}/v2/", as_engine=True).ok, "at once"
    assert not goes_on(held).is_tls
    assert {reason for _, _, reason in refusals(host)} == {"its beginning was not seen"}


def test_registries_passes_without_the_daemon_and_counts_what_was_not_read(host: Host) -> None:
    container = host.container()
    host.start_ramfw(BOTH)
    assert container.curl(f"https://{GHCR.name}/v2/").refused
    assert names(host)["unread"] == 0

    host.kill_ramfw()
    for _ in range(2):
        assert container.curl(f"https://{GHCR.name}/v2/").ok, "in TLS several packets have data"
    assert not host.curl(f"https://{GHCR.name}/v2/", as_engine=True).ok, "the engine is strict"

    host.start_ramfw(BOTH)
    assert container.curl(f"https://{GHCR.name}/v2/").refused
    assert names(host)["unread"] == 2
    assert "2 connections passed unread" in host.ramfw("status").output


def test_what_opened_without_a_daemon_is_refused_in_strict(host: Host) -> None:
    container = host.container()
    host.start_ramfw(GOOD_ONLY)
    host.kill_ramfw()
    connection = begins(container, CDN_GOOD.v4, 443, AWAIT, ("send", hello(CDN_GOOD.name)), HEAR)

    host.start_ramfw(GOOD_ONLY)

    assert goes_on(connection).refused
    assert names(host)["absences"] == []
    assert container.curl(f"https://{CDN_GOOD.name}/v2/").ok


@pytest.mark.parametrize("scope", ["strict", "registries"])
def test_what_lives_goes_on_without_the_daemon(host: Host, internet: Internet, scope: str) -> None:
    mode = STRICT if scope == "strict" else REGISTRIES
    host.start_ramfw(policy(DOCKER_IO, containers=mode, host=OFF))
    internet.limit_downloads(256 * 1024)
    downloads = [
        host.start_download("docker.io/library/slow:1"),
        host.container().start_download("docker.io/library/slow:1"),
    ]

    host.kill_ramfw()
    internet.unlimit_downloads()

    for download in downloads:
        assert download.wait(40) == 0, download.output


def test_revoked_while_its_name_is_awaited_is_refused(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO, GOOD))
    connection = begins(host, CDN_GOOD.v4, 443, AWAIT, ("send", hello(CDN_GOOD.name)), HEAR)
    twin = begins(host, HUB.v4, 443, AWAIT, ("send", hello(HUB.name)), HEAR)

    assert host.reload(policy(DOCKER_IO)).ok

    assert goes_on(connection).refused
    assert goes_on(twin).is_tls


def test_registry_on_this_host_is_read_over_loopback(host: Host) -> None:
    """The API in plain HTTP, at an address that is permitted by itself."""
    registry = host.start_registry(5000)
    try:
        host.start_ramfw(policy(LOCAL, host=STRICT))
        v2 = "http://127.0.0.1:5000/v2/"
        assert host.curl(v2, as_engine=True).ok
        assert host.curl(v2).ok
        lying = host.curl(v2, "--header", "Host: ghcr.io:5000", as_engine=True)
        assert lying.refused
        assert refusals(host)[0] == ("engines", "ghcr.io", "the name is not permitted")
        assert host.reload(policy(DOCKER_IO, host=STRICT)).ok
        assert host.curl(v2, as_engine=True).refused
    finally:
        registry.stop()


def test_published_container_is_reached_by_a_permitted_address(host: Host) -> None:
    web = ("httpd", "-f", "-p", "80", "-h", "/")
    host.container("--publish", "127.0.0.1:5000:80", command=web)
    host.start_ramfw(policy(LOCAL))

    def fetches() -> bool:
        return host.curl("http://127.0.0.1:5000/tools", as_engine=True).ok

    wait_until(fetches, 5, "it answers through docker's own proxy")
    assert host.reload(policy(DOCKER_IO)).ok
    assert not fetches()


def test_later_requests_of_a_connection_are_not_judged_again(host: Host) -> None:
    """Once the server has taken the first, the connection is the kernel's alone."""
    port = 5000
    host.start_ramfw(policy(f'address = "{GHCR.v4}"\nports = [{port}]\nnames = false', LOCAL))
    registry = host.start_registry(port)
    try:
        ask = ("send", get(f"127.0.0.1:{port}", "/v2/"))
        steps = (ask, ("hear", 12), ask, ("hear", 12), AWAIT, ask, ("hear", 12))
        connection = begins(host, "127.0.0.1", port, *steps)
        wait_until(lambda: names(host)["permitted"] == 1, 5, "it was read once")
        assert goes_on(connection).heard.startswith("HTTP/1.1 200 OK")
        assert names(host)["permitted"] == 1
    finally:
        registry.stop()
