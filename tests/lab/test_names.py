"""Names are checked as well as addresses: two names on one address are two registries.

`good.cdn.example` and `bad.cdn.example` share one address, as names do on any CDN; what answers
there serves whoever asks. Only the first is permitted, so only the name can tell them apart.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.lab.addresses import CDN_BAD, CDN_GOOD, GHCR, HUB, PROXY
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.opener import HEAR, get, hello, opens, says
from tests.lab.policies import DOCKER_IO, STRICT, policy
from tests.lab.space import Outcome

GOOD = f'host = "{CDN_GOOD.name}"'
GOOD_ONLY = policy(GOOD, host=STRICT)
APP = "corp/app:1"
NOT_PERMITTED = "the name is not permitted"
Pull = Callable[[Host, str], Outcome]


def names(host: Host) -> Any:  # noqa: ANN401
    """What status tells of the check of names."""
    return host.status()["names"]


def refusals(host: Host) -> list[tuple[str, str, str]]:
    """The scope, the name and the reason of each refusal, the latest first."""
    return [(one["scope"], one["name"], one["reason"]) for one in names(host)["refusals"]]


def at_good(name: str) -> tuple[str, ...]:
    """Options of curl: this name is at the permitted registry's own addresses."""
    v4, v6 = CDN_GOOD.addresses
    return ("--resolve", f"{name}:443:{v4},[{v6}]")


# -- real clients -----------------------------------------------------------------------------


def docker(host: Host, name: str) -> Outcome:
    return host.pull(f"{name}/{APP}")


def skopeo(host: Host, name: str) -> Outcome:
    return host.run("skopeo", "inspect", "--raw", f"docker://{name}/{APP}", timeout=30)


def podman(host: Host, name: str) -> Outcome:
    storage = ("--root", "/run/podman", "--runroot", "/run/podman-run", "--storage-driver", "vfs")
    return host.run("podman", *storage, "pull", "--quiet", f"{name}/{APP}", timeout=40)


def containerd(host: Host, name: str) -> Outcome:
    """The client of containerd fetches by itself, with containerd's own code."""
    sockets = host.directory / "docker" / "exec" / "containerd" / "containerd.sock"
    fetch = ("ctr", "--address", str(sockets), "content", "fetch", f"{name}/{APP}")
    return host.as_engine(*fetch, timeout=40)


CLIENTS = {
    "docker": docker,
    "skopeo": skopeo,
    "podman": podman,
    "containerd": containerd,
}


@pytest.mark.parametrize("client", CLIENTS)
def test_second_name_on_the_permitted_address_is_refused(
    host: Host, internet: Internet, client: str
) -> None:
    pull = CLIENTS[client]
    unfiltered = pull(host, CDN_BAD.name)
    assert unfiltered.ok, f"it serves while nothing filters: {unfiltered.output}"
    host.start_ramfw(GOOD_ONLY)
    internet.reset_counts()

    refused = pull(host, CDN_BAD.name)
    permitted = pull(host, CDN_GOOD.name)

    assert permitted.ok, permitted.output
    assert not refused.ok
    assert "tls: access denied" in refused.output, refused.output
    assert refused.seconds < 10, "clients try again, each time in vain at once"
    assert internet.packets(CDN_GOOD, 443) > 0
    scope = "host" if client in {"skopeo", "podman"} else "engines"
    assert refusals(host)[0] == (scope, CDN_BAD.name, NOT_PERMITTED)
    assert host.counted("refused")[scope] > 0
    assert names(host)["permitted"] > 0


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_curl_with_an_address_of_its_own_is_refused_by_name(host: Host, family: str) -> None:
    url = f"https://{CDN_BAD.name}/v2/"
    host.start_ramfw(GOOD_ONLY)

    refused = host.curl(url, family, *at_good(CDN_BAD.name), as_engine=True)
    permitted = host.curl(f"https://{CDN_GOOD.name}/v2/", family, as_engine=True)

    assert permitted.ok, permitted.output
    assert refused.refused, refused
    assert host.ramfw("unload").ok
    assert host.curl(url, family, *at_good(CDN_BAD.name), as_engine=True).ok


def test_docker_with_a_hosts_file_is_refused_by_name(host: Host, internet: Internet) -> None:
    host.set_hosts({GHCR.name: CDN_GOOD.v4})
    assert host.pull(f"ghcr.io/{APP}").ok, "the permitted registry serves it while nothing filters"
    host.start_ramfw(GOOD_ONLY)

    refused = host.pull(f"ghcr.io/{APP}")

    assert not refused.ok
    assert "tls: access denied" in refused.output
    assert refusals(host)[0] == ("engines", GHCR.name, NOT_PERMITTED)
    assert internet.packets(GHCR) == 0
    assert host.pull(f"{CDN_GOOD.name}/{APP}").ok


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_container_that_lies_about_the_address_is_refused_by_name(host: Host, family: str) -> None:
    container = host.container("--add-host", f"ghcr.io:{CDN_GOOD.v4}")
    assert container.curl("https://ghcr.io/v2/", "-4").ok
    host.start_ramfw(GOOD_ONLY)

    by_hosts = container.curl("https://ghcr.io/v2/", "-4")
    by_curl = container.curl(f"https://{CDN_BAD.name}/v2/", family, *at_good(CDN_BAD.name))
    permitted = container.curl(f"https://{CDN_GOOD.name}/v2/", family)

    assert permitted.ok, permitted.output
    assert by_hosts.refused, by_hosts
    assert by_curl.refused, by_curl
    told = [(scope, name) for scope, name, _ in refusals(host)]
    assert told[:2] == [("containers", CDN_BAD.name), ("containers", GHCR.name)]


def test_permitted_name_at_another_permitted_address_is_refused(host: Host) -> None:
    """Both are permitted, each at its own address: they belong together."""
    at_hub = ("--resolve", f"{CDN_GOOD.name}:443:{HUB.v4}")
    host.start_ramfw(policy(DOCKER_IO, GOOD))

    refused = host.curl(f"https://{CDN_GOOD.name}/v2/", *at_hub, as_engine=True)

    assert refused.refused, refused
    reason = "no trusted DNS server gave this address for the name"
    assert refusals(host)[0] == ("engines", CDN_GOOD.name, reason)
    for name in (CDN_GOOD.name, HUB.name):
        assert host.curl(f"https://{name}/v2/", as_engine=True).ok


def test_what_is_refused_by_name_is_told(host: Host) -> None:
    host.start_ramfw(GOOD_ONLY)
    assert host.curl(f"https://{CDN_BAD.name}/v2/", as_engine=True).refused

    told = host.ramfw("status").output

    assert "LATELY REFUSED BY NAME" in told
    assert f"{CDN_BAD.name} at " in told
    assert NOT_PERMITTED in told.replace("\n    ", " ")
    assert "names are not checked" not in told
    logged = json.loads(host.ramfw("log", "--json").output)["refusals"]
    assert [(one["names"], one["reason"]) for one in logged] == [([CDN_BAD.name], NOT_PERMITTED)]
    nobody = json.loads(host.ramfw("status", "--json", as_nobody=True).output)
    assert nobody["names"]["refusals"] == [], "whose they were is not known"


def test_mark_in_the_upper_bits(host: Host) -> None:
    """Other software has the lower ones; the verdicts move with ramfw's."""
    upper = "[enforcement]\nmark_mask = 0xffff0000\n"
    host.start_ramfw(policy(GOOD, more=upper))

    assert host.curl(f"https://{CDN_BAD.name}/v2/", as_engine=True).refused
    assert host.curl(f"https://{CDN_GOOD.name}/v2/", as_engine=True).ok
    container = host.container()
    assert container.curl(f"https://{CDN_GOOD.name}/v2/").ok
    assert container.curl(f"https://{CDN_BAD.name}/v2/").refused


# -- what else a connection may begin with ------------------------------------------------------

HELLO = hello(CDN_GOOD.name)
OTHER_HELLO = hello(CDN_BAD.name)
ECH = b"\xfe\x0d\0\x04\0\0\0\0".decode("latin-1")
UNREADABLE = {
    "no server name": (hello(None), "its TLS hello has no server name"),
    "SSL 2.0": ("\x80\x2e\x01\x03\x03" + "\0" * 43, "its hello is SSL 2.0's"),
    "HTTP/2": ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "it speaks HTTP/2 without TLS"),
    "plain text": (get(CDN_GOOD.name, "/v2/"), "it speaks plain HTTP on port 443"),
    "CONNECT": (
        f"CONNECT {CDN_GOOD.name}:443 HTTP/1.1\r\nHost: {CDN_GOOD.name}\r\n\r\n",
        "it asks what is no permitted proxy to connect to a host",
    ),
    "a database": ("hello\r\n", "it speaks neither TLS nor HTTP"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_is_refused_in_strict(host: Host, what: str) -> None:
    first, reason = UNREADABLE[what]
    host.start_ramfw(GOOD_ONLY)

    met = says(host, CDN_GOOD.v4, 443, first)

    assert met.refused, met
    assert refusals(host)[0][2].startswith(reason)
    assert says(host, CDN_GOOD.v4, 443, HELLO).is_tls, "the twin"


@pytest.mark.parametrize("address", CDN_GOOD.addresses)
@pytest.mark.parametrize("where", ["engine", "container"])
def test_hello_in_pieces(host: Host, address: str, where: str) -> None:
    """Go's hellos come in two segments; in segments of one byte it is a test, or an attack.

    More than 512 segments are refused, so not all of them are of one byte.
    """
    host.start_ramfw(GOOD_ONLY)
    who = host if where == "engine" else host.container()

    def in_two(text: str) -> tuple[tuple[str, Any], ...]:
        return (("pieces", text[:1]), ("send", text[1:]), HEAR)

    def in_many(text: str) -> tuple[tuple[str, Any], ...]:
        return (("pieces", text[:-200]), ("send", text[-200:]), HEAR)

    assert opens(who, address, 443, *in_two(HELLO)).is_tls
    assert opens(who, address, 443, *in_many(HELLO)).is_tls
    assert opens(who, address, 443, *in_two(OTHER_HELLO)).refused
    assert opens(who, address, 443, *in_many(OTHER_HELLO)).refused


def test_hello_in_records_of_one_byte(host: Host) -> None:
    host.start_ramfw(GOOD_ONLY)

    def in_records(text: str) -> str:
        return "".join(f"\x16\x03\x01\0\x01{byte}" for byte in text[5:])

    assert says(host, CDN_GOOD.v4, 443, in_records(OTHER_HELLO)).refused
    assert refusals(host)[0] == ("engines", CDN_BAD.name, NOT_PERMITTED)
    # The registry itself does not take a hello in so many records: it is not ramfw that ends it.
    before = len(refusals(host))
    says(host, CDN_GOOD.v4, 443, in_records(HELLO))
    assert len(refusals(host)) == before
    assert names(host)["permitted"] == 1


def test_data_in_the_syn_never_passes_before_it_is_read(host: Host, internet: Internet) -> None:
    """TCP Fast Open: without a cookie the client's kernel sends it after the handshake."""
    internet.namespace.sh("echo 3 > /proc/sys/net/ipv4/tcp_fastopen")
    host.namespace.sh("echo 0x5 > /proc/sys/net/ipv4/tcp_fastopen")  # cookies are not waited for
    try:
        host.start_ramfw(GOOD_ONLY)
        permitted = opens(host, CDN_GOOD.v4, 443, ("fast", HELLO), HEAR)
        refused = opens(host, CDN_GOOD.v4, 443, ("fast", OTHER_HELLO), HEAR)
    finally:
        host.namespace.sh("echo 1 > /proc/sys/net/ipv4/tcp_fastopen")
    assert permitted.is_tls
    assert refused.refused


def test_urgent_data_is_refused(host: Host) -> None:
    """A server takes it out of the stream, or leaves it in: two readings."""
    host.start_ramfw(GOOD_ONLY)

    met = opens(host, CDN_GOOD.v4, 443, ("urgent", HELLO[:1]), ("send", HELLO[1:]), HEAR)

    assert met.refused
    assert refusals(host)[0][2] == "it sent urgent data before it was judged"


def test_proxy_connects_to_permitted_names_alone(host: Host, internet: Internet) -> None:
    host.start_ramfw(policy(GOOD, f'proxy = "{PROXY.name}"\nports = [3128]'))
    through = ("--proxy", f"http://{PROXY.name}:3128")

    permitted = host.curl(f"https://{CDN_GOOD.name}/v2/", *through, as_engine=True)
    refused = host.curl(f"https://{GHCR.name}/v2/", *through, as_engine=True)

    assert permitted.ok, permitted.output
    assert not refused.ok
    assert "response 403" in refused.output or "403 from proxy" in refused.output
    assert internet.packets(GHCR) == 0
    told = ("engines", GHCR.name, "it asks the proxy for what is not permitted")
    assert refusals(host)[0] == told
