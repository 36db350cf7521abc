"""What a pull met becomes lines of a policy: what the catalogue has, and comments for the rest."""

from __future__ import annotations

from typing import Any

from ramfw.core.catalog import Known, shipped
from ramfw.core.discovery import Met, Pull, Step, discovered, drift, registry_host
from ramfw.core.policy_parser import parse as parse_policy
from ramfw.core.reference import parse


def pull(*met: Met, stopped: str = "") -> Pull:
    return Pull(list(met), stopped, is_registry=True)


def told(host: str, *met: Met, **kwargs: str) -> dict[str, Any]:
    asked = Met(host, 443, Step.ASKED, "203.0.113.1")
    return discovered(f"{host}/x:1", pull(asked, *met, **kwargs), host, shipped())


def layer(host: str, port: int = 443) -> Met:
    return Met(host, port, Step.BLOB, "203.0.113.2")


def realm(host: str) -> Met:
    return Met(host, 443, Step.REALM, "203.0.113.3")


def test_the_host_behind_an_images_name() -> None:
    def host(image: str) -> str:
        return registry_host(parse(image), shipped())

    assert host("alpine") == "registry-1.docker.io"
    assert host("docker.io/org/x") == "registry-1.docker.io"
    assert host("ghcr.io/org/x") == "ghcr.io"
    assert host("quay.io") == "quay.io"
    assert host("nexus.corp.example:8443/x") == "nexus.corp.example"
    assert host("contoso.azurecr.io/x") == "contoso.azurecr.io"


def test_a_registry_of_the_catalogue_is_its_entry_and_no_more() -> None:
    facts = told(
        "registry-1.docker.io", realm("auth.docker.io"), layer("production.cloudfront.docker.com")
    )
    assert facts["registry"] == "docker.io"
    assert {host["state"] for host in facts["hosts"]} == {"permitted"}
    assert facts["entry"] == '[[allow]]\nregistry = "docker.io"'
    assert facts["doubtful"] == ""


def test_what_the_catalogue_has_switched_off_is_included_by_its_pattern() -> None:
    facts = told("quay.io", layer("cdn77.quay.io"))
    assert [host["state"] for host in facts["hosts"]] == ["permitted", "off"]
    assert facts["entry"] == '[[allow]]\nregistry = "quay.io"\ninclude = ["*.quay.io"]'
    parse_policy(f"version = 1\n{facts['entry']}", "", shipped())


def test_a_realm_that_the_catalogue_does_not_have_is_never_added_by_itself() -> None:
    facts = told("quay.io", realm("evil.example"), layer("cdn.quay.io"))
    assert "evil.example" not in facts["entry"]
    lines = facts["doubtful"].splitlines()
    assert lines == [
        "# the registry named as the realm of its 401",
        "# [[allow]]",
        '# host = "evil.example"',
    ]


def test_a_registry_of_ones_own_is_one_host_and_the_rest_is_for_a_person() -> None:
    facts = discovered(
        "nexus.corp.example:8443/x",
        pull(
            Met("nexus.corp.example", 8443, Step.ASKED, "192.0.2.1"),
            realm("storage.googleapis.com"),
            layer("nexus.corp.example", 8443),
        ),
        "nexus.corp.example",
        shipped(),
    )
    assert facts["registry"] == ""
    assert facts["entry"] == '[[allow]]\nhost = "nexus.corp.example"\nports = [8443]'
    assert "every bucket of Google Cloud Storage" in facts["doubtful"]
    assert all(line.startswith("#") for line in facts["doubtful"].splitlines())
    policy, _ = parse_policy(f"version = 1\n{facts['entry']}\n{facts['doubtful']}", "", shipped())
    assert len(policy.entries) == 1


def test_a_host_that_a_key_of_the_entry_would_bring_is_that_key_in_a_comment() -> None:
    azure = told("contoso.azurecr.io", layer("contoso.westeurope.data.azurecr.io"))
    assert azure["entry"] == '[[allow]]\nregistry = "azurecr.io"\ntenant = "contoso"'
    assert '# region = "westeurope"' in azure["doubtful"]
    jfrog = told("acme.jfrog.io", layer("d111111abcdef8.cloudfront.net"))
    assert '# distribution = "d111111abcdef8"' in jfrog["doubtful"]
    other = told("contoso.azurecr.io", layer("evil.westeurope.data.azurecr.io"))
    assert 'host = "evil.westeurope.data.azurecr.io"' in other["doubtful"]


def test_an_address_that_was_not_asked_is_said() -> None:
    metadata = Met("metadata.example", 443, Step.REALM, problem="it is 169.254.169.254")
    facts = told("quay.io", metadata, stopped="it is 169.254.169.254")
    assert not facts["complete"]
    assert "it is 169.254.169.254" in facts["doubtful"]


def test_a_registry_by_address_is_an_entry_by_address() -> None:
    met = pull(Met("192.0.2.1", 5000, Step.ASKED, "192.0.2.1"))
    facts = discovered("192.0.2.1:5000/x", met, "192.0.2.1", shipped())
    assert facts["entry"] == '[[allow]]\naddress = "192.0.2.1"\nports = [5000]'


def test_what_is_no_registry_has_no_lines() -> None:
    facts = discovered("www.example", Pull(stopped="no answer"), "www.example", shipped())
    assert (facts["entry"], facts["doubtful"], facts["hosts"]) == ("", "", [])


def test_drift_is_a_host_that_the_entry_lacks_and_one_not_met_is_no_news() -> None:
    registry = shipped().get("quay.io")
    assert registry is not None
    known = Known(registry, registry.hosts[0], {})
    met = (Met("quay.io", 443, Step.ASKED), layer("cdn03.quay.io"), layer("cdn77.quay.io"))
    facts = drift("quay.io/x:1", pull(*met), known, shipped())
    assert facts["drift"] == ["cdn77.quay.io"]
    assert "cdn01.quay.io" in facts["not_met"]
    assert "cdn03.quay.io" not in facts["not_met"]
