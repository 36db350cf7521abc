"""The catalogue that ships is sound, and what people write leads to the right registry."""

from __future__ import annotations

import dataclasses
from datetime import date

import pytest

from ramfw.core import fqdn
from ramfw.core.catalog import Catalog, load, shipped
from ramfw.core.catalog_parser import parse
from ramfw.core.catalog_report import example_entry
from ramfw.core.policy_parser import parse as parse_policy
from ramfw.core.registries import (
    HOST_FORM,
    Access,
    CatalogHost,
    Choice,
    Grade,
    Placeholder,
    Registry,
    Role,
    Use,
)
from tests.unit.core.catalogs import REGISTRY

REGISTRIES = tuple(shipped().registries.values())
HOSTS = [(registry, host) for registry in REGISTRIES for host in registry.hosts]
PERMITTED = [(registry, host) for registry, host in HOSTS if not host.why_not]
VENDOR_GRADE = {Grade.VENDOR, Grade.VENDOR_CODE, Grade.VENDOR_STAFF}

NAMED_BY_DOCKERS_PRODUCT = {
    "docker.io", "ecr", "public.ecr.aws", "ghcr.io", "gcr.io", "pkg.dev", "registry.gitlab.com",
    "gitlab-self-managed", "azurecr.io", "mcr.microsoft.com", "quay.io", "registry.redhat.io",
    "registry.access.redhat.com", "registry.k8s.io", "nexus", "artifactory", "harbor",
}  # fmt: skip


def registry(registry_id: str) -> Registry:
    found = shipped().get(registry_id)
    assert found is not None
    return found


def examples(one: Registry) -> dict[str, str]:
    return {placeholder.name: placeholder.example for placeholder in one.placeholders}


def name(one: tuple[Registry, CatalogHost]) -> str:
    return f"{one[0].id} {one[1].pattern}"


# -- what ships --------------------------------------------------------------------------------


def test_the_registries_that_people_name_are_there() -> None:
    assert set(shipped().registries) >= NAMED_BY_DOCKERS_PRODUCT


def test_docker_hub_has_the_hosts_of_a_pull() -> None:
    hosts = {host.pattern: host.role for host in shipped().hosts(registry("docker.io"), {})}
    assert hosts["registry-1.docker.io"] is Role.API
    assert hosts["auth.docker.io"] is Role.AUTH
    assert hosts["production.cloudfront.docker.com"] is Role.BLOBS
    assert "hub.docker.com" not in hosts
    assert "notary.docker.io" not in hosts


@pytest.mark.parametrize("one", HOSTS, ids=name)
def test_every_host_has_a_day_and_a_source_that_suits_its_grade(
    one: tuple[Registry, CatalogHost],
) -> None:
    _, host = one
    assert host.date >= date(2026, 1, 1)
    assert host.source.startswith("https://") or host.grade not in VENDOR_GRADE


@pytest.mark.parametrize("one", PERMITTED, ids=name)
def test_what_is_permitted_is_vendor_grade_or_says_why_it_is_there(
    one: tuple[Registry, CatalogHost],
) -> None:
    _, host = one
    assert host.grade in VENDOR_GRADE or host.on
    assert host.use in {Use.BOTH, Use.PULL, Use.PUSH}


@pytest.mark.parametrize("one", PERMITTED, ids=name)
def test_what_is_permitted_leaves_no_label_to_a_customers_choice(
    one: tuple[Registry, CatalogHost],
) -> None:
    """A wildcard is the operator's, below one tenant, or not there; nothing is a broad name."""
    owner, host = one
    filled = host.filled(examples(owner))
    assert fqdn.canonical_pattern(filled.pattern) == filled.pattern
    if filled.pattern.startswith("*."):
        assert filled.pattern in {
            "*.data.mcr.microsoft.com", "*.icr.io", "*.octocorp.ghe.com",
        }, "say here why no customer can choose a label below it"  # fmt: skip
    broad = shipped().broad_name(filled.pattern)
    assert broad is None or owner.danger, "whoever permits it is told of the danger"


@pytest.mark.parametrize("one", REGISTRIES, ids=lambda one: one.id)
def test_every_placeholder_is_filled_in_every_host(one: Registry) -> None:
    hosts = shipped().known_hosts(one, examples(one))
    assert not any("<" in host.pattern for host in hosts if not host.broad)
    required = {p.name: p.example for p in one.placeholders if not p.optional}
    assert one.refused or shipped().hosts(one, required), "something is permitted"


@pytest.mark.parametrize("one", REGISTRIES, ids=lambda one: one.id)
def test_the_example_of_every_registry_is_a_policy(one: Registry) -> None:
    if not one.refused:
        policy, _ = parse_policy(f"version = 1\n{example_entry(one)}", "", shipped())
        assert policy.entries[0].registry == one.id


@pytest.mark.parametrize(
    "placeholder",
    [p for one in REGISTRIES for p in one.placeholders],
    ids=lambda p: f"{p.name} {p.example}",
)
@pytest.mark.parametrize("text", ["*", "", ".", "a.b", "a/b", "x_y", "ä", "a\n", "-", "a b", "<a>"])
def test_no_placeholder_takes_a_wildcard_or_more_than_a_label(
    placeholder: Placeholder, text: str
) -> None:
    if placeholder.form == HOST_FORM and text in {"a.b", "ä"}:
        assert fqdn.canonical(placeholder.read(text))
        return
    with pytest.raises(ValueError, match=r"\w"):
        placeholder.read(text)


def test_no_two_broad_names_say_the_same() -> None:
    patterns = [broad.pattern for broad in shipped().broad_names]
    assert len(set(patterns)) == len(patterns)


# -- what people write -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("docker.io", "docker.io"),
        ("hub.docker.com", "docker.io"),
        ("index.docker.io", "docker.io"),
        ("docker.com", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("auth.docker.io", "docker.io"),
        ("Docker.IO ", "docker.io"),
        ("dokcer.io", "docker.io"),
        ("ghcr", "ghcr.io"),
        ("acr", "azurecr.io"),
        ("contoso.azurecr.io", "azurecr.io"),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", "ecr"),
        ("kuay.io", "quay.io"),
        ("gitlab", "registry.gitlab.com"),
        ("registry.corp.example", None),
    ],
)
def test_what_people_write_leads_to_the_nearest_registry(written: str, meant: str | None) -> None:
    assert shipped().nearest(written) == meant


def test_where_several_are_near_the_nearest_come_first() -> None:
    assert shipped().near("gchr.io")[:2] == ("gcr.io", "ghcr.io")


def test_only_the_exact_id_is_a_registry() -> None:
    assert shipped().get("hub.docker.com") is None
    assert shipped().get("DOCKER.IO") is None


def test_a_search_looks_at_ids_names_and_hosts() -> None:
    def found(word: str) -> set[str]:
        return {one.id for one in shipped().search(word)}

    assert "gcr.io" in found("google")
    assert "registry.k8s.io" in found("D39MQG4B1DX9Z1")
    assert found("no such thing") == set()


# -- whose a name is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "owner", "values"),
    [
        ("registry-1.docker.io", "docker.io", {}),
        ("ghcr.io", "ghcr.io", {}),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com",
            "ecr",
            {"account": "123456789012", "region": "eu-west-1"},
        ),
        (
            "123456789012.dkr-ecr.us-gov-west-1.on.aws",
            "ecr",
            {"account": "123456789012", "region": "us-gov-west-1"},
        ),
        (
            "123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn",
            "ecr-china",
            {"account": "123456789012", "region": "cn-north-1"},
        ),
        ("contoso.azurecr.io", "azurecr.io", {"tenant": "contoso"}),
        ("europe-west1-docker.pkg.dev", "pkg.dev", {"location": "europe-west1"}),
        ("us-docker.pkg.dev", "pkg.dev", {"location": "us"}),
        ("acme.jfrog.io", "jfrog.io", {"tenant": "acme"}),
        ("marketplace.gcr.io", "gcr.io", {}),
        ("mirror.gcr.io", "mirror.gcr.io", {}),
        ("de.icr.io", "icr.io", {}),
        ("containers.octocorp.ghe.com", "ghe.com", {"tenant": "octocorp"}),
        # No policy can permit these two; they are registries all the same.
        ("docker.scarf.sh", "docker.scarf.sh", {}),
        ("abc.eu.container-registry.ovh.net", "ovh", {}),
    ],
)
def test_the_registry_of_an_api_host_is_known_whoever_its_customer_is(
    host: str, owner: str, values: dict[str, str]
) -> None:
    known = shipped().identify(host)
    assert known is not None
    assert (known.registry.id, dict(known.values)) == (owner, values)
    assert shipped().registry_of(host) is known.registry


@pytest.mark.parametrize(
    "host",
    [
        "registry.corp.example",
        "auth.docker.io",
        "production.cloudfront.docker.com",
        "evil-ghcr.io",
        "ghcr.io.evil.example",
        "12345.dkr.ecr.eu-west-1.amazonaws.com",
        "a.123456789012.dkr.ecr.eu-west-1.amazonaws.com",
        "s3.amazonaws.com",
        "europe-west1-npm.pkg.dev",
        "com",
    ],
)
def test_what_is_no_api_host_has_no_registry(host: str) -> None:
    assert shipped().registry_of(host) is None


def test_hosts_for_layers_and_sign_in_have_their_owners_too() -> None:
    owners = {one.registry.id for one in shipped().owners("cdn01.quay.io")}
    assert owners >= {"quay.io", "registry.redhat.io", "registry.access.redhat.com"}
    (owner,) = shipped().owners("prod-eu-west-1-starport-layer-bucket.s3.eu-west-1.amazonaws.com")
    assert (owner.registry.id, owner.values) == ("ecr", {"region": "eu-west-1"})
    # A placeholder that is there twice has one value.
    assert not shipped().owners("prod-eu-west-1-starport-layer-bucket.s3.us-east-1.amazonaws.com")


# -- what an entry takes -----------------------------------------------------------------------


def taken(registry_id: str, choice: Choice | None = None, **values: str) -> dict[str, CatalogHost]:
    hosts = shipped().hosts(registry(registry_id), values, choice or Choice())
    return {host.pattern: host for host in hosts}


def test_an_optional_placeholder_brings_its_hosts() -> None:
    without = taken("azurecr.io", tenant="contoso")
    with_region = taken("azurecr.io", tenant="contoso", region="westeurope")
    assert set(without) == {"contoso.azurecr.io"}
    assert "contoso.westeurope.data.azurecr.io" in with_region


def test_access_to_pull_leaves_out_what_only_pushes_need() -> None:
    pull, both = taken("public.ecr.aws", Choice(access=Access.PULL)), taken("public.ecr.aws")
    assert set(both) - set(pull) == {
        "api.ecr-public.us-east-1.amazonaws.com",
        "ecr-public.us-east-1.amazonaws.com",
        "ecr-public.us-east-1.api.aws",
    }
    assert "public.ecr.aws" in pull


def test_include_and_exclude_change_single_hosts_and_nothing_brings_a_broad_one() -> None:
    choice = Choice(
        include=frozenset({"*.gcr.io", "storage.googleapis.com"}), exclude=frozenset({"eu.gcr.io"})
    )
    found = taken("gcr.io", choice)
    assert "*.gcr.io" in found
    assert "eu.gcr.io" not in found
    assert "storage.googleapis.com" not in found


def test_a_registry_that_hands_over_brings_the_other_ones_hosts() -> None:
    assert {"lscr.io", "ghcr.io", "pkg-containers.githubusercontent.com"} == set(taken("lscr.io"))


def test_a_registry_of_ones_own_has_the_ports_of_its_entry() -> None:
    choice = Choice(ports=(8082,))
    assert taken("nexus", choice, host="nexus.corp.example")["nexus.corp.example"].ports == (8082,)
    gitlab = taken("gitlab-self-managed", host="git.corp.example", auth_host="web.corp.example")
    assert gitlab["git.corp.example"].ports == (5050,)
    assert gitlab["web.corp.example"].ports == (443,)


# -- broad names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "known"),
    [
        ("*.amazonaws.com", "*.amazonaws.com"),
        ("*.eu-west-1.amazonaws.com", "*.amazonaws.com"),
        ("*.dkr.ecr.eu-west-1.amazonaws.com", "*.dkr.ecr.<region>.amazonaws.com"),
        ("s3.eu-west-1.amazonaws.com", "s3.<region>.amazonaws.com"),
        ("bucket.s3.eu-west-1.amazonaws.com", None),
        ("storage.googleapis.com", "storage.googleapis.com"),
        ("*.blob.core.windows.net", "*.blob.core.windows.net"),
        ("account.blob.core.windows.net", None),
        ("ttl.sh", "ttl.sh"),
        ("*.ghe.com", "*.ghe.com"),
        ("*.octocorp.ghe.com", None),
        ("*.data.mcr.microsoft.com", None),
    ],
)
def test_a_name_that_opens_more_than_is_meant_is_known(pattern: str, known: str | None) -> None:
    found = shipped().broad_name(pattern)
    assert (found.pattern if found else None) == known


# -- the values --------------------------------------------------------------------------------


def test_a_catalogue_is_frozen() -> None:
    catalog = load(REGISTRY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalog.registries["one.example"].hosts[0].pattern = "evil.example"  # type: ignore[misc]
    with pytest.raises(TypeError):
        catalog.registries["two"] = catalog.registries["one.example"]  # type: ignore[index]


def test_what_was_loaded_says_where_it_came_from() -> None:
    own = load(REGISTRY, "/etc/ramfw/catalog.toml")
    assert (own.edition, own.source) == ("1", "/etc/ramfw/catalog.toml")
    assert isinstance(shipped(), Catalog)
    assert shipped().source == "shipped"
    assert parse(REGISTRY).edition == "1"
