"""The first connection after an answer works, for whoever asked, and only for what is permitted."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.lab.addresses import DNS, HUB_SITES, HUB_SITES_MOVED, Site
from tests.lab.host import Host
from tests.lab.internet import HOME, Internet
from tests.lab.lab import Lab
from tests.lab.odd_dns import ODD, ask_as_engine, ask_command, received, start_odd_dns
from tests.lab.policies import HUB_ONLY, STRICT, policy
from tests.lab.space import REFUSALS, Outcome, Process

CDN = policy('host = "*.cdn.example"\nports = [80]')
CDN_AND_HOST = policy('host = "*.cdn.example"\nports = [80]', host=STRICT)
EDGE = Site("a1.edge.cdn.example", "203.0.113.201", "2001:db8:f::201")
OUTSIDE = Site("a1.edge.other.example", "203.0.113.202", "2001:db8:f::202")
STUB = "127.0.0.1"
RESOLVED = "127.0.0.53"

Fetch = Callable[..., Outcome]


@pytest.fixture
def sites(internet: Internet) -> None:
    for site in (EDGE, OUTSIDE):
        internet.set_name(site.name, *site.addresses)


def fetch_as(who: str, host: Host) -> Fetch:
    """Fetches a URL, as the engine or in a container that is started now."""
    run = host.as_engine
    if who == "docker0":
        run = host.container().run
    elif who == "a user network":
        made = host.docker("network", "create", "--ipv6", "--subnet", "2001:db8:e::/64", "user")
        assert made.ok, made.output
        run = host.container("--network", "user").run

    def fetch(url: str, *options: str, resolver: str = "") -> Outcome:
        times = "%{stderr}%{time_namelookup} %{time_connect}"
        command = ("curl", "-sS", "--max-time", "15", "-o", "/dev/null", "-w", times)
        return run("env", f"RES_OPTIONS={resolver}", *command, *options, url)

    return fetch


def connecting(fetched: Outcome) -> float:
    """The seconds from the answer to the connection; a SYN that was lost would make it one."""
    looked_up, connected = map(float, fetched.output.split())
    return connected - looked_up


@pytest.mark.parametrize("server", DNS.addresses)
@pytest.mark.parametrize("resolver", ["", "use-vc"], ids=["udp", "tcp"])
@pytest.mark.parametrize("who", ["the engine", "docker0", "a user network"])
@pytest.mark.usefixtures("sites")
def test_first_connection_to_a_name_below_a_wildcard(
    host: Host, internet: Internet, who: str, resolver: str, server: str
) -> None:
    """Nobody resolved it ahead: what opens the address is the answer to the client itself."""
    host.set_servers(server)
    host.start_ramfw(CDN)
    fetch = fetch_as(who, host)
    internet.reset_counts()
    for address in (EDGE.v4, f"[{EDGE.v6}]"):
        assert fetch(f"http://{address}/").refused, "it was not asked for yet"
    assert internet.packets(EDGE) == 0

    for family in ("-4", "-6"):
        fetched = fetch(f"http://{EDGE.name}/", family, resolver=resolver)
        assert fetched.ok, fetched.output
        assert connecting(fetched) < 0.9

    for family in ("-4", "-6"):
        outside = fetch(f"http://{OUTSIDE.name}/", family, resolver=resolver)
        assert not outside.ok
        assert re.search(REFUSALS, outside.output), outside.output
    assert internet.packets(OUTSIDE) == 0


def test_pull_works_right_after_the_registry_moved(fresh_lab: Lab) -> None:
    """The addresses that were resolved ahead hold for minutes, and nothing answers there."""
    host, internet = fresh_lab.host, fresh_lab.internet
    host.start_engine()
    host.start_ramfw(HUB_ONLY)
    assert host.pull("docker.io/corp/app:1").ok
    internet.reset_counts()
    for old, new in zip(HUB_SITES, HUB_SITES_MOVED, strict=True):
        internet.serve(new, HOME[old])
        internet.set_name(new.name, *new.addresses)
        internet.abandon(old)

    pulled = host.pull("docker.io/corp/app:1")

    assert pulled.ok, pulled.output
    for old, new in zip(HUB_SITES, HUB_SITES_MOVED, strict=True):
        assert internet.packets(old, 443) == 0
        assert internet.packets(new, 443) > 0
    refused = host.curl(f"https://{HUB_SITES_MOVED[0].v4}:5000/", as_engine=True)
    assert refused.refused, "the filter is on"


def start_stub(host: Host, address: str, cgroup: str) -> Process:
    """A caching DNS forwarder on the host itself."""
    stub = host.namespace.start(
        *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null"),
        *("--pid-file=", "--user=root", "--no-resolv", "--no-hosts", f"--server={DNS.v4}"),
        *("--bind-interfaces", f"--listen-address={address}", "--cache-size=1000"),
        cgroup=cgroup,
    )
    stub.wait_for("using nameserver")
    return stub


@pytest.mark.usefixtures("sites")
def test_answer_from_the_cache_of_a_local_stub_opens(host: Host, internet: Internet) -> None:
    """ramfw is new and knows nothing; dnsmasq has the answer and asks nobody."""
    stub = start_stub(host, STUB, "system.slice/dnsmasq.service")
    host.set_servers(STUB)
    host.start_ramfw(CDN)
    assert host.as_engine("curl", "-sS", "-4", f"http://{EDGE.name}/").ok
    host.forget_ramfw()
    host.start_ramfw(CDN)
    asked = sum(f"query[A] {EDGE.name}" in line for line in internet.dns.lines)
    assert host.as_engine("curl", "-sS", f"http://{EDGE.v4}/").refused

    fetched = host.as_engine("curl", "-sS", "-4", f"http://{EDGE.name}/")

    stub.stop()
    assert fetched.ok, fetched.output
    asked_again = sum(f"query[A] {EDGE.name}" in line for line in internet.dns.lines)
    assert asked == asked_again > 0, "it came from the cache"


def test_servers_behind_a_stub_are_trusted_for_containers(fresh_lab: Lab) -> None:
    """As with systemd-resolved: the host asks 127.0.0.53, containers ask what is behind it."""
    host, internet = fresh_lab.host, fresh_lab.internet
    for site in (EDGE, OUTSIDE):
        internet.set_name(site.name, *site.addresses)
    start_stub(host, RESOLVED, "system.slice/systemd-resolved.service")
    upstream = host.namespace.root / "run/systemd/resolve"
    host.set_servers(RESOLVED)
    upstream.mkdir(parents=True)
    (upstream / "resolv.conf").write_text(f"nameserver {DNS.v4}\n")
    host.start_engine()
    host.load_tools()
    host.start_ramfw(CDN)

    for who in ("the engine", "docker0", "a user network"):
        fetch = fetch_as(who, host)
        fetched = fetch(f"http://{EDGE.name}/", "-4")
        assert fetched.ok, f"{who}: {fetched.output}"
        assert connecting(fetched) < 0.9
        assert fetch(f"http://{OUTSIDE.name}/", "-4").refused
    given = host.container().run("cat", "/etc/resolv.conf").output
    assert DNS.v4 in given
    assert RESOLVED not in given


def answers_shown(host: Host) -> int:
    """How many packets the rules have shown to the daemon."""
    listed = host.namespace.sh("nft list counter inet ramfw answers")
    return int(listed.split("packets")[1].split()[0])


@pytest.mark.usefixtures("sites")
def test_nobody_elses_answers_are_shown(host: Host) -> None:
    host.start_ramfw(CDN)
    question = ask_command(f"a/{EDGE.name}", server=DNS.v4)
    before = answers_shown(host)

    assert len(received(host.run(*question))) == 1
    assert len(received(host.run(*ask_command(f"a/{EDGE.name}", server=DNS.v6)))) == 1
    over_tcp = ask_command(f"a/{EDGE.name}", server=DNS.v4, protocol="tcp")
    assert len(received(host.run(*over_tcp))) == 1

    assert answers_shown(host) == before
    assert not host.permits(EDGE.v4)
    assert len(received(host.as_engine(*question))) == 1
    assert answers_shown(host) == before + 1


@pytest.mark.usefixtures("sites")
def test_answers_to_the_host_are_shown_where_it_is_a_scope(host: Host) -> None:
    host.start_ramfw(CDN_AND_HOST)
    before = answers_shown(host)

    assert len(received(host.run(*ask_command(f"a/{EDGE.name}", server=DNS.v4)))) == 1

    assert answers_shown(host) > before
    assert host.permits(EDGE.v4)
    there = f"{EDGE.name}:80:{EDGE.v4}"
    assert host.run("curl", "-sS", "--resolve", there, f"http://{EDGE.name}/").ok


LOSE_THE_FIRST = f"""
table inet lossy {{{{
    chain input {{{{
        type filter hook input priority 100
        ip saddr {ODD} tcp sport 53 meta length > 52 limit rate 1/hour burst {{count}} packets \
            counter drop
    }}}}
}}}}
"""
"""Behind ramfw: what it let go does not arrive, and the server sends it again."""


@pytest.mark.parametrize(
    ("protocol", "action", "lost"),
    [("udp", "service", 0), ("tcp", "service", 0), ("tcp", "splitservice", 0),
     ("tcp", "service", 1), ("tcp", "splitservice", 5)],
    ids=["udp", "tcp", "in-segments", "sent-again", "in-segments-sent-again"],
)  # fmt: skip
def test_encrypted_names_and_quic_are_made_void_for_permitted_names(
    host: Host, internet: Internet, protocol: str, action: str, lost: int
) -> None:
    start_odd_dns(internet, ODD)
    host.set_servers(ODD)
    names = (f"{action}-1.cdn.example", f"{action}-1.other.example")
    untouched = [
        received(host.run(*ask_command(f"https/{name}", server=ODD, protocol=protocol)))[0]
        for name in names
    ]
    assert all(b"\x02h3" in wire and b"\xfe\x0d\x00\x08" in wire for wire in untouched)
    host.start_ramfw(CDN)
    if lost:
        script = LOSE_THE_FIRST.format(count=lost)
        host.namespace.run("nft", "-f", "-", stdin=script, check=True)

    try:
        permitted = ask_as_engine(host, f"https/{names[0]}", protocol=protocol, seconds=10)[0]
        rules = host.namespace.sh("nft list ruleset")
    finally:
        if lost:
            host.namespace.sh("nft delete table inet lossy")
    other = ask_as_engine(host, f"https/{names[1]}", protocol=protocol)[0]

    assert not lost or f"counter packets {lost} " in rules
    assert other == untouched[1]
    assert len(permitted) == len(untouched[0])
    void = {"udp": (b"x3", b"x3-29"), "tcp": (b"hx", b"hx-29")}[protocol]
    expected = untouched[0].replace(b"\x02h3", b"\x02" + void[0])
    expected = expected.replace(b"\x05h3-29", b"\x05" + void[1])
    assert permitted == expected.replace(b"\xfe\x0d\x00\x08", b"\x00\x00\x00\x08")
    assert not host.permits("203.0.113.9"), "a hint opens nothing"
