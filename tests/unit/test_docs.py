"""What the docs claim is held to the tests that show it, and their policies to the parser."""

import ast
import re
from pathlib import Path

import pytest

from ramfw.core import catalog, policy_parser
from ramfw.errors import PolicyError

ROOT = Path(__file__).parents[2]
RAM = (ROOT / "docs/docker-ram.md").read_text()
STATUSES = ("True today", "Partly", "Not yet", "Out of scope")


def lab_tests() -> set[str]:
    """Every test of the lab, as `tests/lab/test_pull.py::test_name`."""
    return {
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in (ROOT / "tests/lab").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }


def sections() -> dict[str, str]:
    """The claims of the page on Docker's RAM, by heading."""
    parts = re.split(r"^### (.+)\n", RAM, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_test_that_the_docs_name_exists() -> None:
    named = {
        name
        for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
        for name in re.findall(r"tests/\w+/\w+\.py::\w+", page.read_text())
    }
    assert named
    assert named - lab_tests() == set()


@pytest.mark.parametrize("heading", sections())
def test_a_claim_says_whether_it_is_true_and_what_shows_it(heading: str) -> None:
    text = sections()[heading]
    found = re.findall(r"^Status: \*\*(.+?)\*\*", text, flags=re.MULTILINE)
    assert len(found) == 1, "one status"
    assert found[0] in STATUSES
    if found[0] == "True today":
        assert re.search(r"^Shown by:\n\n- `tests/lab/", text, flags=re.MULTILINE), "and its test"


@pytest.mark.parametrize("page", ["README.md", "docs/policy.md"])
def test_a_policy_in_the_docs_is_a_good_one(page: str) -> None:
    policies = re.findall(r"```toml\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert policies
    for text in policies:
        policy, _warnings = policy_parser.parse(text, page, catalog.shipped())
        assert policy.entries


def test_the_policy_page_has_the_defaults_of_the_parser() -> None:
    page = (ROOT / "docs/policy.md").read_text()
    policy, _warnings = policy_parser.parse("version = 1", "", catalog.shipped())
    interfaces = ", ".join(f'"{name}"' for name in policy.containers.interfaces)
    assert f'| `mode` | `"{policy.mode}"` |' in page
    assert f"| `mark_mask` | `{policy.mark_mask:#010x}` |" in page
    assert f"| `interfaces` | `[{interfaces}]` |" in page
    for scope in ("engines", "containers", "host"):
        section = page.partition(f"### `[scopes.{scope}]`")[2].partition("\n#")[0]
        settings = getattr(policy, scope)
        assert f'| `mode` | `"{settings.mode}"` |' in section
        if scope != "engines":
            assert f"| `registry_ports` | `{list(settings.registry_ports)}` |" in section


def test_the_policy_page_has_every_key() -> None:
    page = (ROOT / "docs/policy.md").read_text()
    unknown = """
        unknown = 1
        [organization]
        unknown = 1
        [[allow]]
        unknown = 1
        [enforcement]
        unknown = 1
        [scopes.engines]
        unknown = 1
        [scopes.containers]
        unknown = 1
        [scopes.host]
        unknown = 1
        [dns]
        unknown = 1
        [catalog]
        unknown = 1
        [explainer]
        unknown = 1
    """
    with pytest.raises(PolicyError) as caught:
        policy_parser.parse(unknown, "", catalog.shipped())
    lists = [str(problem) for problem in caught.value.problems if "known are" in problem.message]
    keys = {key for text in lists for key in re.findall(r"`(\w+)`", text.partition("known are")[2])}
    assert {"registry", "mark_mask", "servers"} <= keys
    placeholders = catalog.shipped().placeholder_names - {"host"}
    tables = {
        "allow", "scopes", "organization", "enforcement", "dns", "catalog", "engines", "containers",
    }  # fmt: skip
    tables |= {"explainer"}
    for key in keys - placeholders - tables | {"registry", "version"}:
        assert f"| `{key}` |" in page or f"## `{key}`" in page, key
