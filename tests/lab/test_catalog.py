"""A registry is named, and its hosts come with it: placeholders, an organization's catalogue."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.addresses import ECR_MINE, ECR_THEIRS, NEXUS
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import DOCKER_IO, policy

ECR = 'registry = "ecr"\naccount = "123456789012"\nregion = "eu-west-1"'
MINE, THEIRS = f"{ECR_MINE.name}/corp/app:1", f"{ECR_THEIRS.name}/corp/app:1"
OWN = f"""
version = 1
edition = "corp-7"

[[registry]]
id = "corp"
name = "Example Corp"

[[registry.host]]
pattern = "{NEXUS.name}"
ports = [8443]
role = "api"
use = "pull and push"
source = "https://it.example.com/registries"
date = 2026-01-01
grade = "vendor"
"""


def facts(host: Host, *command: str) -> Any:  # noqa: ANN401
    return json.loads(host.ramfw(*command, "--json").output)


def own_catalog(host: Host, text: str) -> str:
    """The lines of a policy that name a catalogue with this text."""
    path = host.namespace.root / "etc" / "ramfw" / "catalog.toml"
    path.write_text(text)
    return '[catalog]\nfile = "/etc/ramfw/catalog.toml"\n'


def test_one_account_of_a_cloud_is_permitted_and_another_is_refused(
    host: Host, internet: Internet
) -> None:
    assert host.pull(MINE).ok
    assert host.pull(THEIRS).ok, "the way is open while nothing filters"
    host.start_ramfw(policy(ECR))
    internet.reset_counts()

    mine, theirs = host.pull(MINE), host.pull(THEIRS)

    assert mine.ok, mine.output
    assert theirs.refused, theirs.output
    assert internet.packets(ECR_THEIRS) == 0
    explained = facts(host, "explain", THEIRS)
    assert not explained["permitted"]
    assert host.reload(policy(explained["hint"].removeprefix("[[allow]]\n"))).ok
    assert host.pull(THEIRS).ok, "the lines that explain prints permit it"
    assert host.pull(MINE).refused


def test_an_organizations_catalogue_has_its_own_registries(host: Host) -> None:
    host.start_ramfw(policy('registry = "corp"', more=own_catalog(host, OWN)))

    assert host.pull(f"{NEXUS.name}:8443/corp/app:1").ok
    assert host.pull("ghcr.io/corp/app:1").refused
    assert host.status()["catalog"] == {
        "edition": "corp-7",
        "source": "/etc/ramfw/catalog.toml",
        "problem": "",
    }


def test_a_broken_catalogue_leaves_the_shipped_one_in_force_and_is_told(host: Host) -> None:
    host.start_ramfw(policy(DOCKER_IO, more=own_catalog(host, OWN + "nonsense = 1\n")))

    assert host.pull("docker.io/corp/app:1").ok
    assert host.pull("ghcr.io/corp/app:1").refused
    status = host.status()
    assert status["catalog"]["source"] == "shipped"
    assert "unknown key `nonsense`" in status["catalog"]["problem"]
    assert any("catalogue cannot be used" in one["what"] for one in status["problems"])
    warnings = facts(host, "check")["warnings"]
    assert any("the catalogue that ramfw ships stays in force" in w["message"] for w in warnings)


def test_a_policy_that_the_changed_catalogue_cannot_read_changes_nothing(host: Host) -> None:
    """Somebody breaks the file while it is in force: on reload the last good policy stays."""
    text = policy('registry = "corp"', more=own_catalog(host, OWN))
    host.start_ramfw(text)
    own_catalog(host, "broken")

    assert not host.reload(text).ok

    assert host.pull(f"{NEXUS.name}:8443/corp/app:1").ok
    assert host.pull("ghcr.io/corp/app:1").refused
    assert any(
        "`corp` is not in the catalogue" in line for line in host.status()["policy_problems"]
    )
