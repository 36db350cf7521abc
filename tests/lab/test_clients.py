"""What each real client prints when it is refused; docs/refusals.md has the same as a table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab.addresses import GHCR
from tests.lab.clients import CLIENTS, MESSAGE, PAGE, Client, policy_for
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.lab import Lab
from tests.lab.materials import Materials

SOON = 1.0


@pytest.fixture(scope="module", params=[False, True], ids=["nothing-installed", "with-ca"])
def refusing(
    module_lab: Lab, materials: Materials, request: pytest.FixtureRequest
) -> Iterator[tuple[Host, Container, bool]]:
    """A host that refuses ghcr.io, and a container on it."""
    host, with_ca = module_lab.host, bool(request.param)
    host.start_ramfw(policy_for(host, materials, with_ca=with_ca))
    host.start_explainer(with_signer=with_ca)
    yield host, host.container(command=("sleep", "600")), with_ca
    host.forget_ramfw()
    host.remove_containers()
    module_lab.internet.set_name(GHCR.name, *GHCR.addresses)


@pytest.mark.parametrize("family", ["v4", "v6"])
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name.strip("`"))
def test_the_client_says_why_within_a_second(
    client: Client, family: str, refusing: tuple[Host, Container, bool], module_lab: Lab
) -> None:
    host, container, with_ca = refusing
    module_lab.internet.set_name(GHCR.name, getattr(GHCR, family))
    module_lab.internet.reset_counts()
    refused = client.run(host, container)
    assert not refused.ok or "insecure" in client.name or "curl" in client.name
    assert (client.with_ca if with_ca else client.without_ca) in refused.output
    assert refused.seconds < SOON
    assert module_lab.internet.packets(GHCR) == 0


def test_the_page_has_each_client_and_the_message() -> None:
    page = PAGE.read_text()
    assert [client.name for client in CLIENTS if f"| {client.name}, " not in page] == []
    assert page.count(MESSAGE) >= len(CLIENTS)
