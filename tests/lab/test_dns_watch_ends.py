"""DNS goes on without the daemon and opens nothing more; and the way without a queue."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator

import pytest

from tests.lab.addresses import DNS, Site
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.odd_dns import ask_as_engine
from tests.lab.policies import policy
from tests.lab.sender import PROGRAMS, PYTHON
from tests.lab.space import REFUSALS, Outcome, Process, wait_until

CDN = policy('host = "*.cdn.example"\nports = [80]')
QUEUE = "5353"
STATED = 5
"""Seconds in which the watchdog ends a daemon that shows no life."""
FIRST = Site("first.cdn.example", "203.0.113.211", "2001:db8:f::211")
FRESH = Site("fresh.cdn.example", "203.0.113.212", "2001:db8:f::212")


@pytest.fixture(autouse=True)
def _sites(internet: Internet) -> None:
    for site in (FIRST, FRESH):
        internet.set_name(site.name, *site.addresses)


def fetch(host: Host, site: Site, family: str = "-4") -> tuple[bool, str]:
    """Whether the engine could look the name up and connect, and what was said."""
    fetched = host.curl(f"http://{site.name}/", family, as_engine=True)
    return fetched.ok, fetched.output


def assert_nothing_new_opens(host: Host) -> None:
    for family in ("-4", "-6"):
        fetched = host.curl(f"http://{FRESH.name}/", family, as_engine=True)
        assert fetched.refused, f"the name was found, and refused: {fetched}"
    container = host.container()
    assert container.curl(f"http://{FRESH.name}/", "-4").refused
    assert not any(host.permits(address) for address in FRESH.addresses)


def test_dns_goes_on_when_the_daemon_is_killed(host: Host) -> None:
    host.start_ramfw(CDN)
    assert fetch(host, FIRST)[0]

    host.kill_ramfw()

    started = time.monotonic()
    assert len(ask_as_engine(host, f"a/{FRESH.name}", server=DNS.v4)) == 1
    assert time.monotonic() - started < 1, "no answer waits for anybody"
    assert_nothing_new_opens(host)
    assert fetch(host, FIRST)[0], "what was open stays open"
    host.start_ramfw(CDN)
    assert fetch(host, FRESH)[0], "the twin: with the daemon it opens"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("of_container", [True, False], ids=["container", "engine"])
def test_answer_of_before_a_restart_still_counts(
    host: Host,
    of_container: bool,  # noqa: FBT001
    end: signal.Signals,
) -> None:
    """A client has it in a cache of its own, and asks nobody; only a wildcard permits its name."""
    daemon = host.start_ramfw(CDN)
    assert fetch(host, FIRST)[0]
    kept = host.control.with_name(f"{host.control.name}.leases")
    if end == signal.SIGKILL:
        wait_until(lambda: kept.exists() and FIRST.name in kept.read_text(), 5, "it is kept")
    container = host.container() if of_container else None

    def fetches(site: Site) -> Outcome:
        cached = (f"http://{site.name}/", "--resolve", f"{site.name}:80:{site.v4}")
        return container.curl(*cached) if container else host.curl(*cached, as_engine=True)

    def judged() -> tuple[int, int]:
        """The daemon's word counts: this server answers whatever it is asked, or nothing."""
        found = host.status()["names"]
        return found["permitted"], found["refused"]

    for table_stays in (True, False):
        daemon.stop(end)
        if not table_stays:
            host.namespace.sh("nft delete table inet ramfw")
        daemon = host.start_ramfw(CDN)
        assert fetches(FIRST).ok, "the element in the kernel is not what it rests on"
        assert judged() == (1, 0)
        assert fetches(FRESH).refused, "nobody asked for that one"

    host.kill_ramfw()
    assert kept.stat().st_mode & 0o777 == 0o600, "it has what people asked for"
    kept.unlink()
    host.start_ramfw(CDN)
    fetches(FIRST)
    assert judged() == (0, 1), "its twin: nothing was kept"


def test_wedged_daemon_stalls_dns_until_its_watchdog_ends_it(host: Host) -> None:
    daemon = host.start_ramfw(CDN)
    assert fetch(host, FIRST)[0]
    daemon.send(signal.SIGSTOP)
    started = time.monotonic()

    assert not ask_as_engine(host, f"a/{FRESH.name}", server=DNS.v4, seconds=1), "it is held"
    wait_until(
        lambda: bool(ask_as_engine(host, f"a/{FRESH.name}", server=DNS.v4, seconds=0.3)),
        STATED + 2,
        "DNS goes on",
    )

    assert time.monotonic() - started < STATED + 2
    assert host.ramfw("status").code == 4, "the daemon is gone"
    assert_nothing_new_opens(host)
    assert fetch(host, FIRST)[0], "what was open stays open"


@pytest.fixture
def _queue_is_taken(host: Host) -> Iterator[None]:
    """Another program has the queue, so that ramfw can only have copies."""
    program = (PYTHON, "-I", str(PROGRAMS / "hold_queue.py"), QUEUE)
    holder = host.namespace.start(*program, cgroup="system.slice/other.service")
    holder.wait_for("holding")
    yield
    holder.stop()


def start_fetch(host: Host, url: str, family: str) -> Process:
    times = "%{stderr}%{time_namelookup} %{time_connect}\n"
    curl = ("curl", "-sS", "--max-time", "10", "-o", "/dev/null", "-w", times)
    return host.namespace.start(*curl, family, url, cgroup=host.engine_cgroup)


@pytest.mark.usefixtures("_queue_is_taken")
@pytest.mark.parametrize(("family", "address"), [("-4", FRESH.v4), ("-6", FRESH.v6)])
def test_first_connection_gets_through_where_answers_are_only_copied(
    host: Host, family: str, address: str
) -> None:
    daemon = host.start_ramfw(CDN)
    watch = host.status()["watch"]
    assert watch["form"] == "copy"
    assert "another program listens" in watch["problem"]
    # However quick the daemon is, this time the answer and the SYN are quicker.
    daemon.send(signal.SIGSTOP)
    fetching = start_fetch(host, f"http://{FRESH.name}/", family)
    wait_until(lambda: f"{address} . 80" in host.rules(), 3, "the first SYN was dropped")
    daemon.send(signal.SIGCONT)

    assert fetching.wait() == 0, fetching.output
    looked_up, connected = map(float, fetching.lines[-1].split())
    assert 0.9 < connected - looked_up < 1.5, "TCP's own retry, after a second"
    assert host.permits(address)


@pytest.mark.usefixtures("_queue_is_taken")
def test_refusal_comes_with_the_second_try_where_answers_are_only_copied(host: Host) -> None:
    host.start_ramfw(CDN)

    refused = host.curl(f"http://{FRESH.v4}/", as_engine=True)

    assert not refused.ok
    assert re.search(REFUSALS, refused.output), refused.output
    assert 0.9 < refused.seconds < 1.6
    again = host.curl(f"http://{FRESH.v4}/", as_engine=True)
    assert again.seconds < 1.6, "never longer"
