"""Two hundred reloads under traffic that never pauses."""

from __future__ import annotations

import pytest

from tests.lab.addresses import GHCR, HUB
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import DOCKER_IO, HUB_ONLY, NEXUS, STRICT, policy

RELOADS = 200
POLICIES = (
    policy(DOCKER_IO, NEXUS),
    policy(NEXUS, DOCKER_IO, containers=f"{STRICT}\nregistry_ports = [80, 443, 5000, 8443]"),
    HUB_ONLY,
)


@pytest.mark.timeout(240)
def test_reloads_let_nothing_through_and_break_nothing(host: Host, internet: Internet) -> None:
    # A reload reads all flows that are tracked: not also those that ended two minutes ago.
    for state in ("time_wait", "close"):
        host.namespace.sh(f"sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_{state}=1")
    host.start_ramfw(HUB_ONLY)
    container = host.container()
    internet.limit_downloads(32 * 1024)
    download = host.start_download("docker.io/library/slow:1")
    internet.reset_counts()
    refused = [
        host.start_sender(f"tcp/{GHCR.v4}/443", f"tcp/{GHCR.v6}/5000", f"udp/{GHCR.v4}/443"),
        container.start_sender(f"tcp/{GHCR.v4}/443", f"tcp/{GHCR.v6}/5000"),
    ]
    permitted = [
        host.start_sender(f"tcp/{HUB.v4}/443", f"tcp/{HUB.v6}/443"),
        container.start_sender(f"tcp/{HUB.v4}/443", f"tcp/{HUB.v6}/443"),
    ]

    for number in range(RELOADS):
        host.reload_at_once(POLICIES[number % len(POLICIES)])

    for sender in refused:
        attempts, answered = sender.stop()
        assert attempts > RELOADS
        assert answered == 0
    assert internet.packets(GHCR) == 0
    for sender in permitted:
        attempts, answered = sender.stop()
        assert attempts == answered > RELOADS
    internet.unlimit_downloads()
    assert download.wait(20) == 0, download.output


def test_bad_policy_changes_nothing(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)
    before = host.rules()

    reloaded = host.reload('version = 1\n[[allow]]\nhots = "ghcr.io"\n')

    assert reloaded.code == 3
    assert "did you mean `host`?" in reloaded.output
    assert _without_counts(host.rules()) == _without_counts(before)
    assert host.pull("ghcr.io/corp/app:1").refused
    assert host.pull("docker.io/corp/app:1").ok
    assert "hots" in host.ramfw("status").output


def _without_counts(rules: str) -> list[str]:
    """What a listing says of structure: no counters, no times that tick."""
    return [line.split("counter")[0] for line in rules.splitlines() if "expires" not in line]
