"""Mode `registries`: what is a registry, and not permitted, is refused by name; nothing else is."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from ramfw.core.marks import PASSED
from tests.lab.addresses import GHCR, HUB, LOGS
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import PROGRAMS, Service
from tests.lab.lab import Lab
from tests.lab.opener import (
    AWAIT,
    FORBIDDEN,
    HEAR,
    Met,
    Step,
    begins,
    get,
    goes_on,
    hello,
    opens,
    says,
)
from tests.lab.policies import DOCKER_IO, OFF, REGISTRIES, STRICT, policy
from tests.lab.sender import PYTHON
from tests.lab.space import wait_until
from tests.lab.test_names import names, refusals

ONLY_REGISTRIES = policy(DOCKER_IO, containers=REGISTRIES, host=REGISTRIES)
REFUSES_UNKNOWN = policy(DOCKER_IO, containers=f'{REGISTRIES}\nunknown = "refuse"')
AUDIT = policy(DOCKER_IO, containers=REGISTRIES, more='[enforcement]\nmode = "audit"\n')
WEB = LOGS
"""A web site: no registry is known by this name."""
KNOWN = "the name is a registry's that is not permitted"
POSTGRESQL, SYSLOG = 5432, 6514
DATABASES = (80, 5000, 8080, POSTGRESQL)
LINES = 20


@pytest.fixture(scope="module")
def servers(module_lab: Lab) -> Iterator[None]:
    """A web site; a database, whose server speaks first; a log server, which never does."""
    internet = module_lab.internet
    internet.serve(WEB, {443: Service.BLOBS, 8443: Service.BLOBS})
    started = []
    for service, ports, greeting in (
        (Service.DATABASE, DATABASES, "hello\n"),
        (Service.SINK, (SYSLOG,), ""),
    ):
        talker = (PYTHON, "-I", str(PROGRAMS / "talker.py"), str(service.value), greeting)
        started.append(internet.namespace.start(*talker))
        started[-1].wait_for("listening")
        internet.serve(WEB, dict.fromkeys(ports, service))
    yield
    for server in started:
        server.stop()


@pytest.fixture
def container(host: Host, servers: None) -> Container:  # noqa: ARG001
    return host.container()


def at_web(name: str, port: int) -> tuple[str, ...]:
    return ("--resolve", f"{name}:{port}:{WEB.v4},[{WEB.v6}]")


@pytest.mark.parametrize("family", ["-4", "-6"])
@pytest.mark.parametrize("port", [443, 8443])
def test_web_site_is_reached_and_a_registry_at_its_address_is_refused(
    host: Host, container: Container, family: str, port: int
) -> None:
    url = f"https://ghcr.io:{port}/v2/"
    assert container.curl(url, family, *at_web("ghcr.io", port)).ok, "while nothing filters"
    host.start_ramfw(ONLY_REGISTRIES)

    site = container.curl(f"https://{WEB.name}:{port}/", family)
    registry = container.curl(url, family, *at_web("ghcr.io", port))

    assert site.ok, site.output
    assert registry.refused, registry
    assert refusals(host)[0] == ("containers", "ghcr.io", KNOWN)
    assert names(host)["passed"] == 1
    assert host.counted("refused") == {"engines": 0, "containers": 1, "host": 0}


def test_permitted_registry_is_reached_at_its_own_address_alone(
    host: Host, container: Container
) -> None:
    host.start_ramfw(ONLY_REGISTRIES)

    for family in ("-4", "-6"):
        assert container.curl(f"https://{HUB.name}/v2/", family).ok
        elsewhere = container.curl(f"https://{HUB.name}/v2/", family, *at_web(HUB.name, 443))
        assert elsewhere.refused, elsewhere
    assert names(host)["permitted"] == 2
    assert host.status()["entries"][0]["connections"] == 2


def test_what_this_host_sends_is_judged_alike(host: Host, container: Container) -> None:
    assert host.run("skopeo", "inspect", "--raw", "docker://ghcr.io/corp/app:1").ok
    host.start_ramfw(ONLY_REGISTRIES)

    refused = host.run("skopeo", "inspect", "--raw", "docker://ghcr.io/corp/app:1")

    assert not refused.ok
    assert "tls: access denied" in refused.output
    assert refusals(host)[0] == ("host", "ghcr.io", KNOWN)
    assert host.run("skopeo", "inspect", "--raw", "docker://docker.io/corp/app:1").ok
    assert host.curl(f"https://{WEB.name}/none").output.strip() != "", "it answers, with an error"
    assert names(host)["passed"] == 1
    assert container.curl(f"https://{WEB.name}/").ok


@pytest.mark.parametrize("address", WEB.addresses)
def test_database_is_reached_and_soon_left_alone(
    host: Host, container: Container, address: str
) -> None:
    """Its server speaks first, so the first that it says acknowledges nothing of the client's."""
    host.start_ramfw(ONLY_REGISTRIES)
    host.forget_flows()

    query = "select 1\n"
    queries: list[Step] = [("send", query), ("hear", len(query))] * LINES

    met = opens(container, address, POSTGRESQL, ("hear", 6), *queries)

    assert met == Met("hello\n" + query * LINES, "")
    assert host.marks_of_flows(f"dport={POSTGRESQL}") == {PASSED}
    counted = names(host)
    assert counted["passed"] == 1
    assert counted["openings"] < LINES, "the rest never left the kernel"
    assert counted["unread"] == 0


def test_server_that_never_speaks_is_reached_and_soon_left_alone(
    host: Host, container: Container
) -> None:
    """What it acknowledges, it has taken, though it says nothing."""
    host.start_ramfw(ONLY_REGISTRIES)
    host.forget_flows()
    line: tuple[Step, ...] = (("send", "a line\n"), ("taken", ""))

    met = opens(container, WEB.v4, SYSLOG, *line * LINES, ("end", ""), ("hear", 1))

    assert met == Met("", "")
    assert host.marks_of_flows(f"dport={SYSLOG}") == {PASSED}
    assert names(host)["passed"] == 1


@pytest.mark.parametrize("port", DATABASES)
@pytest.mark.parametrize("address", WEB.addresses)
def test_registry_in_plain_http_is_refused_on_any_port(
    host: Host, container: Container, address: str, port: int
) -> None:
    host.start_ramfw(ONLY_REGISTRIES)

    registry, site = (
        opens(container, address, port, ("hear", 6), ("send", get("some.example", path)), HEAR)
        for path in ("/v2/corp/app/tags/list", "/")
    )

    assert registry.heard.startswith(
        f"hello\n{FORBIDDEN}Access to some.example has been restricted"
    )
    assert site.heard.startswith("hello\nGET / HTTP/1.1")
    told = ("containers", "some.example", "it asks for a registry in plain HTTP")
    assert refusals(host) == [told]


def test_unknown_hosts_are_refused_where_the_policy_says_so(
    host: Host, container: Container
) -> None:
    host.start_ramfw(ONLY_REGISTRIES)
    assert container.curl(f"https://{WEB.name}/").ok

    assert host.reload(REFUSES_UNKNOWN).ok

    assert container.curl(f"https://{WEB.name}/").refused
    assert refusals(host)[0] == ("containers", WEB.name, "nothing is known about this host")
    assert says(container, WEB.v4, 443, hello(None)).refused
    assert container.curl(f"https://{HUB.name}/v2/").ok
    assert opens(container, WEB.v4, POSTGRESQL, ("hear", 6)).heard == "hello\n"


def test_audit_refuses_nothing_by_name_and_counts(host: Host, container: Container) -> None:
    host.start_ramfw(AUDIT)

    assert container.curl("https://ghcr.io/v2/").ok
    assert host.pull("ghcr.io/corp/app:1").ok

    audited = host.counted("audited")
    assert audited["containers"] == 1
    assert audited["engines"] > 0
    assert set(host.counted("refused").values()) == {0}
    assert ("containers", "ghcr.io", KNOWN) in refusals(host)


def test_audit_passes_all_without_the_daemon(host: Host, container: Container) -> None:
    host.start_ramfw(AUDIT)
    host.kill_ramfw()

    assert host.pull("docker.io/corp/app:1").ok
    assert host.pull("ghcr.io/corp/app:1").ok
    assert container.curl("https://ghcr.io/v2/").ok


def test_connection_of_before_is_read_from_where_it_is(host: Host, container: Container) -> None:
    """ramfw starts while it is open and silent: what it says then is its first bytes."""
    registry, site = (
        begins(container, GHCR.v4, 443, AWAIT, ("send", hello(name)), HEAR)
        for name in ("ghcr.io", WEB.name)
    )

    host.start_ramfw(ONLY_REGISTRIES)

    assert goes_on(registry).refused
    assert goes_on(site).is_tls
    assert names(host)["unseen"] == 2


def test_what_passed_unread_goes_on_and_is_told_of(host: Host, container: Container) -> None:
    """It opens while no daemon lives, and says more when one is back: in TLS, and in plain text."""
    host.start_ramfw(ONLY_REGISTRIES)
    host.kill_ramfw()
    tls = container.start(
        *(PYTHON, "-I", "-c", (PROGRAMS / "tls_client.py").read_text(), GHCR.v4, GHCR.name)
    )
    tls.wait_for("shaken hands")
    line: tuple[Step, ...] = (("send", "a line\n"), ("hear", 7))
    text = begins(container, WEB.v4, POSTGRESQL, ("hear", 6), *line, AWAIT, *line)
    unread = "nft list counter inet ramfw unread"
    wait_until(lambda: "packets 2 " in host.namespace.sh(unread), 5, "both pass unread")

    host.start_ramfw(ONLY_REGISTRIES)

    assert goes_on(text) == Met("hello\n" + "a line\n" * 2, "")
    tls.send(signal.SIGUSR1)
    tls.wait_for("HTTP/1.1 200 OK")
    (absence,) = names(host)["absences"]
    assert absence["connections"] == names(host)["unread"] == 2
    assert 0 < absence["until_ago"] < absence["since_ago"] < 60
    said = " ".join(host.ramfw("status").output.split())
    assert re.search(
        r"2 connections passed unread while no daemon was there \(for \d+ s until", said
    )
    assert container.curl(f"https://{GHCR.name}/v2/").refused, "a new one is read"


def test_dns_over_tls_is_refused_in_strict_and_left_alone_otherwise(
    host: Host, container: Container
) -> None:
    host.start_ramfw(policy(DOCKER_IO, host=OFF, containers=STRICT))
    assert opens(container, WEB.v4, 853, HEAR).error == "ConnectionRefusedError"

    assert host.reload(ONLY_REGISTRIES).ok

    assert opens(container, WEB.v4, 853, HEAR).heard
