"""A real dockerd pulls from the registry that is permitted, and from no other."""

from __future__ import annotations

import pytest

from tests.lab.addresses import GHCR, GHCR_V6_ONLY, HUB
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import HUB_AND_GHCR, HUB_ONLY

IMAGE = "corp/app:1"
ANY_PORT = 4433
FORBIDDEN = [
    f"{registry}{port}/{IMAGE}"
    for registry in (GHCR.name, GHCR.v4, GHCR_V6_ONLY.name)
    for port in ("", ":5000", f":{ANY_PORT}")
]


def test_permitted_pull_goes_through_auth_and_blob_hosts(host: Host, internet: Internet) -> None:
    host.start_ramfw(HUB_ONLY)
    tokens, blobs = internet.tokens_given(), internet.blobs_given()

    pulled = host.pull("docker.io/library/app:1")

    assert pulled.ok, pulled.output
    assert internet.tokens_given() > tokens
    assert internet.blobs_given() > blobs
    assert host.pull("ghcr.io/corp/app:1").refused, "the filter is on"


@pytest.mark.parametrize("image", FORBIDDEN)
def test_other_registry_is_refused_at_once(host: Host, internet: Internet, image: str) -> None:
    assert host.pull(image).ok, "the way is open while nothing filters"

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()
    pulled = host.pull(image)

    assert pulled.refused, pulled
    assert internet.packets(GHCR) == 0


@pytest.mark.parametrize("port", [443, 5000, ANY_PORT])
def test_bare_ipv6_address_is_refused(host: Host, internet: Internet, port: int) -> None:
    # References to images have no IPv6 literals; what ADD fetches, the engine itself fetches.
    dockerfile = f"FROM scratch\nADD https://[{GHCR.v6}]:{port}/v2/ /there\n"
    assert host.build(dockerfile).ok, "the way is open while nothing filters"

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()
    built = host.build(dockerfile)

    assert built.refused, built
    assert internet.packets(GHCR) == 0


def test_registry_is_open_once_it_is_permitted(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)
    assert host.pull(f"{GHCR.name}/{IMAGE}").refused

    assert host.reload(HUB_AND_GHCR).ok

    pulled = host.pull(f"{GHCR.name}/{IMAGE}")
    assert pulled.ok, pulled.output
    assert host.pull(f"{GHCR.name}:{ANY_PORT}/{IMAGE}").refused, "permitted is port 443 alone"


def test_push_is_refused(host: Host, internet: Internet) -> None:
    name = f"{GHCR.name}/{IMAGE}"
    assert host.pull(name).ok
    assert host.docker("push", name).ok, "the way is open while nothing filters"

    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    assert host.docker("push", name).refused
    assert internet.packets(GHCR) == 0


def test_quic_is_refused_even_to_the_permitted_registry(host: Host, internet: Internet) -> None:
    def send_for_a_moment() -> int:
        internet.reset_counts()
        sender = host.start_sender(*(f"udp/{address}/443" for address in HUB.addresses))
        host.curl(f"https://{HUB.name}/v2/", as_engine=True)
        sender.stop()
        return internet.packets(HUB, 443, "udp")

    assert send_for_a_moment() > 0
    host.start_ramfw(HUB_ONLY)
    assert send_for_a_moment() == 0
    assert internet.packets(HUB, 443, "tcp") > 0
