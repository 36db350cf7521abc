"""A catalogue is read whole or not at all, with the words that mend it."""

from __future__ import annotations

import re
from datetime import date

import pytest

from ramfw.core.catalog_parser import parse
from ramfw.core.registries import Grade, Role, Use
from tests.unit.core.catalogs import ENTRY, HEAD, HOST, PLACEHOLDER, REGISTRY

TEMPLATE = REGISTRY.replace(HOST, PLACEHOLDER + HOST).replace(
    '"registry.example"', '"<tenant>.registry.example"'
)
BROAD = (
    '\n[[broad]]\npattern = "*.example.com"\ndanger = "is everybody\'s"\ninstead = "a.example"\n'
)


def test_a_host_has_all_that_was_written_and_443_by_default() -> None:
    (registry,) = parse(REGISTRY).registries
    (host,) = registry.hosts
    assert host.ports == (443,)
    assert host.roles == (Role.API,)
    assert host.use is Use.BOTH
    assert host.grade is Grade.VENDOR
    assert host.date == date(2026, 1, 1)
    assert host.needed == "pull and push"
    assert host.why_not == ""


def test_several_hosts_can_be_told_of_at_once() -> None:
    text = REGISTRY.replace('pattern = "registry.example"', 'patterns = ["a.example", "b.example"]')
    (registry,) = parse(text).registries
    assert [host.pattern for host in registry.hosts] == ["a.example", "b.example"]


def test_a_template_has_the_placeholders_it_declares() -> None:
    (registry,) = parse(TEMPLATE).registries
    assert registry.hosts[0].placeholders == ("tenant",)
    assert registry.filled({"tenant": "acme"})[0].pattern == "acme.registry.example"
    assert registry.filled({}) == ()


def test_a_broad_name_is_read() -> None:
    (broad,) = parse(REGISTRY + BROAD).broad_names
    assert (broad.pattern, broad.below) == ("*.example.com", False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must begin with `version = 1`"),
        ("version = 2", "must begin with `version = 1`"),
        ("version = true", "must begin with `version = 1`"),
        ("version = 1", "at least one [[registry]]"),
        (f"version = 1\n{ENTRY}", "`edition` must be a text"),
        ("[", "not valid TOML"),
        ("a = " + "[" * 5000, "not valid TOML"),
        (REGISTRY + "\nextra = 1", "unknown key `extra`"),
        (f"other = 1\n{REGISTRY}", "unknown key `other`"),
        (f'{HEAD}[[registry]]\nid = "one.example"\nname = "One"', "at least one [[host]]"),
        (REGISTRY + HOST, "has a host twice"),
        (REGISTRY + ENTRY, "the catalogue has `one` twice"),
        (
            REGISTRY + ENTRY.replace("one", "two"),
            "`registry.example` is the api of two registries",
        ),
        (REGISTRY.replace('"one.example"', '"One Example"'), "an id is lower-case letters"),
        (REGISTRY.replace("registry.example", "*.github.io", 1), "public suffix"),
        (REGISTRY.replace("registry.example", "*.*.example", 1), "only the first label"),
        (REGISTRY.replace("registry.example", "Registry.example", 1), "as `registry.example`"),
        (
            REGISTRY.replace("registry.example", "a.<Tenant>.example", 1),
            "a placeholder is `<name>`",
        ),
        (
            REGISTRY.replace("registry.example", "<tenant>.example.com", 1),
            "the placeholder `tenant` must be declared",
        ),
        (TEMPLATE.replace("<tenant>.", ""), "the placeholder `tenant` must be declared, and used"),
        (TEMPLATE.replace("<tenant>.registry.example", "registry.<tenant>"), "must be fixed"),
        (TEMPLATE.replace('"[a-z]+"', '"["'), "unterminated character set"),
        (TEMPLATE.replace('"[a-z]+"', '"[0-9]+"'), "`acme` is not the tenant"),
        (TEMPLATE.replace('"[a-z]+"', '".*"').replace("acme", "a.b"), "is not the tenant"),
        (TEMPLATE.replace('"acme"', '"Acme"'), "write the example as `acme`"),
        (TEMPLATE.replace('"[a-z]+"', '"host"'), "the whole pattern"),
        (TEMPLATE.replace("placeholder.tenant", "placeholder.scopes"), "a key of every entry"),
        (TEMPLATE.replace("means =", "optional = 1\nmeans ="), "`optional` must be true or false"),
        (REGISTRY.replace('"api"', '"registry"'), "`role` must be one of api, auth, blobs"),
        (REGISTRY.replace('role = "api"', "role = []"), "`role` must be one of api"),
        (REGISTRY.replace('"pull and push"', '"pulling"'), "`use` must be one of pull and push"),
        (REGISTRY.replace('"vendor"', '"rumour"'), "`grade` must be one of"),
        (REGISTRY.replace('"vendor"', '"unverified"'), "an unverified host is `off`"),
        (REGISTRY.replace('"vendor"', '"observed"'), "says in `on` why it is not"),
        (REGISTRY + 'off = "why"\non = "why"', "`on` is for a host that is permitted"),
        (REGISTRY + 'broad = "why"', "`broad` goes with `instead`"),
        (REGISTRY.replace('source = "https://registry.example/docs"\n', ""), "needs its `source`"),
        (REGISTRY.replace("https://", "http://"), "an https address"),
        (REGISTRY.replace("2026-01-01", '"2026"'), "`date` must be a date"),
        (REGISTRY.replace('"One"', "1"), "`name` must be a text"),
        (REGISTRY.replace('"One"', '"One\\u001b[2J"'), "`name` must be a text of one line"),
        (REGISTRY.replace('["one"]', '"one"'), "`aliases` must be a list"),
        (REGISTRY.replace("aliases =", "needs ="), "needs `one`, which must be an entry"),
        (REGISTRY + "ports = []", "`ports` must be a list"),
        (REGISTRY + 'ports = "entry"', "where the registry has `ports`"),
        (REGISTRY + "ports = [443, 443]", "a port is there twice"),
        (REGISTRY + "ports = [[1]]", "a number from 1 to 65535"),
        (REGISTRY + "ports = [true]", "a number from 1 to 65535"),
        (REGISTRY + 'patterns = ["a.example"]', "either `pattern` or `patterns`"),
        (REGISTRY + BROAD + "below = 1", "`below` must be true or false"),
        (REGISTRY + BROAD + "extra = 1", "unknown key `extra`"),
    ],
)
def test_a_broken_catalogue_is_refused_whole(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        parse(text)
