"""A policy is read only from a file that nobody but root could have written."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ramfw import policyfile
from ramfw.core.catalog import shipped
from ramfw.errors import PolicyError, Problem
from tests.unit.core.catalogs import REGISTRY

POLICY = 'version = 1\n\n[[allow]]\nhost = "nexus.corp.example"\n'
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    path.chmod(0o644)
    return path


def problems(path: Path) -> tuple[Problem, ...]:
    with pytest.raises(PolicyError) as refused:
        policyfile.read(path)
    return refused.value.problems


def test_a_file_of_the_right_kind_is_read_with_its_warnings(path: Path) -> None:
    path.write_text(POLICY + '[[allow]]\nproxy = "proxy.corp.example"\n')

    policy, warnings = policyfile.read(path)

    assert [entry.label for entry in policy.entries] == [
        "nexus.corp.example",
        "proxy.corp.example:3128",
    ]
    assert policy.source == str(path)
    assert [(w.source, w.line) for w in warnings] == [(str(path), 6)]


def test_a_missing_file_comes_with_the_command_that_makes_a_first_one(tmp_path: Path) -> None:
    """The command is run as it stands, and what it makes is a policy."""
    path = tmp_path / "a new place" / "policy.toml"

    (problem,) = problems(path)
    assert "no such file" in problem.message
    assert problem.line == 0
    assert shlex.quote(str(path)) in problem.hint

    command = problem.hint.replace("sudo ", "")
    subprocess.run(["sh", "-c", command], check=True)
    policy, _ = policyfile.read(path)
    assert [entry.label for entry in policy.entries] == ["docker.io"]


def test_a_directory_is_not_a_policy(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path)
    assert "is a directory" in problem.message
    assert str(tmp_path / "policy.toml") in problem.hint


@pytest.mark.timeout(10)
def test_a_fifo_is_refused_at_once_and_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    fifo = tmp_path / "policy.toml"
    os.mkfifo(fifo, 0o644)
    (problem,) = problems(fifo)
    assert "not a regular file" in problem.message


def test_a_device_is_not_a_policy() -> None:
    (problem,) = problems(Path("/dev/null"))
    assert "not a regular file" in problem.message


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (Path("/dev/null/policy.toml"), "Not a directory"),
        (Path("/" + "x" * 300), "File name too long"),
        (Path("/etc/a\0b"), "null"),
    ],
)
def test_a_path_that_cannot_be_opened_is_a_problem(path: Path, words: str) -> None:
    (problem,) = problems(path)
    assert words in problem.message


def test_a_link_to_itself_is_a_problem(tmp_path: Path) -> None:
    loop = tmp_path / "policy.toml"
    loop.symlink_to(loop)
    (problem,) = problems(loop)
    assert "symbolic links" in problem.message


@pytest.mark.parametrize(
    ("mode", "who"),
    [(0o664, "its group"), (0o646, "others"), (0o666, "others"), (0o602, "others")],
)
def test_a_file_that_others_may_write_is_refused(path: Path, mode: int, who: str) -> None:
    path.chmod(mode)
    (problem,) = problems(path)
    assert f"is writable by {who}" in problem.message
    assert problem.hint == f"chmod go-w {path}"


@needs_root
def test_root_refuses_a_file_of_somebody_else(path: Path) -> None:
    os.chown(path, NOBODY, -1)
    (problem,) = problems(path)
    assert "is owned by" in problem.message
    assert "65534" in problem.message
    assert problem.hint == f"chown root: {path}"


@needs_root
def test_a_user_may_check_a_draft_of_their_own_and_of_root(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert policyfile.read(path)[0].entries

    os.chown(path, NOBODY, -1)
    assert policyfile.read(path)[0].entries

    os.chown(path, NOBODY - 1, -1)
    assert "is owned by uid 65533" in problems(path)[0].message


def test_a_directory_that_others_may_write_is_refused_unless_sticky(path: Path) -> None:
    path.parent.chmod(0o777)
    (problem,) = problems(path)
    assert f"is in {path.parent}, where others may put another file" in problem.message
    assert problem.hint == f"chmod o-w {path.parent}"

    path.parent.chmod(0o1777)
    assert policyfile.read(path)[0].entries


def test_the_directories_on_both_sides_of_a_link_are_judged(path: Path, tmp_path: Path) -> None:
    """A link is followed, but neither it nor what it leads to may be anybody's to exchange."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(0o755)
    link = elsewhere / "policy.toml"
    link.symlink_to(path)
    assert policyfile.read(link)[0].entries

    elsewhere.chmod(0o777)
    assert [str(elsewhere) in p.message for p in problems(link)] == [True]

    elsewhere.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    path.rename(home / "policy.toml")
    link.unlink()
    link.symlink_to(home / "policy.toml")
    home.chmod(0o777)
    assert [str(home) in p.message for p in problems(link)] == [True]


def test_a_file_over_one_mebibyte_is_refused(path: Path) -> None:
    padding = policyfile.MAX_BYTES - len(POLICY)
    path.write_text(POLICY + "#" * padding)
    assert policyfile.read(path)[0].entries

    path.write_text(POLICY + "#" * (10 << 20))
    (problem,) = problems(path)
    assert f"has {len(POLICY) + (10 << 20)} bytes" in problem.message


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"version = 1\nx = '\xff'\n", 2, "is not UTF-8 at byte 17 (0xff)"),
        (b"version = 1\n\nx = 'caf\xe9'\n", 3, "is not UTF-8 at byte 21 (0xe9)"),
        (b"version = 1\n# a\0b\n", 2, "has a NUL at byte 15 (0x00)"),
        (POLICY.encode("utf-16-le"), 1, "has a NUL at byte 1"),
        (POLICY.encode("utf-16"), 1, "is not UTF-8 at byte 0"),
        (POLICY.encode("utf-8-sig"), 1, "begins with a byte order mark"),
    ],
)
def test_what_is_no_plain_utf8_is_refused_where_it_is(
    path: Path, content: bytes, line: int, words: str
) -> None:
    path.write_bytes(content)
    (problem,) = problems(path)
    assert problem.line == line
    assert words in problem.message


def test_the_hint_takes_a_byte_order_mark_away(path: Path) -> None:
    path.write_bytes(POLICY.encode("utf-8-sig"))
    subprocess.run(["sh", "-c", problems(path)[0].hint], check=True)
    assert path.read_text() == POLICY


def test_an_empty_file_says_how_a_policy_begins(path: Path) -> None:
    path.write_text("")
    (problem,) = problems(path)
    assert "a policy begins with `version = 1`" in problem.message


def test_what_is_wrong_with_the_file_and_in_it_is_said_together(path: Path) -> None:
    path.write_text("version = 1\n[organisation]\n")
    path.chmod(0o666)
    path.parent.chmod(0o777)
    assert [problem.line for problem in problems(path)] == [0, 0, 2]


# -- the organization's catalogue --------------------------------------------------------------


@pytest.fixture
def own(path: Path) -> Path:
    """A catalogue of the organization's, which its policy names."""
    own = path.with_name("catalog.toml")
    own.write_text(REGISTRY)
    own.chmod(0o644)
    path.write_text(f'{POLICY}[[allow]]\nregistry = "one.example"\n[catalog]\nfile = "{own}"\n')
    return own


def test_a_policy_is_read_by_the_catalogue_that_it_names(path: Path, own: Path) -> None:
    policy, warnings = policyfile.read(path)

    assert [entry.label for entry in policy.entries][1] == "one.example"
    assert (policy.catalog.source, policy.catalog.problem) == (str(own), "")
    assert not any(warning.key == "catalog.file" for warning in warnings)
    assert policyfile.catalog_of(path).source == str(own)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda own: own.write_text("nonsense"), "not valid TOML"),
        (lambda own: own.write_text(REGISTRY + "extra = 1"), "unknown key `extra`"),
        (lambda own: own.write_bytes(b"\xff"), "is not UTF-8"),
        (lambda own: own.write_bytes(b"#" * (policyfile.MAX_BYTES + 1)), "a catalogue has at most"),
        (lambda own: own.unlink(), "No such file"),
        (lambda own: own.chmod(0o666), "only root may write a catalogue"),
        (lambda own: (own.unlink(), own.mkdir()), "is a directory, not a catalogue file"),
        (lambda own: (own.unlink(), own.symlink_to("/dev/null")), "is not a regular file"),
    ],
)
def test_a_catalogue_that_cannot_be_used_leaves_the_shipped_one_in_force_and_says_so(
    path: Path, own: Path, harm: Callable[[Path], object], words: str
) -> None:
    path.write_text(path.read_text().replace("one.example", "ghcr.io"))
    harm(own)

    policy, warnings = policyfile.read(path)

    (warning,) = [warning for warning in warnings if warning.key == "catalog.file"]
    assert "the catalogue that ramfw ships stays in force" in warning.message
    assert words in warning.message
    assert str(own) in warning.message
    assert policy.catalog.registries is shipped().registries
    assert policyfile.catalog_of(path).problem == policy.catalog.problem


def test_without_a_policy_the_shipped_catalogue_answers(tmp_path: Path) -> None:
    assert policyfile.catalog_of(tmp_path / "none.toml") is shipped()
