"""The README names files, targets and modules: they must be there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_every_file_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`((?:ramfw|tests|docs|systemd)/[\w/.-]+)`", README))
    named |= set(re.findall(r"\]\(([\w/.-]+)\)", README))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_module_map_has_every_module() -> None:
    modules = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "ramfw").rglob("*.py")
        if path.name != "__init__.py"
    }
    missing = sorted(name for name in modules if f"| `{name}` |" not in README)
    assert missing == [], "give each a line in the README's module map"


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for command in re.findall(r"(?:^ {4}|`)make ([a-z][a-z -]*)", README, re.MULTILINE)
        for word in command.split()
    }
    assert {"demo", "test", "venv"} <= named
    assert named - targets == set()
