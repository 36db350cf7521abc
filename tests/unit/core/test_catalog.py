"""The catalogue that ships is sound, and one that is not is refused with the words that mend it."""

from __future__ import annotations

import dataclasses
import re
from datetime import date

import pytest

from ramfw.core import fqdn
from ramfw.core.catalog import Grade, load, shipped

HOST = """
[[registry.host]]
pattern = "registry.example"
role = "api"
needed = "pull"
source = "https://registry.example/docs"
date = 2026-01-01
grade = "vendor"
"""
REGISTRY = f'[[registry]]\nid = "one.example"\nname = "One"\naliases = ["one"]\n{HOST}'


def test_the_shipped_catalogue_has_the_hosts_of_a_pull() -> None:
    docker, github = shipped().get("docker.io"), shipped().get("ghcr.io")
    assert docker is not None
    assert github is not None
    assert {host.pattern for host in docker.hosts} >= {
        "registry-1.docker.io",
        "auth.docker.io",
        "production.cloudfront.docker.com",
        "production.cloudflare.docker.com",
    }
    assert [host.pattern for host in github.hosts] == [
        "ghcr.io",
        "pkg-containers.githubusercontent.com",
    ]
    assert {host.role for host in docker.hosts} == {"api", "auth", "blobs"}


def test_every_shipped_host_is_exact_sourced_and_dated() -> None:
    for registry in shipped().registries.values():
        for host in registry.hosts:
            assert fqdn.canonical(host.pattern) == host.pattern
            assert host.source.startswith("https://")
            assert host.date >= date(2026, 1, 1)
            assert host.ports == (443,)


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
        ("gchr.io", "ghcr.io"),
        ("ecr", None),
        ("registry.corp.example", None),
    ],
)
def test_what_people_write_leads_to_the_nearest_registry(written: str, meant: str | None) -> None:
    assert shipped().nearest(written) == meant


def test_only_the_exact_id_is_a_registry() -> None:
    assert shipped().get("hub.docker.com") is None
    assert shipped().get("DOCKER.IO") is None


def test_a_catalogue_is_frozen() -> None:
    catalog = load(REGISTRY)
    with pytest.raises(dataclasses.FrozenInstanceError):
        catalog.registries["one.example"].hosts[0].pattern = "evil.example"  # type: ignore[misc]
    with pytest.raises(TypeError):
        catalog.registries["two"] = catalog.registries["one.example"]  # type: ignore[index]


def test_a_host_has_all_that_was_written_and_443_by_default() -> None:
    (host,) = load(REGISTRY).registries["one.example"].hosts
    assert host.ports == (443,)
    assert host.grade is Grade.VENDOR
    assert host.date == date(2026, 1, 1)
    assert host.shared == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "at least one [[registry]]"),
        ("[", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        (REGISTRY + "\nextra = 1", "unknown key `extra`"),
        (f"other = 1\n{REGISTRY}", "unknown key `other`"),
        ('[[registry]]\nid = "one.example"\nname = "One"', "at least one [[host]]"),
        (REGISTRY + HOST, "has a host twice"),
        (REGISTRY + REGISTRY, "the catalogue has `one` twice"),
        (REGISTRY.replace("registry.example", "*.github.io", 1), "public suffix"),
        (REGISTRY.replace("registry.example", "Registry.example", 1), "as `registry.example`"),
        (REGISTRY.replace('"api"', '"web"'), "`role` must be one of api, auth, blobs"),
        (REGISTRY.replace('"vendor"', '"unverified"'), "`grade` must be one of"),
        (REGISTRY.replace("2026-01-01", '"2026"'), "`date` must be a date"),
        (REGISTRY.replace('"pull"', '" "'), "`needed` must be a text"),
        (REGISTRY.replace('"One"', "1"), "`name` must be a text"),
        (REGISTRY.replace('["one"]', '"one"'), "`aliases` must be a list"),
        (REGISTRY + "ports = []", "`ports` must be a list"),
        (REGISTRY + "ports = [443, 443]", "a port is there twice"),
        (REGISTRY + "ports = [[1]]", "a number from 1 to 65535"),
        (REGISTRY + "ports = [true]", "a number from 1 to 65535"),
    ],
)
def test_a_broken_catalogue_is_refused_whole(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        load(text)
