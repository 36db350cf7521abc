"""`unknown = "probe"`: a host on which nothing is known is asked whether it is a registry.

A registry that the catalogue does not have, a web site, a registry that answers too late, and a
server whose answer never ends: the same policy meets all of them.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ramfw.core.marks import PASSED
from ramfw.core.probing import LONGEST_WAIT
from tests.lab.addresses import GHCR, Site
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import PROGRAMS, Service
from tests.lab.lab import Lab
from tests.lab.materials import Materials
from tests.lab.opener import hello, says
from tests.lab.policies import DOCKER_IO, OFF, REGISTRIES, STRICT, policy
from tests.lab.sender import PYTHON
from tests.lab.space import Outcome, Process
from tests.lab.test_names import Pull, names, podman, refusals, skopeo

PROBE = f'{REGISTRIES}\nunknown = "probe"'
REFUSE = f'{REGISTRIES}\nunknown = "refuse"'
ASKS = policy(DOCKER_IO, containers=PROBE, host=PROBE)
REGISTRY, WEB, LATE, DRIP, CLASSIC = (
    Site(f"{name}.unknown.example", f"203.0.113.{number}", f"2001:db8:f::{number}")
    for number, name in enumerate(("registry", "web", "late", "drip", "classic"), 80)
)
WAYS = {
    Service.REGISTRY: "late:0",
    Service.PAGE: "page",
    Service.LATE: f"late:{LONGEST_WAIT + 1}",
    Service.DRIP: "drip",
}
FOUND = "it was asked, and is a registry that is not permitted"
LEEWAY = 1.5
"""Seconds that a busy machine may add."""
FAMILIES = pytest.mark.parametrize("family", ["-4", "-6"])
Who = Host | Container
Servers = dict[Service, Process]


@pytest.fixture(scope="module")
def servers(module_lab: Lab, materials: Materials) -> Iterator[Servers]:
    internet, started = module_lab.internet, {}
    keys = (str(materials / "server.pem"), str(materials / "server.key"))
    for service, way in WAYS.items():
        command = (PYTHON, "-I", str(PROGRAMS / "tls_server.py"), str(service.value), *keys, way)
        started[service] = internet.namespace.start(*command)
        started[service].wait_for("listening")
    for site in (REGISTRY, WEB, LATE, DRIP, CLASSIC):
        internet.set_name(site.name, *site.addresses)
    internet.serve(CLASSIC, {443: Service.OPEN})
    places = {REGISTRY: (443, 8443), WEB: (443, 8443), LATE: (443,), DRIP: (443,)}
    for site, service in zip(places, WAYS, strict=True):
        internet.serve(site, dict.fromkeys(places[site], service))
    yield started
    for server in started.values():
        server.stop()


@pytest.fixture(params=["container", "host"])
def who(request: pytest.FixtureRequest, host: Host, servers: Servers) -> Who:  # noqa: ARG001
    """Whose traffic it is."""
    return host if request.param == "host" else host.container()


@pytest.fixture
def container(host: Host, servers: Servers) -> Container:  # noqa: ARG001
    return host.container()


def url(site: Site, port: int = 443) -> str:
    return f"https://{site.name}:{port}/"


def fetch(who: Who, where: str, *options: str) -> Outcome:
    """Whoever answers, by whatever certificate."""
    return who.curl(where, "--insecure", *options)


def probe(host: Host) -> dict[str, Any]:
    told: dict[str, Any] = names(host)["probe"]
    return told


def found(host: Host) -> list[tuple[str, str]]:
    return [(one["name"], one["address"]) for one in probe(host)["registries"]]


def questions(server: Process, before: int = 0) -> list[str]:
    """The requests of ramfw's that a server has had."""
    return [line for line in server.lines[before:] if "ramfw/" in line]


def until(what: Callable[[], bool]) -> None:
    """Wait for something that status tells."""
    end = time.monotonic() + 15
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def reached(met: Outcome) -> bool:
    """Whether the site answered, with whatever."""
    return "Connection reset" not in met.output and met.ok


@FAMILIES
def test_unknown_registry_is_found_and_refused_from_then_on(
    host: Host, who: Who, servers: Servers, family: str
) -> None:
    assert reached(fetch(who, url(REGISTRY), family)), "while nothing filters"
    host.start_prober()
    host.start_ramfw(ASKS)
    before = len(servers[Service.REGISTRY].lines)

    first, second = (fetch(who, url(REGISTRY), family) for _ in range(2))

    assert first.refused, first
    assert second.refused, second
    asked = questions(servers[Service.REGISTRY], before)
    assert len(asked) == 1, "once"
    assert asked[0].startswith("GET /v2/ HTTP/1.1")
    scope = "host" if isinstance(who, Host) else "containers"
    assert refusals(host)[0] == (scope, REGISTRY.name, FOUND)
    address = REGISTRY.v6 if family == "-6" else REGISTRY.v4
    assert found(host) == [(REGISTRY.name, address)]


@FAMILIES
def test_plain_web_site_is_reached_and_asked_once(
    host: Host, who: Who, servers: Servers, family: str
) -> None:
    host.start_prober()
    host.start_ramfw(ASKS)
    before = len(servers[Service.PAGE].lines)

    first, second = (fetch(who, url(WEB), family) for _ in range(2))

    assert first.ok, first.output
    assert second.ok, second.output
    assert len(questions(servers[Service.PAGE], before)) == 1
    assert found(host) == []
    assert names(host)["passed"] == 2


@FAMILIES
def test_unknown_registry_is_refused_on_the_first_connection_where_unknown_hosts_are(
    host: Host, who: Who, servers: Servers, family: str
) -> None:
    assert reached(fetch(who, url(REGISTRY), family)), "while nothing filters"
    host.start_ramfw(policy(DOCKER_IO, containers=REFUSE, host=REFUSE))

    assert fetch(who, url(REGISTRY), family).refused
    assert refusals(host)[0][1:] == (REGISTRY.name, "nothing is known about this host")
    assert questions(servers[Service.REGISTRY], len(servers[Service.REGISTRY].lines)) == []


def test_registry_that_was_found_is_refused_at_every_address_and_port_once_dns_confirms_it(
    host: Host, container: Container
) -> None:
    host.start_prober()
    host.start_ramfw(ASKS)
    assert fetch(container, url(REGISTRY)).refused
    until(lambda: probe(host)["registries"][0]["everywhere"])
    elsewhere = ("--resolve", f"{REGISTRY.name}:8443:{WEB.v4}")

    assert fetch(container, url(REGISTRY, 8443), *elsewhere).refused
    assert fetch(container, url(WEB, 8443)).ok, "another name at the same place"
    assert probe(host)["asked"] == 2
    told = host.ramfw("explain", REGISTRY.name).output
    assert "found to be a registry" in told
    assert "refused to engines, containers and host" in " ".join(told.split())


def test_nobody_can_have_another_s_name_refused(host: Host, container: Container) -> None:
    """A client calls a registry of its own by a web site's name: only that place is refused."""
    host.start_prober()
    host.start_ramfw(ASKS)
    own = ("--resolve", f"{WEB.name}:443:{REGISTRY.v4}")

    assert fetch(container, url(WEB), *own).refused

    assert found(host) == [(WEB.name, REGISTRY.v4)]
    assert fetch(container, url(WEB)).ok
    assert not probe(host)["registries"][0]["everywhere"]
    assert fetch(container, url(WEB), *own).refused


def test_client_without_a_server_name_is_judged_by_its_server(
    host: Host, container: Container
) -> None:
    host.start_prober()
    host.start_ramfw(ASKS)

    assert says(container, REGISTRY.v4, 443, hello(None)).refused
    assert says(container, WEB.v4, 443, hello(None)).is_tls
    assert found(host) == [("", REGISTRY.v4)]


def test_registry_that_the_policy_permits_is_not_asked(
    host: Host, container: Container, servers: Servers
) -> None:
    host.start_prober()
    host.start_ramfw(policy(f'host = "{REGISTRY.name}"', containers=PROBE))
    before = len(servers[Service.REGISTRY].lines)

    assert reached(fetch(container, url(REGISTRY)))
    assert questions(servers[Service.REGISTRY], before) == []


def test_question_goes_its_way_where_the_host_itself_may_not(
    host: Host, container: Container
) -> None:
    """It is in no scope: neither refused by address, nor held for its name."""
    host.start_prober()
    host.start_ramfw(policy(DOCKER_IO, containers=PROBE, host=STRICT))
    host.forget_flows()

    assert fetch(container, url(REGISTRY), "-4").refused
    assert fetch(container, url(WEB), "-4").ok

    assert found(host)
    assert host.counted("refused")["host"] == 0
    assert fetch(host, url(WEB)).refused, "the filter is on"
    assert names(host)["openings"] <= 4, "the container's own packets"
    assert PASSED in host.marks_of_flows(f"dst={REGISTRY.v4}")


def test_container_on_the_hosts_network_cannot_pass_for_the_question(host: Host) -> None:
    """It may set its sockets' marks, for it has CAP_NET_RAW."""
    host.start_prober()
    host.start_ramfw(policy(DOCKER_IO, containers=PROBE, host=PROBE))
    program = (
        "import socket, ssl, sys\n"
        "s = socket.socket()\n"
        f"s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, {PASSED})\n"
        f"s.connect(('{GHCR.v4}', 443))\n"
        "c = ssl._create_unverified_context()\n"
        "print(c.wrap_socket(s, server_hostname=sys.argv[1]).version())\n"
    )
    inside = host.container("--network", "host")

    met = inside.run(PYTHON, "-c", program, GHCR.name)
    site = inside.run(PYTHON, "-c", program.replace(GHCR.v4, WEB.v4), WEB.name)

    assert re.search("ACCESS_DENIED|ConnectionResetError", met.output), met.output
    assert "TLSv1" in site.output


@FAMILIES
def test_answer_that_comes_late_counts_from_then_on(
    host: Host, container: Container, servers: Servers, family: str
) -> None:
    host.start_prober()
    host.start_ramfw(ASKS)
    server = servers[Service.LATE]
    before = len(server.lines)

    first = container.start("curl", "-sko", "/dev/null", family, url(LATE))
    # The client's own request arrives behind ramfw's: it waited, and then went on.
    server.wait_for("GET / ", after=before)
    assert questions(server, before)
    until(lambda: probe(host)["found"] == 1)
    first.stop()

    assert fetch(container, url(LATE), family).refused
    assert probe(host)["passed_unanswered"] == 1


def test_server_that_never_ends_its_answer_keeps_a_client_no_longer_than_the_bound(
    host: Host, container: Container
) -> None:
    host.start_prober()
    host.start_ramfw(ASKS)

    first, took = began(container, DRIP)
    assert first
    assert LONGEST_WAIT - 0.1 < took < LONGEST_WAIT + LEEWAY
    until(lambda: probe(host)["waiting"] == 0)
    assert probe(host)["passed_unanswered"] == 1
    # It is remembered, when the prober has given up: the next does not wait.
    until(lambda: began(container, DRIP)[1] < 1)
    assert found(host) == []


def began(container: Container, site: Site) -> tuple[bool, float]:
    """Whether a server took a client's hello, and after how long."""
    start = time.monotonic()
    met = says(container, site.v4, 443, hello(site.name))
    return met.is_tls, time.monotonic() - start


@pytest.mark.parametrize("how", ["stopped", "killed", "none"])
def test_without_a_prober_unknown_hosts_pass_counted_and_said(
    host: Host, container: Container, how: str
) -> None:
    if how != "none":
        prober = host.start_prober()
        if how == "stopped":
            os.kill(prober.pid, signal.SIGSTOP)
        else:
            prober.stop(signal.SIGKILL)
    host.start_ramfw(ASKS)

    passed, took = began(container, REGISTRY)

    assert passed
    assert took < LONGEST_WAIT + LEEWAY
    if how != "stopped":
        assert took < LEEWAY, "nobody waits for what is not there"
    until(lambda: bool(probe(host)["problem"]))
    assert probe(host)["passed_unasked"] + probe(host)["passed_unanswered"] == 1
    told = " ".join(host.ramfw("status").output.split())
    assert "unknown hosts are not asked" in told
    assert "passed unasked" in told
    assert container.curl(f"https://{GHCR.name}/").refused, "what is known is refused"


def test_prober_that_is_killed_over_a_question_is_no_way_past_when_it_is_back(
    host: Host, container: Container, servers: Servers
) -> None:
    prober = host.start_prober()
    host.start_ramfw(ASKS)
    before = len(servers[Service.DRIP].lines)
    waiting = container.start("curl", "-sk", url(DRIP))
    servers[Service.DRIP].wait_for("ramfw/", after=before)

    prober.stop(signal.SIGKILL)
    servers[Service.DRIP].wait_for("curl/", after=before)
    waiting.stop()
    host.start_prober()
    until(lambda: fetch(container, url(REGISTRY)).refused)

    assert found(host)[0][0] == REGISTRY.name


def test_prober_that_is_started_by_hand_gives_up_root_and_finds(
    host: Host, container: Container
) -> None:
    prober = host.start_prober(by_hand=True)
    status = Path(f"/proc/{prober.pid}/status").read_text()
    host.start_ramfw(ASKS)

    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert "CapEff:\t0000000000000000" in status
    assert fetch(container, url(REGISTRY)).refused
    assert fetch(container, url(WEB)).ok


def test_flood_of_unknown_names_keeps_nobody_from_a_web_site(
    host: Host, container: Container
) -> None:
    host.start_prober()
    host.start_ramfw(ASKS)
    program = (
        "import asyncio, ssl\n"
        "async def one(n):\n"
        "    c = ssl._create_unverified_context()\n"
        "    try:\n"
        f"        await asyncio.open_connection('{DRIP.v4}', 443, ssl=c, "
        "server_hostname=f'n{n}.example', ssl_handshake_timeout=8)\n"
        "        return True\n"
        "    except OSError as e:\n"
        "        print(n, repr(e), flush=True)\n"
        "        return False\n"
        "async def main(): print(sum(await asyncio.gather(*map(one, range(400)))))\n"
        "asyncio.run(main())\n"
    )
    flood = container.start(PYTHON, "-c", program)
    until(lambda: probe(host)["asked"] > 0)

    site, took = began(container, WEB)

    assert site
    assert took < LONGEST_WAIT + LEEWAY
    flood.wait_for("400")
    told = probe(host)
    assert told["passed_unasked"] > 300
    assert told["asked"] <= 40


def test_registry_that_was_found_is_known_to_the_next_daemon(
    host: Host, container: Container, servers: Servers
) -> None:
    """As a service it keeps what it found; its first connection is refused without a question."""
    state = ("--state", str(host.directory / "state"))
    (host.directory / "state").mkdir()
    host.start_prober()
    host.start_ramfw(ASKS, *state)
    assert fetch(container, url(REGISTRY)).refused
    until((host.directory / "state" / "registries.json").exists)
    until(lambda: probe(host)["registries"][0]["everywhere"])
    until(lambda: '"everywhere": true' in (host.directory / "state/registries.json").read_text())
    before = len(servers[Service.REGISTRY].lines)

    host.kill_ramfw()
    host.start_ramfw(ASKS, *state)

    assert fetch(container, url(REGISTRY)).refused
    assert questions(servers[Service.REGISTRY], before) == []
    assert fetch(container, url(WEB)).ok


def test_audit_finds_it_too_and_refuses_nothing(host: Host, container: Container) -> None:
    host.start_prober()
    more = '[enforcement]\nmode = "audit"\n'
    host.start_ramfw(policy(DOCKER_IO, containers=PROBE, host=OFF, more=more))

    assert reached(fetch(container, url(REGISTRY)))
    assert refusals(host)[0] == ("containers", REGISTRY.name, FOUND)
    assert found(host)


@pytest.mark.parametrize("client", [skopeo, podman], ids=lambda client: client.__name__)
def test_real_registry_is_found_by_those_who_pull_from_it(
    host: Host, container: Container, client: Pull
) -> None:
    image = ("skopeo", "inspect", "--raw", "--tls-verify=false")
    asked = f"docker://{CLASSIC.name}/corp/app:1"
    assert host.run(*image, asked).ok, "while nothing filters"
    host.start_prober()
    host.start_ramfw(ASKS)

    assert not client(host, CLASSIC.name).ok
    assert refusals(host)[0] == ("host", CLASSIC.name, FOUND)
    assert fetch(container, f"https://{CLASSIC.name}/v2/").refused
    assert {name for name, _ in found(host)} == {CLASSIC.name}
