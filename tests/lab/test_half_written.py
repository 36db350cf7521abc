"""What is written in steps permits nothing before the last.

An id is written into a flow's mark bit by bit. Another packet of the flow meets such a mark for
less than a microsecond, so here somebody else's rules write it, and keep it. The rule with an xt
target follows the others by a moment, in which somebody else takes it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ramfw.core.marks import WRITING
from tests.lab.addresses import HUB, HUB_OTHER_BLOBS, HUB_SITES
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import HUB_ONLY
from tests.lab.space import wait_until

OTHERS = "inet others"


@pytest.fixture(autouse=True)
def _without_others(host: Host) -> Iterator[None]:
    yield
    host.namespace.sh(f"nft 'add table {OTHERS}; delete table {OTHERS}'")


def write(host: Host, mark: int, state: str) -> None:
    """From now on the mark of every such connection is this one, before ramfw looks at it."""
    rule = f"tcp dport 443 ct state {state} counter ct mark set {mark:#x}"
    commands = (
        f"add table {OTHERS}",
        f"delete table {OTHERS}",
        f"add table {OTHERS}",
        f"add chain {OTHERS} out {{ type filter hook output priority -160; }}",
        f"add rule {OTHERS} out {rule}",
    )
    host.namespace.sh(f"nft '{'; '.join(commands)}'")


def written(host: Host) -> int:
    """How many packets have had it."""
    listed = host.namespace.sh(f"nft list table {OTHERS}")
    (packets,) = re.findall(r"packets (\d+)", listed)
    return int(packets)


def arrived(internet: Internet) -> int:
    """How many packets have reached the registry and its blobs."""
    return sum(internet.packets(site) for site in (*HUB_SITES, *HUB_OTHER_BLOBS))


def test_packets_that_overtake_their_id_are_lost_and_their_download_goes_on(
    host: Host, internet: Internet
) -> None:
    host.start_ramfw(HUB_ONLY)
    (entry,) = host.status()["entries"]
    internet.limit_downloads(32 * 1024)
    download = host.start_download("docker.io/library/slow:1")

    write(host, WRITING, "established")
    internet.reset_counts()
    wait_until(lambda: written(host) > 3, 30, "the client acknowledges again")

    assert arrived(internet) == 0, "nothing passes by a mark that is no id"
    assert host.status()["revoked"]["packets"] == 0
    assert download.running, "nor is it reset"

    write(host, entry["id"], "established")
    internet.unlimit_downloads()
    assert download.wait(60) == 0, download.output
    assert arrived(internet) > 0


def test_a_new_connection_with_such_a_mark_is_refused_at_once(
    host: Host, internet: Internet
) -> None:
    host.start_ramfw(HUB_ONLY)
    assert host.curl(f"https://{HUB.name}/v2/", as_engine=True).ok

    write(host, WRITING, "new")
    internet.reset_counts()
    refused = host.curl(f"https://{HUB.name}/v2/", "--max-time", "3", as_engine=True)

    assert refused.refused, refused.output
    assert written(host) > 0
    assert arrived(internet) == 0
    host.namespace.sh(f"nft delete table {OTHERS}")
    assert host.curl(f"https://{HUB.name}/v2/", as_engine=True).ok


def test_no_first_bytes_pass_while_the_rule_that_holds_them_is_not_there_yet(
    host: Host,
) -> None:
    host.start_ramfw(HUB_ONLY)
    assert host.curl(f"https://{HUB.name}/v2/", as_engine=True).ok
    before = host.status()["names"]["unread"]
    host.kill_ramfw()

    host.namespace.sh("nft flush chain inet ramfw hold_opening")
    unheld = host.curl(f"https://{HUB.name}/v2/", "--max-time", "2", as_engine=True)

    assert re.search("timed? ?out", unheld.output), unheld.output
    host.start_ramfw(HUB_ONLY)
    assert host.status()["names"]["unread"] == before
    assert host.curl(f"https://{HUB.name}/v2/", as_engine=True).ok
