"""`unknown = "probe"`: a host on which nothing is known is asked whether it is a registry."""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.addresses import NEXUS
from tests.lab.host import Host
from tests.lab.policies import DOCKER_IO, REGISTRIES, policy
from tests.lab.test_names import refusals

PROBE = f'{REGISTRIES}\nunknown = "probe"'
ASKS = policy(DOCKER_IO, containers=PROBE, host=PROBE)
UNKNOWN = NEXUS
"""A registry that the catalogue does not have."""
FOUND = "it was asked, and is a registry that is not permitted"


def probe(host: Host) -> dict[str, Any]:
    told: dict[str, Any] = host.status()["names"]["probe"]
    return told


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_registry_is_found_from_a_container(host: Host, family: str) -> None:
    container = host.container()
    url = f"https://{UNKNOWN.name}/v2/"
    assert container.curl(url, family).ok, "while nothing filters"
    host.start_prober()
    host.start_ramfw(ASKS)

    first = container.curl(url, family)
    second = container.curl(url, family)

    assert first.refused, first
    assert second.refused, second
    assert refusals(host)[0] == ("containers", UNKNOWN.name, FOUND)
