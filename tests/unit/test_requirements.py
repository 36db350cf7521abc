"""The locked requirements fit together: what is tested is what is installed."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def locked(name: str) -> dict[str, set[str]]:
    """Each pinned requirement of a lock file with its hashes."""
    pins: dict[str, set[str]] = {}
    hashes: set[str] = set()
    for line in (ROOT / name).read_text().splitlines():
        if pin := re.match(r"[a-z0-9-]+==[^ ]+", line):
            hashes = pins.setdefault(pin[0], set())
        hashes.update(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line))
    return pins


def wanted(name: str) -> set[str]:
    """The names in an .in file."""
    lines = (ROOT / name).read_text().splitlines()
    return {line for line in lines if re.match(r"[a-z]", line)}


def test_every_pin_has_hashes() -> None:
    pins = locked("requirements-dev.txt")
    assert len(pins) > len(wanted("requirements-dev.in"))
    assert [pin for pin, hashes in pins.items() if not hashes] == []


def test_tests_run_with_the_versions_that_are_installed() -> None:
    development = locked("requirements-dev.txt")
    for name in ("requirements.txt", "requirements-build.txt"):
        installed = locked(name)
        assert installed
        assert {pin: development.get(pin) for pin in installed} == installed, name


def test_the_project_and_its_lock_name_the_same_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project["dependencies"]) == wanted("requirements.in")
    pinned = {pin.partition("==")[0] for pin in locked("requirements.txt")}
    assert wanted("requirements.in") <= pinned


def test_no_lock_file_names_an_index() -> None:
    for name in ("requirements.txt", "requirements-build.txt", "requirements-dev.txt"):
        assert "://" not in (ROOT / name).read_text()
