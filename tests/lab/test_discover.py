"""`ramfw discover` and `catalog verify`: a real registry that answers 401 and 307.

A registry as Docker Hub is one: its tokens come from a second host, its layers from a third.
"""

from __future__ import annotations

import json
from typing import Any

from tests.lab.addresses import HUB, HUB_AUTH, HUB_BLOBS, HUB_SITES, LOGS, NEXUS, Site
from tests.lab.host import Host
from tests.lab.internet import Service
from tests.lab.lab import Lab
from tests.lab.policies import DOCKER_IO, STRICT, policy

CA = ("--ca", "/etc/ssl/certs/ca-certificates.crt")


def facts(host: Host, *command: str, ok: bool = True) -> Any:  # noqa: ANN401
    said = host.ramfw(*command, *CA, "--json")
    assert said.ok is ok, said.output
    return json.loads(said.output)


def test_a_pull_is_followed_through_401_and_307_to_the_lines_of_a_policy(lab: Lab) -> None:
    blobs, tokens = lab.internet.blobs_given(), lab.internet.tokens_given()

    told = facts(lab.host, "discover", "docker.io/corp/app:1")

    assert [(host["host"], host["role"], host["state"]) for host in told["hosts"]] == [
        (HUB.name, "api", "permitted"),
        (HUB_AUTH.name, "auth", "permitted"),
        (HUB_BLOBS.name, "blobs", "permitted"),
    ]
    assert told["complete"]
    assert told["entry"] == '[[allow]]\nregistry = "docker.io"'
    assert told["doubtful"] == ""
    assert lab.internet.tokens_given() == tokens + 1
    # Its header was asked for; Python's file server knows no ranges, so it began to send.
    assert lab.internet.blobs_given() <= blobs + 1


def test_the_lines_that_are_printed_permit_the_pull(lab: Lab) -> None:
    told = facts(lab.host, "discover", "docker.io/corp/app:1")
    lab.host.start_ramfw(policy(told["entry"].removeprefix("[[allow]]\n")))

    assert lab.host.pull("docker.io/corp/app:1").ok
    assert lab.host.pull("ghcr.io/corp/app:1").refused


def test_a_large_layer_is_not_fetched(lab: Lab) -> None:
    """At ten bytes a second, four megabytes would take five days."""
    lab.internet.limit_downloads(10)

    told = facts(lab.host, "discover", "docker.io/library/slow:1")

    assert told["complete"]
    assert told["hosts"][-1]["host"] == HUB_BLOBS.name


def test_a_registry_that_the_catalogue_lacks_has_its_realm_in_a_comment(lab: Lab) -> None:
    """The same registry under the organization's own name: its realm could be anybody's."""
    mirror = Site(NEXUS.name, HUB.v4, HUB.v6)
    lab.internet.set_name(mirror.name, *mirror.addresses)
    try:
        told = facts(lab.host, "discover", f"{mirror.name}/corp/app:1")
    finally:
        lab.internet.set_name(NEXUS.name, *NEXUS.addresses)

    assert told["registry"] == ""
    assert told["entry"] == f'[[allow]]\nhost = "{mirror.name}"'
    assert f'# host = "{HUB_AUTH.name}"' in told["doubtful"]
    assert f'# host = "{HUB_BLOBS.name}"' in told["doubtful"]
    assert all(line.startswith("#") for line in told["doubtful"].splitlines())


def test_it_needs_no_root_and_is_filtered_like_anybody_on_this_host(lab: Lab) -> None:
    host = lab.host
    host.start_ramfw(policy(DOCKER_IO, host=STRICT))

    permitted = host.ramfw("discover", "docker.io/corp/app:1", *CA, as_nobody=True)
    refused = host.ramfw("discover", "ghcr.io/corp/app:1", *CA, as_nobody=True)

    assert permitted.ok, permitted.output
    assert "The catalogue has it as docker.io, with these hosts." in permitted.output
    assert not refused.ok
    assert "Connection refused" in refused.output


def test_a_host_that_is_no_registry_is_said(lab: Lab) -> None:
    lab.internet.serve(LOGS, {443: Service.BLOBS})
    told = facts(lab.host, "discover", f"{LOGS.name}:443", ok=False)
    assert not told["is_registry"]
    assert "is no registry" in told["stopped"]


def test_verify_finds_no_drift_and_finds_it_when_the_layers_move(lab: Lab) -> None:
    verify = ("catalog", "verify", "docker.io", "--image", "docker.io/corp/app:1")

    still = facts(lab.host, *verify)

    assert (still["drift"], still["complete"]) == ([], True)
    assert "production.cloudflare.docker.com" in still["not_met"]
    other = ("catalog", "verify", "ghcr.io", "--image", "docker.io/corp/app:1")
    moved = facts(lab.host, *other, ok=False)
    assert set(moved["drift"]) == {site.name for site in HUB_SITES}
