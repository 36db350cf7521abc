"""Audit mode: refuse nothing, record what would have been refused. And what is counted else."""

from __future__ import annotations

from tests.lab.addresses import GHCR
from tests.lab.host import Host
from tests.lab.policies import DOCKER_IO, HUB_ONLY, policy

AUDIT = policy(DOCKER_IO, more='[enforcement]\nmode = "audit"\n')


def test_audit_refuses_nothing_and_counts(host: Host) -> None:
    host.start_ramfw(AUDIT)
    container = host.container()
    assert host.counted("audited") == {"engines": 0, "containers": 0, "host": 0}

    assert host.pull("ghcr.io/corp/app:1").ok
    assert container.curl(f"https://{GHCR.name}/v2/").ok

    audited = host.counted("audited")
    assert audited["engines"] > 0
    assert audited["containers"] > 0
    assert audited["host"] == 0
    assert set(host.counted("refused").values()) == {0}


def test_permitted_pull_counts_as_permitted_alone(host: Host) -> None:
    host.start_ramfw(AUDIT)

    assert host.pull("docker.io/corp/app:1").ok

    assert set(host.counted("audited").values()) == {0}
    assert host.status()["entries"][0]["connections"] >= 3, "api, auth and blobs"


def test_enforcing_counts_what_it_refuses(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)

    assert host.pull("ghcr.io/corp/app:1").refused

    refused = host.counted("refused")
    assert refused["engines"] > 0
    assert refused["containers"] == refused["host"] == 0


def test_bytes_of_a_permitted_download_are_counted(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)

    assert host.pull("docker.io/library/slow:1").ok

    entry = host.status()["entries"][0]
    assert entry["label"] == "docker.io"
    assert entry["bytes"] > 0


def test_from_audit_to_enforce_without_restart(host: Host) -> None:
    host.start_ramfw(AUDIT)
    assert host.pull("ghcr.io/corp/app:1").ok

    assert host.reload(HUB_ONLY).ok

    assert host.pull("ghcr.io/corp/app:1").refused
