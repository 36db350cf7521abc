"""Which entry permits a name: exact names as they are, wildcards below themselves only."""

from __future__ import annotations

import pytest

from ramfw.core.catalog import shipped
from ramfw.core.policy_names import entry_for
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
