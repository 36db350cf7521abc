"""Audit mode: refuse nothing, record what would have been refused."""

from __future__ import annotations

from tests.lab.addresses import GHCR
from tests.lab.host import Host
from tests.lab.policies import DOCKER_IO, HUB_ONLY, policy

AUDIT = policy(DOCKER_IO, more='[enforcement]\nmode = "audit"\n')


def test_audit_refuses_nothing_and_counts(host: Host) -> None:
    host.start_ramfw(AUDIT)
    container = host.container()
    before = host.refusals()

    assert host.pull("ghcr.io/corp/app:1").ok
    assert container.curl(f"https://{GHCR.name}/v2/").ok
    after = host.refusals()

    assert after["engines"] > before["engines"]
    assert after["containers"] > before["containers"]


def test_permitted_pull_counts_as_no_refusal(host: Host) -> None:
    host.start_ramfw(AUDIT)
    before = host.refusals()

    assert host.pull("docker.io/corp/app:1").ok

    assert host.refusals() == before


def test_enforcing_counts_what_it_refuses(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)
    before = host.refusals()

    assert host.pull("ghcr.io/corp/app:1").refused

    assert host.refusals()["engines"] > before["engines"]


def test_from_audit_to_enforce_without_restart(host: Host) -> None:
    host.start_ramfw(AUDIT)
    assert host.pull("ghcr.io/corp/app:1").ok

    assert host.reload(HUB_ONLY).ok

    assert host.pull("ghcr.io/corp/app:1").refused
