"""What no scope covers is neither refused nor marked."""

from __future__ import annotations

from tests.lab.addresses import GHCR, HOST, HUB
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import HUB_ONLY


def start_filter(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)
    assert host.pull("ghcr.io/corp/app:1").refused, "the filter is on"


def test_the_hosts_own_traffic_carries_no_mark(host: Host) -> None:
    start_filter(host)
    host.forget_flows()

    for url in (f"https://{GHCR.name}/v2/", f"https://{HUB.name}/v2/", f"http://{GHCR.v4}:5432/"):
        fetched = host.curl(url)
        assert fetched.ok, fetched.output

    assert host.marks_of_flows() == {0}


def test_a_containers_database_carries_no_mark(host: Host) -> None:
    start_filter(host)
    container = host.container()
    host.forget_flows()

    fetched = container.curl(f"http://{GHCR.v4}:5432/")

    assert fetched.ok, fetched.output
    assert host.marks_of_flows() == {0}


def test_who_connects_to_the_host_is_not_marked(host: Host, internet: Internet) -> None:
    start_filter(host)
    published = ("--publish", "8080:80")
    host.container(*published, command=["httpd", "-f", "-p", "80", "-h", "/"])
    host.forget_flows()

    internet.namespace.sh(f"curl -sS --retry 5 --retry-all-errors http://{HOST.v4}:8080/tools")

    assert host.marks_of_flows(f"src=192.0.2.1 dst={HOST.v4}") == {0}


def test_what_the_engine_opens_is_marked(host: Host) -> None:
    """The twin: marks are seen where they belong."""
    start_filter(host)
    host.forget_flows()

    assert host.curl(f"https://{HUB.name}/v2/", as_engine=True).ok

    marks = host.marks_of_flows(f"dst={HUB.v4}") | host.marks_of_flows(f"dst={HUB.v6}")
    assert marks
    assert 0 not in marks


def test_no_table_of_others_is_changed(host: Host) -> None:
    """Docker's chains are as they were, before, during and after."""
    before = host.rules_of_others()

    start_filter(host)
    during = host.rules_of_others()
    assert host.ramfw("unload").ok

    assert "DOCKER" in before
    assert before == during == host.rules_of_others()


NOT_TRACKED = """
table inet others {
    chain out { type filter hook output priority raw; tcp dport 443 notrack; }
    chain in { type filter hook prerouting priority raw; tcp sport 443 notrack; }
}
"""


def test_what_others_have_not_tracked_passes_outside_and_is_refused_inside(host: Host) -> None:
    """No mark can be on such a packet: whose it is is told by its socket alone."""
    start_filter(host)
    host.namespace.run("nft", "-f", "-", stdin=NOT_TRACKED, check=True)
    try:
        outside = host.curl(f"https://{GHCR.name}/v2/")
        inside = host.curl(f"https://{HUB.name}/v2/", as_engine=True)
    finally:
        host.namespace.sh("nft delete table inet others")

    assert outside.ok, outside.output
    assert not inside.ok
    assert host.curl(f"https://{HUB.name}/v2/", as_engine=True).ok, "tracked again, it is permitted"
