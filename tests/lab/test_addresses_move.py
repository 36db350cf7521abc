"""Registries move, downloads last, permissions end."""

from __future__ import annotations

import time

import pytest

from tests.lab.addresses import (
    CDN_BAD,
    CDN_GOOD,
    GHCR,
    HUB,
    HUB_AUTH,
    HUB_BLOBS,
    HUB_BLOBS_MOVED,
    HUB_MOVED,
    HUB_SITES,
    HUB_SITES_MOVED,
)
from tests.lab.host import Host
from tests.lab.internet import HOME, Internet
from tests.lab.lab import Lab
from tests.lab.policies import DOCKER_IO, GHCR_ONLY, HUB_AND_GHCR, HUB_ONLY, policy
from tests.lab.space import wait_until

TTL = 10
LEASE = TTL + 30
"""Seconds that an address stays permitted after it was last given: its TTL and the grace."""
SLOW_IMAGE = "library/slow:1"


@pytest.mark.timeout(180)
def test_pulls_go_on_when_the_registry_moves_and_a_download_outlives_its_address(
    fresh_lab: Lab,
) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    internet.set_ttl(TTL)
    host.start_engine()
    host.start_ramfw(HUB_ONLY)
    internet.limit_downloads(32 * 1024)
    download = host.start_pull(f"docker.io/{SLOW_IMAGE}")
    wait_until(lambda: internet.blobs_given() > 0, 10, "the download has begun")

    for old, new in zip(HUB_SITES, HUB_SITES_MOVED, strict=True):
        internet.serve(new, HOME[old])
        internet.set_name(new.name, *new.addresses)
    moved = time.monotonic()
    time.sleep(TTL)  # nobody who keeps to the TTL uses the old addresses from here on
    for old in (HUB, HUB_AUTH):
        internet.abandon(old)
    internet.reset_counts()

    # For longer than any address lasts without being refreshed, every pull succeeds.
    expired_after = 0.0
    while time.monotonic() - moved < TTL + LEASE:
        fetched = host.curl(f"https://{HUB.name}/v2/", as_engine=True)
        assert fetched.ok, fetched.output
        if not expired_after and not host.permits(HUB.v4):
            expired_after = time.monotonic() - moved
        time.sleep(0.5)

    assert internet.packets(HUB_MOVED, 443) > 0
    assert LEASE - TTL < expired_after < LEASE + TTL
    refused = host.curl(f"https://{HUB_BLOBS.v4}/", as_engine=True)
    assert refused.refused, "nothing new is opened to an address that has expired"
    assert download.running, download.output
    internet.unlimit_downloads()
    assert download.wait(60) == 0, download.output
    pulled = host.pull("docker.io/corp/app:1")
    assert pulled.ok, pulled.output
    assert internet.packets(HUB_BLOBS_MOVED, 443) > 0


def test_revoked_registry_is_cut_within_a_second(host: Host, internet: Internet) -> None:
    host.start_ramfw(HUB_AND_GHCR)
    internet.limit_downloads(64 * 1024)
    revoked = host.start_download(f"docker.io/{SLOW_IMAGE}")
    assert revoked.running

    reloaded = time.monotonic()
    assert host.reload(GHCR_ONLY).ok
    code = revoked.wait(5)

    assert time.monotonic() - reloaded < 1
    assert code != 0
    assert "receiving\nafter " in revoked.output, "it was cut in the middle"
    assert host.pull("docker.io/corp/app:1").refused


def test_revoked_registry_is_cut_for_containers_too(host: Host, internet: Internet) -> None:
    host.start_ramfw(HUB_AND_GHCR)
    internet.limit_downloads(64 * 1024)
    revoked = host.container().start_download(f"docker.io/{SLOW_IMAGE}")

    reloaded = time.monotonic()
    assert host.reload(GHCR_ONLY).ok
    code = revoked.wait(5)

    assert time.monotonic() - reloaded < 1
    assert code != 0
    assert "receiving\nafter " in revoked.output, "it was cut in the middle"


def test_revoking_one_registry_leaves_the_other_alone(host: Host, internet: Internet) -> None:
    host.start_ramfw(HUB_AND_GHCR)
    internet.limit_downloads(64 * 1024)
    kept = host.start_download(f"docker.io/{SLOW_IMAGE}")

    assert host.reload(HUB_ONLY).ok

    assert host.pull(f"{GHCR.name}/corp/app:1").refused
    assert kept.running
    internet.unlimit_downloads()
    assert kept.wait(20) == 0, kept.output


def test_names_that_share_an_address_are_permitted_each_for_itself(host: Host) -> None:
    good, bad = (f'host = "{site.name}"' for site in (CDN_GOOD, CDN_BAD))
    host.start_ramfw(policy(good, bad))
    assert host.pull(f"{CDN_GOOD.name}/corp/app:1").ok

    assert host.reload(policy(good)).ok
    pulled = host.pull(f"{CDN_GOOD.name}/corp/app:1")
    assert pulled.ok, pulled.output
    assert host.pull(f"{CDN_BAD.name}/corp/app:1").refused, "at the same address"

    assert host.reload(policy(DOCKER_IO)).ok
    assert host.pull(f"{CDN_GOOD.name}/corp/app:1").refused
    assert host.pull(f"{CDN_BAD.name}/corp/app:1").refused
