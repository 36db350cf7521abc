"""What each real client prints when it is refused; docs/refusals.md has the same as a table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.addresses import GHCR
from tests.lab.clients import (
    CLIENTS,
    PAGE,
    WGET,
    Client,
    Places,
    places,
    policy_for,
)
from tests.lab.engines import Engine, newer_on_host
from tests.lab.lab import Lab
from tests.lab.policies import DOCKER_IO, GHCR_IO, STRICT, policy
from tests.lab.refused import MESSAGE, SOON


@pytest.fixture(scope="module")
def newer(module_lab: Lab) -> Engine:
    """Debian 13's engine, on a host that has this machine's."""
    return newer_on_host(module_lab.host)


@pytest.fixture(scope="module", params=[False, True], ids=["nothing-installed", "with-ca"])
def refusing(
    module_lab: Lab, newer: Engine, request: pytest.FixtureRequest
) -> Iterator[tuple[Places, bool]]:
    """A host that refuses ghcr.io, and containers on it."""
    host, with_ca = module_lab.host, bool(request.param)
    host.start_ramfw(policy_for(host, with_ca=with_ca))
    host.start_explainer(with_signer=with_ca)
    with places(host, newer) as at:
        yield at, with_ca
    host.forget_ramfw()
    module_lab.internet.set_name(GHCR.name, *GHCR.addresses)


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.key)
def test_the_client_says_why_within_a_second(
    client: Client, family: str, refusing: tuple[Places, bool], module_lab: Lab
) -> None:
    at, with_ca = refusing
    module_lab.internet.set_name(GHCR.name, getattr(GHCR, family))
    module_lab.internet.reset_counts()
    refused = client.run(at)
    assert not refused.ok or "insecure" in client.name or "curl" in client.name
    assert (client.with_ca if with_ca else client.without_ca) in refused.output
    assert client.waited(refused) < SOON
    assert module_lab.internet.packets(GHCR) == 0


def test_the_page_has_each_client_and_the_message() -> None:
    page = PAGE.read_text()
    assert [client.name for client in CLIENTS if f"| {client.name}, " not in page] == []
    assert page.count(MESSAGE) >= len(CLIENTS)
    for where in ("`docker pull`", "`docker pull` in a container"):
        for version in ("20.10", "26."):
            assert f"| {where}, {version}" in page


@pytest.mark.parametrize("family", ["v4", "v6"])
def test_debian_13s_engine_names_a_bare_address_and_its_port(
    family: str, refusing: tuple[Places, bool], module_lab: Lab
) -> None:
    """With an authority too: it never signs for an address."""
    at, _ = refusing
    address = getattr(GHCR, family)
    host = {"v4": address, "v6": f"[{address}]"}[family]
    module_lab.internet.reset_counts()
    for engine in (at.newer, at.inner):
        refused = engine.pull(f"{host}/corp/app:1")
        assert not refused.ok
        assert MESSAGE.replace("ghcr.io", f"{address} port 443") in refused.output
        assert refused.seconds < SOON
    assert module_lab.internet.packets(GHCR) == 0


def test_once_it_is_permitted_each_of_these_engines_pulls_and_builds(
    refusing: tuple[Places, bool], module_lab: Lab
) -> None:
    at, with_ca = refusing
    # Another image than the others' one, which no engine is to have.
    image = "ghcr.io/library/app:1"
    module_lab.internet.set_name(GHCR.name, *GHCR.addresses)
    assert at.host.reload(policy(DOCKER_IO, GHCR_IO, host=STRICT)).ok
    for engine in (at.newer, at.inner, at.own_inner):
        for pulled in (engine.pull(image), engine.build(image), engine.ctr(image)):
            assert pulled.ok, pulled.output
    assert module_lab.internet.packets(GHCR, 443) > 0
    module_lab.internet.reset_counts()
    for engine in (at.inner, at.own_inner):
        # The registry does not like wget's TLS; but it is the registry that says so.
        assert MESSAGE not in engine.step(WGET).output
    assert module_lab.internet.packets(GHCR, 443) > 0
    assert at.host.reload(policy_for(at.host, with_ca=with_ca)).ok
