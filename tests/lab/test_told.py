"""Refused by name, and told why: in the client's own protocol, in its server's place, at once.

The connection has its server by then. What the server sees of it is the handshake: two packets.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from tests.lab.addresses import CDN_BAD, GHCR, HUB, PROXY
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.opener import ACCESS_DENIED, AWAIT, HEAR, Met, begins, hello, opens
from tests.lab.policies import DOCKER_IO, REGISTRIES, STRICT, policy
from tests.lab.refused import about
from tests.lab.space import Outcome, wait_until
from tests.lab.test_names import APP, GOOD, containerd, docker, names, podman, refusals, skopeo

ORGANIZATION = policy(DOCKER_IO, GOOD, containers=REGISTRIES, host=REGISTRIES)
MESSAGE = about("ghcr.io", "docker.io, good.cdn.example")
ALERT = "alert access denied"
V2 = "https://ghcr.io/v2/"
A_HANDSHAKE = 2
"""Packets: SYN, and the acknowledgement of the server's."""


def telling(host: Host) -> tuple[int, int]:
    """How many were told, and how many of them heard it."""
    found = names(host)["telling"]
    return found["told"], found["heard"]


def held(host: Host) -> int:
    """How many packets the rules have put into the queue."""
    listed = host.namespace.sh("nft list counter inet ramfw openings")
    return int(listed.split("packets")[1].split()[0])


def problems(host: Host) -> str:
    return " ".join(problem["what"] for problem in host.status()["problems"])


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_curl_hears_the_alert_and_its_server_only_a_handshake(
    host: Host, internet: Internet, family: str
) -> None:
    container = host.container()
    host.start_ramfw(ORGANIZATION)

    both: tuple[Host | Container, ...] = (host, container)
    for told, who in enumerate(both, start=1):
        internet.reset_counts()
        refused = who.curl(V2, family)

        assert ALERT in refused.output
        assert refused.seconds < 1
        assert internet.packets(GHCR, 443) == A_HANDSHAKE
        assert telling(host) == (told, told)
        assert who.curl(f"https://{HUB.name}/v2/", family).ok
    assert host.counted("refused") == {"engines": 0, "containers": 1, "host": 1}


@pytest.mark.parametrize("client", [docker, skopeo, podman, containerd])
def test_clients_print_that_access_is_denied(
    host: Host, client: Callable[[Host, str], Outcome]
) -> None:
    """The second name on a permitted registry's own address, in a strict scope."""
    host.start_ramfw(policy(DOCKER_IO, GOOD, host=STRICT))
    host.set_hosts({CDN_BAD.name: CDN_BAD.v4})

    refused = client(host, CDN_BAD.name)

    assert not refused.ok
    assert "remote error: tls: access denied" in refused.output
    assert refused.seconds < 2
    assert client(host, HUB.name if client is not docker else "docker.io").ok


def test_client_in_a_container_prints_it_too(host: Host) -> None:
    container = host.container()
    host.start_ramfw(ORGANIZATION)

    refused = container.run("skopeo", "inspect", "--insecure-policy", f"docker://ghcr.io/{APP}")

    assert "remote error: tls: access denied" in refused.output
    assert refused.seconds < 1


@pytest.mark.parametrize("of_container", [True, False], ids=["container", "host"])
def test_plain_http_gets_the_message(
    host: Host,
    internet: Internet,
    of_container: bool,  # noqa: FBT001
) -> None:
    container = host.container()
    host.start_ramfw(ORGANIZATION)
    url = "http://ghcr.io:5000/v2/corp/app/tags/list"
    ask = ("curl", "-sS", "-i", "--max-time", "10")
    internet.reset_counts()

    answer = (container if of_container else host).run(*ask, url)

    head, _, body = answer.output.replace("\r", "").partition("\n\n")
    assert head.startswith(f"HTTP/1.1 403 {MESSAGE}")
    (error,) = json.loads(body)["errors"]
    assert (error["code"], error["message"]) == ("DENIED", MESSAGE)
    assert error["detail"] == {"host": "ghcr.io"}
    assert answer.seconds < 1
    assert internet.packets(GHCR, 5000) == A_HANDSHAKE
    assert "403 Access to ghcr.io" in host.run(*ask, "--head", url).output


def test_proxy_s_client_is_told_in_the_proxy_s_place(host: Host, internet: Internet) -> None:
    permitted = policy(DOCKER_IO, f'proxy = "{PROXY.name}"\nports = [3128]')
    host.start_ramfw(permitted)

    refused = host.curl(V2, "-v", "--proxy", f"http://{PROXY.name}:3128", as_engine=True)

    assert not refused.ok
    assert "403 Access to ghcr.io has been restricted" in refused.output
    # Another port than a registry's usual one is a part of its name.
    other = host.curl(
        "https://ghcr.io:5000/v2/",
        *("-v", "--proxy", f"http://{PROXY.name}:3128"),
        as_engine=True,
    )
    assert not other.ok
    assert "403 Access to ghcr.io:5000 has been restricted" in other.output
    assert internet.packets(GHCR) == 0


def test_hello_in_many_pieces_is_answered_behind_its_last_byte(host: Host) -> None:
    container = host.container()
    host.start_ramfw(ORGANIZATION)
    first = hello("ghcr.io")

    steps = (("pieces", first[:-200]), ("send", first[-200:]), HEAR)
    met = opens(container, GHCR.v4, 443, *steps)

    assert met == Met(ACCESS_DENIED, "")
    assert telling(host) == (1, 1)


@pytest.mark.parametrize("of_container", [True, False], ids=["container", "host"])
def test_slow_daemon_is_heard_as_well(host: Host, of_container: bool) -> None:  # noqa: FBT001
    """All pieces wait for it. The server takes the first ones long after the last one was sent."""
    who: Host | Container = host.container() if of_container else host
    daemon = host.start_ramfw(policy(DOCKER_IO, GOOD, containers=STRICT))
    first = hello("ghcr.io")
    pieces = ("pieces", first[:4]), ("send", first[4:]), ("send", "and more")
    client = begins(who, HUB.v4, 443, AWAIT, *pieces, HEAR)

    daemon.send(signal.SIGSTOP)
    client.send(signal.SIGUSR1)
    wait_until(lambda: held(host) > 1, 3, "several packets of it wait")
    time.sleep(0.5)  # what a slow machine takes; TCP's own patience is 0.2
    daemon.send(signal.SIGCONT)

    client.wait()
    assert Met(*json.loads(client.lines[-1])) == Met(ACCESS_DENIED, "")
    assert telling(host) == (1, 1)


def test_strict_check_of_sources_lets_it_in(host: Host) -> None:
    """The device has a check of its own, which is looser."""
    container = host.container()
    host.namespace.sh("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1")
    try:
        host.start_ramfw(ORGANIZATION)
        for who in (host, container):
            assert ALERT in who.curl(V2, "-4").output
        assert telling(host) == (2, 2)
    finally:
        host.namespace.sh(
            "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0"
        )


# -- where it does not work: a reset ---------------------------------------------------------------


@pytest.fixture
def firewall(host: Host) -> Iterator[None]:
    """A host's own firewall that takes nothing by a way that does not lead back (firewalld's)."""
    strange = "meta nfproto ipv6 fib saddr . iif oif missing drop"
    hook = "{ type filter hook prerouting priority -140; policy accept; }"
    host.namespace.sh(
        f"nft 'add table inet own; add chain inet own strange {hook}; "
        f"add rule inet own strange {strange}'"
    )
    yield
    host.namespace.sh("nft delete table inet own")


@pytest.mark.usefixtures("firewall")
def test_what_does_not_arrive_is_found_out_and_said(host: Host) -> None:
    """The client that was not reached sends its hello again, and is reset; later ones at once."""
    container = host.container()
    host.start_ramfw(ORGANIZATION)

    unheard = [container.curl(V2, "-6") for _ in range(3)]
    later = container.curl(V2, "-6")

    assert all(one.refused and "reset" in one.output for one in (*unheard, later)), unheard
    assert telling(host) == (3, 0)
    assert "do not arrive: containers (IPv6)" in problems(host)
    assert min(one.seconds for one in unheard) > later.seconds
    assert ALERT in container.curl(V2, "-4").output
    assert [one[:2] for one in refusals(host)] == [("containers", "ghcr.io")] * 2


@pytest.mark.parametrize("done", ["ip link set ramfw0 down", "ip link delete ramfw0"])
def test_device_that_was_taken_away_is_a_reset(host: Host, done: str) -> None:
    container = host.container()
    host.start_ramfw(ORGANIZATION)
    host.namespace.sh(done)

    for who in (host, container):
        refused = who.curl(V2, "-4")
        assert refused.refused
        assert "reset" in refused.output
    assert telling(host) == (0, 0)
    assert "only reset, not told why: its device was taken away" in problems(host)


def test_without_the_kernel_s_device_it_is_a_reset(host: Host) -> None:
    container = host.container()
    host.namespace.sh("mount --bind /dev/null /dev/net/tun")
    try:
        host.start_ramfw(ORGANIZATION)
        for who in (host, container):
            refused = who.curl(V2, "-6")
            assert refused.refused
            assert "reset" in refused.output
        assert "only reset, not told why: making a TUN device" in problems(host)
    finally:
        host.namespace.sh("umount /dev/net/tun")


def test_audit_tells_nobody(host: Host) -> None:
    container = host.container()
    host.start_ramfw(
        policy(DOCKER_IO, containers=REGISTRIES, more='[enforcement]\nmode = "audit"\n')
    )

    assert container.curl(V2).ok
    assert telling(host) == (0, 0)


def test_device_goes_with_the_daemon(host: Host) -> None:
    host.start_ramfw(ORGANIZATION)
    assert "192.0.0.8" in host.namespace.sh("ip addr show dev ramfw0")

    host.kill_ramfw()

    assert "ramfw" not in host.namespace.sh("ip link")
