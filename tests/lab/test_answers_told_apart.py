"""The kernel itself tells which answers may be to a permitted name: no other waits for the daemon.

What was held is what the rules counted; what went on is told by its asker, who has it while the
daemon is stopped and can let nothing go.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import pytest

from tests.lab.addresses import DNS, Site
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.odd_dns import (
    ODD,
    ODD_V6,
    WITH_PROGRAMS,
    ask_as_engine,
    ask_in,
    start_odd_dns,
)
from tests.lab.policies import policy

EXACT = 'host = "hub.cdn.example"\nports = [80]'
BELOW = 'host = "*.cdn.example"\nports = [80]'
TOO_SHORT = 'host = "*.t.co"'
POLICIES = {"an exact name": policy(EXACT), "a wildcard": policy(BELOW)}

HUB = Site("hub.cdn.example", "203.0.113.221", "2001:db8:f::221")
OUTSIDE = Site("hub.other.example", "203.0.113.222", "2001:db8:f::222")
NEIGHBOUR = Site("hub.cdx.example", "203.0.113.223", "2001:db8:f::223")
BEHIND = Site("cdn.example", "203.0.113.224", "2001:db8:f::224")
"""Not below itself; and for an exact name another one."""

Ask = Callable[..., list[bytes]]


@pytest.fixture(autouse=True)
def _sites(internet: Internet) -> None:
    for site in (HUB, OUTSIDE, NEIGHBOUR, BEHIND):
        internet.set_name(site.name, *site.addresses)


def asking(who: str, host: Host) -> Ask:
    """Asks as the engine, or in a container that is started now."""
    if who == "the engine":
        return lambda *questions, **how: ask_as_engine(host, *questions, **how)
    container = host.container(*WITH_PROGRAMS, command=("sleep", "300"))
    return lambda *questions, **how: ask_in(container, *questions, **how)


def held(host: Host) -> int:
    """How many packets the rules have put into the queue."""
    listed = host.namespace.sh("nft list counter inet ramfw answers")
    return int(listed.split("packets")[1].split()[0])


@pytest.mark.parametrize("who", ["the engine", "a container"])
@pytest.mark.parametrize("permitted", POLICIES)
def test_a_stopped_daemon_holds_up_the_permitted_name_and_no_other(
    host: Host, permitted: str, who: str
) -> None:
    daemon = host.start_ramfw(POLICIES[permitted])
    ask = asking(who, host)
    before = held(host)
    daemon.send(signal.SIGSTOP)
    try:
        for server in (DNS.v4,) if who == "a container" else DNS.addresses:
            for question in (f"a/{OUTSIDE.name}", f"aaaa/{NEIGHBOUR.name}", f"a/{BEHIND.name}"):
                assert len(ask(question, server=server, seconds=1)) == 1, question
            assert held(host) == before, "none of them was queued"
        assert ask("a/hUb.CDN.eXample", server=DNS.v4, seconds=0.5) == [], "it waits"
        assert held(host) == before + 1
    finally:
        daemon.send(signal.SIGCONT)
    assert len(ask("a/hUb.CDN.eXample", server=DNS.v4)) == 1, "the twin: the daemon lets it go"
    assert host.status()["watch"]["held"] == "permitted"


@pytest.mark.parametrize("name", ["hub.cdn.example", "HUB.CDN.EXAMPLE", "hUb.cDn.ExAmPlE"])
def test_the_first_connection_works_however_the_name_is_spelled(host: Host, name: str) -> None:
    """Below a wildcard, so that nobody resolved it ahead."""
    host.start_ramfw(policy(BELOW))
    assert host.curl(f"http://{HUB.v4}/", as_engine=True).refused
    before = held(host)

    for family in ("-4", "-6"):
        fetched = host.curl(f"http://{name}/", family, as_engine=True)
        assert fetched.ok, fetched.output

    assert held(host) > before
    assert host.status()["watch"]["late"] == 0


@pytest.mark.parametrize("server", [ODD, ODD_V6])
def test_options_of_the_ip_header_do_not_hide_a_name(
    host: Host, internet: Internet, server: str
) -> None:
    """The name is found behind a longer header too."""
    start_odd_dns(internet, server)
    host.set_servers(server)
    host.start_ramfw(policy(BELOW))
    before = held(host)

    assert len(ask_as_engine(host, "a/options-9.other.example", server=server)) == 1
    assert held(host) == before
    assert not host.permits("203.0.113.9")

    assert len(ask_as_engine(host, "a/options-9.cdn.example", server=server)) == 1
    assert held(host) == before + 1
    assert host.permits("203.0.113.9")


def test_an_alias_of_an_unrelated_name_to_a_permitted_one_is_not_held_and_opens_nothing(
    host: Host, internet: Internet
) -> None:
    start_odd_dns(internet, ODD)
    host.set_servers(ODD)
    host.start_ramfw(policy(BELOW))
    before = held(host)

    assert len(ask_as_engine(host, "a/leads-7.other.example")) == 1
    assert held(host) == before
    assert not host.permits("203.0.113.7")

    assert len(ask_as_engine(host, "a/leads-7.cdn.example")) == 1
    assert held(host) == before + 1
    assert host.permits("203.0.113.7"), "the twin: the name that was asked for is permitted"


@pytest.mark.parametrize("who", ["the engine", "a container"])
def test_a_refusal_is_explained_by_the_name_whose_answer_was_not_held(host: Host, who: str) -> None:
    host.start_ramfw(policy(BELOW))
    before = held(host)
    url = f"http://{OUTSIDE.name}/"
    if who == "the engine":
        assert host.curl(url, "-4", as_engine=True).refused
    else:
        assert host.container().curl(url, "-4").refused
    assert held(host) == before
    found = json.loads(host.ramfw("log", "--json").output)["refusals"]
    assert [(one["address"], one["names"]) for one in found] == [(OUTSIDE.v4, [OUTSIDE.name])]


def test_over_tcp_every_answer_is_held(host: Host) -> None:
    host.start_ramfw(policy(BELOW))
    before = held(host)
    asked = ask_as_engine(host, f"a/{OUTSIDE.name}", server=DNS.v4, protocol="tcp")
    assert len(asked) == 1
    assert held(host) > before


def test_what_a_reload_permits_is_held_from_then_on(host: Host) -> None:
    host.start_ramfw(policy(EXACT))
    before = held(host)
    assert len(ask_as_engine(host, f"a/{OUTSIDE.name}", server=DNS.v4)) == 1
    assert held(host) == before
    assert host.reload(policy(EXACT, f'host = "{OUTSIDE.name}"')).ok
    before = held(host)
    assert len(ask_as_engine(host, f"a/{OUTSIDE.name}", server=DNS.v4)) == 1
    assert held(host) == before + 1
    assert host.reload(policy(EXACT)).ok
    before = held(host)
    assert len(ask_as_engine(host, f"a/{OUTSIDE.name}", server=DNS.v4)) == 1
    assert held(host) == before
    assert host.status()["kernel"]["mismatches"] == 0


def test_a_name_that_is_too_short_to_be_told_has_every_answer_held_and_status_says_so(
    host: Host,
) -> None:
    host.start_ramfw(policy(BELOW, TOO_SHORT))
    before = held(host)
    assert len(ask_as_engine(host, f"a/{OUTSIDE.name}", server=DNS.v4)) == 1
    assert held(host) == before + 1
    said = " ".join(host.ramfw("status").output.split())
    assert "all of them, for *.t.co is too short for the kernel to know it" in said
