"""Without the daemon nothing opens, nothing that lives breaks, and its return leaves no gap."""

from __future__ import annotations

import re
import signal

import pytest

from ramfw.watchdog import SILENCE
from tests.lab.addresses import GHCR, HUB
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.lab import Lab
from tests.lab.policies import HUB_ONLY
from tests.lab.space import REFUSALS, wait_until

FORBIDDEN = [
    f"{protocol}/{address}/443" for protocol in ("tcp", "udp") for address in GHCR.addresses
]


def waits(host: Host) -> None:
    """A permitted name cannot be read: its connection is neither refused nor let go."""
    fetched = host.curl(f"https://{HUB.name}/v2/", "--max-time", "2", as_engine=True)
    assert not fetched.ok
    assert re.search("timed? ?out", fetched.output), fetched.output


def test_what_was_refused_stays_refused_after_kill(host: Host, internet: Internet) -> None:
    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()

    host.kill_ramfw()

    assert host.pull("ghcr.io/corp/app:1").refused
    assert host.container().curl(f"https://{GHCR.name}/v2/").refused
    assert internet.packets(GHCR) == 0
    assert host.ramfw("status").code == 4, "status says that no daemon is running"
    waits(host)
    host.start_ramfw(HUB_ONLY)
    pulled = host.pull("docker.io/corp/app:1")
    assert pulled.ok, pulled.output


@pytest.mark.timeout(180)
def test_permitted_addresses_last_until_their_timeouts(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    internet.set_ttl(1)
    host.start_engine()
    host.start_ramfw(HUB_ONLY)
    internet.limit_downloads(32 * 1024)
    download = host.start_download("docker.io/library/slow:1")

    host.kill_ramfw()
    waits(host)
    wait_until(lambda: not host.permits(HUB.v4), 60, "the address has expired")

    assert host.pull("docker.io/corp/app:1").refused
    assert download.running, download.output
    internet.unlimit_downloads()
    assert download.wait(20) == 0, download.output


def test_return_of_the_daemon_leaves_no_gap(host: Host, internet: Internet) -> None:
    host.start_ramfw(HUB_ONLY)
    internet.limit_downloads(64 * 1024)
    download = host.start_download("docker.io/library/slow:1")
    flows = host.marked_flows()
    internet.reset_counts()
    refused = host.start_sender(*FORBIDDEN)
    permitted = host.start_sender(f"tcp/{HUB.v4}/443", f"tcp/{HUB.v6}/443")

    for _ in range(5):
        host.kill_ramfw()
        host.start_ramfw(HUB_ONLY)

    attempts, answered = refused.stop()
    assert attempts > 100
    assert (answered, internet.packets(GHCR)) == (0, 0)
    attempts, answered = permitted.stop()
    assert attempts == answered > 100
    assert flows
    assert flows <= host.marked_flows(), "the ids that live flows carry are still theirs"
    internet.unlimit_downloads()
    assert download.wait(20) == 0, download.output


def test_sender_gets_through_where_nothing_filters(host: Host, internet: Internet) -> None:
    """The twin of all that use a sender: its packets do arrive."""
    sender = host.start_sender(*FORBIDDEN)
    host.curl(f"https://{GHCR.name}/v2/")

    attempts, answered = sender.stop()

    assert attempts == answered > 0
    assert internet.packets(GHCR, 443, "udp") > 0


def test_stopping_the_daemon_leaves_the_rules(host: Host) -> None:
    daemon = host.start_ramfw(HUB_ONLY)

    assert daemon.stop(signal.SIGTERM) == 0

    assert host.pull("ghcr.io/corp/app:1").refused
    waits(host)


def test_wedged_daemon_opens_nothing(host: Host) -> None:
    daemon = host.start_ramfw(HUB_ONLY)
    daemon.send(signal.SIGSTOP)

    # No name is asked for, so no answer waits for the daemon that is stopped.
    assert host.pull(f"{GHCR.v4}/corp/app:1").refused

    # By name, an answer waits until the watchdog has ended the daemon.
    by_name = host.pull("ghcr.io/corp/app:1")
    assert not by_name.ok
    assert re.search(REFUSALS, by_name.output)
    assert by_name.seconds < SILENCE + 2
    assert host.ramfw("status").code == 4, "the daemon is gone"
    assert host.pull("ghcr.io/corp/app:1").refused
    waits(host)


def test_unload_gives_the_host_back(host: Host) -> None:
    daemon = host.start_ramfw(HUB_ONLY)
    daemon.stop(signal.SIGTERM)
    assert host.pull("ghcr.io/corp/app:1").refused

    unloaded = host.ramfw("unload")

    assert unloaded.ok, unloaded.output
    assert host.rules() == ""
    assert host.pull("ghcr.io/corp/app:1").ok
