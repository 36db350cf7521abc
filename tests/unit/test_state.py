"""What is kept for the next boot is whole, whatever happens while it is written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ramfw.state import LastGood, State

FIRST = LastGood("version = 1\n", "add table inet ramfw\n")
SECOND = LastGood("version = 1\n# new\n", "add table inet ramfw\n# new\n")


def kept(directory: Path) -> LastGood:
    policy, rules = directory / "policy.toml", directory / "boot.nft"
    return LastGood(policy.read_text(), rules.read_text())


def test_the_last_is_kept_and_can_be_read_by_the_boot_unit(tmp_path: Path) -> None:
    state = State(tmp_path)
    old = os.umask(0o077)
    try:
        state.keep(FIRST)
        state.keep(SECOND)
    finally:
        os.umask(old)
    assert kept(tmp_path) == SECOND
    assert state.last_policy() == SECOND.policy
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boot.nft", "policy.toml"]


def test_a_full_disk_leaves_the_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path)
    state.keep(FIRST)

    def full(_descriptor: int, _data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        state.keep(SECOND)
    assert kept(tmp_path) == FIRST
    assert sorted(path.name for path in tmp_path.iterdir()) == ["boot.nft", "policy.toml"]


def test_a_write_that_takes_a_part_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    State(tmp_path).keep(FIRST)
    assert kept(tmp_path) == FIRST


def test_a_power_cut_before_the_rename_leaves_the_ones_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(tmp_path)
    state.keep(FIRST)

    def cut(_path: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", cut)
    with pytest.raises(KeyboardInterrupt):
        state.keep(SECOND)
    assert kept(tmp_path) == FIRST


def test_what_is_the_same_is_not_written_again(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.keep(FIRST)
    before = (tmp_path / "boot.nft").stat().st_ino
    state.keep(FIRST)
    assert (tmp_path / "boot.nft").stat().st_ino == before


def test_nothing_kept_is_no_policy(tmp_path: Path) -> None:
    assert State(tmp_path).last_policy() is None
    (tmp_path / "policy.toml").write_bytes(b"\xff")
    assert State(tmp_path).last_policy() is None
