"""Learning: audit mode lets pass and gathers, and what `suggest` prints is a policy that enforces.

Names are told by the DNS answers that the engine and the containers got.
"""

from __future__ import annotations

import json
from typing import Any

from tests.lab.addresses import ECR_MINE, GHCR, NEXUS
from tests.lab.host import Host
from tests.lab.policies import DOCKER_IO, policy
from tests.lab.space import wait_until

AUDIT = '[enforcement]\nmode = "audit"\n'


def suggested(host: Host) -> dict[str, Any]:
    """Each suggestion, by its lines."""
    said = host.ramfw("suggest", "--json")
    assert said.ok, said.output
    return {entry["lines"]: entry for entry in json.loads(said.output)["entries"]}


def test_what_audit_lets_pass_becomes_the_policy_that_permits_it(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO, more=AUDIT))
    container = host.container()
    assert host.pull("docker.io/corp/app:1").ok
    assert host.pull("ghcr.io/corp/app:1").ok
    assert host.pull(f"{ECR_MINE.name}/corp/app:1").ok
    assert container.curl(f"https://{NEXUS.name}/v2/").ok

    wait_until(lambda: len(suggested(host)) >= 3, 10, "all three are gathered")
    entries = suggested(host)

    ecr = '[[allow]]\nregistry = "ecr"\naccount = "123456789012"\nregion = "eu-west-1"'
    nexus = f'[[allow]]\nhost = "{NEXUS.name}"'
    assert set(entries) == {'[[allow]]\nregistry = "ghcr.io"', ecr, nexus}, (
        "Docker Hub is permitted"
    )
    assert entries[ecr]["scopes"] == ["engines"]
    assert entries[ecr]["who"] == ["uid 0"]
    assert entries[nexus]["scopes"] == ["containers"]
    assert all(entry["connections"] > 0 and not entry["doubt"] for entry in entries.values())

    printed = host.ramfw("suggest")
    assert host.reload(policy(DOCKER_IO) + printed.output).ok
    assert host.pull("ghcr.io/corp/app:1").ok
    assert host.pull(f"{ECR_MINE.name}/corp/app:1").ok
    assert container.curl(f"https://{NEXUS.name}/v2/").ok
    assert suggested(host) == {}, "what is permitted by now is not suggested again"


def test_the_suggested_policy_still_refuses_what_nobody_wanted(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO, more=AUDIT))
    assert host.pull(f"{ECR_MINE.name}/corp/app:1").ok
    wait_until(lambda: bool(suggested(host)), 10, "it is gathered")

    assert host.reload(policy(DOCKER_IO) + host.ramfw("suggest").output).ok

    assert host.pull(f"{ECR_MINE.name}/corp/app:1").ok
    assert host.pull("ghcr.io/corp/app:1").refused


def test_an_address_that_no_name_led_to_is_a_comment(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO, more=AUDIT))

    assert host.curl(f"https://{GHCR.v4}/v2/", as_engine=True).ok

    lines = f'[[allow]]\naddress = "{GHCR.v4}"'
    wait_until(lambda: lines in suggested(host), 10, "the address is gathered")
    assert "no name was seen for it" in suggested(host)[lines]["doubt"]
    printed = host.ramfw("suggest").output.splitlines()
    assert all(line.startswith("#") or not line for line in printed), printed


def test_only_root_is_told_what_others_asked_for(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO, more=AUDIT))

    assert host.ramfw("suggest").ok
    said = host.ramfw("suggest", as_nobody=True)

    assert not said.ok
    assert "only root may suggest: sudo ramfw suggest" in said.output


def test_enforcing_gathers_nothing_and_says_how(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO))

    assert host.pull("ghcr.io/corp/app:1").refused

    assert suggested(host) == {}
    assert 'Write mode = "audit"' in " ".join(host.ramfw("suggest").output.split())
