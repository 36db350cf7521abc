"""Which entry permits a name: exact names as they are, wildcards below themselves only."""

from __future__ import annotations

import pytest

from ramfw.core.catalog import shipped
from ramfw.core.policy_names import entry_for, is_refused
from ramfw.core.policy_parser import parse

POLICY = parse(
    """\
version = 1
[[allow]]
registry = "docker.io"
[[allow]]
host = "*.pkg.dev"
scopes = ["host"]
[[allow]]
proxy = "proxy.corp.example"
""",
    "policy.toml",
    shipped(),
)[0]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("registry-1.docker.io", "docker.io"),
        ("a.b.pkg.dev", "*.pkg.dev"),
        ("proxy.corp.example", "proxy.corp.example:3128"),
        ("pkg.dev", ""),
        ("notpkg.dev", ""),
        ("ghcr.io", ""),
        ("registry-1.docker.io.evil.example", ""),
    ],
)
def test_an_entry_covers_its_names_and_no_others(name: str, label: str) -> None:
    entry = entry_for(POLICY, name)
    assert (entry.label if entry else "") == label


@pytest.mark.parametrize(
    ("scopes", "registry", "other"),
    [
        ("", True, True),  # engines are strict by default
        ('[scopes.engines]\nmode = "off"', True, False),
        ('[scopes.engines]\nmode = "off"\n[scopes.host]\nunknown = "refuse"', True, True),
        ('[scopes.engines]\nmode = "off"\n[scopes.host]\nunknown = "probe"', True, False),
        ('[scopes.engines]\nmode = "off"\n[scopes.host]\nmode = "strict"', True, True),
        ('[enforcement]\nmode = "audit"', False, False),
    ],
)
def test_what_a_scope_refuses_of_names_that_no_entry_permits(
    scopes: str,
    registry: bool,  # noqa: FBT001
    other: bool,  # noqa: FBT001
) -> None:
    text = f'version = 1\n[[allow]]\nregistry = "docker.io"\n{scopes}\n'
    policy, _ = parse(text, "policy.toml", shipped())
    assert is_refused(policy, "ghcr.io", is_registry=True) == registry
    assert is_refused(policy, "bank.example", is_registry=False) == other
    assert not is_refused(policy, "registry-1.docker.io", is_registry=True)
