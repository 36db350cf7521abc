"""With which policy the daemon starts: the file's, or the last good one where that is bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from ramfw.errors import PolicyError
from ramfw.start import _policy_at_start
from ramfw.state import LastGood, State

GOOD = 'version = 1\n[[allow]]\nhost = "hub.example"\n'
KEPT = 'version = 1\n[[allow]]\nhost = "kept.example"\n'
BAD = 'version = 1\n[[allow]]\nhots = "hub.example"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(GOOD)
    path.chmod(0o644)
    return path


@pytest.fixture
def state(tmp_path: Path) -> State:
    (tmp_path / "state").mkdir()
    return State(tmp_path / "state")


def test_a_good_file_counts_whatever_is_kept(path: Path, state: State) -> None:
    state.keep(LastGood(KEPT, ""))
    policy, text, problems = _policy_at_start(path, state)
    assert [entry.label for entry in policy.entries] == ["hub.example"]
    assert (text, problems) == (GOOD, ())


@pytest.mark.parametrize("broken", [BAD, "", None])
def test_where_it_is_bad_or_gone_the_last_good_one_holds_and_it_is_said(
    broken: str | None, path: Path, state: State
) -> None:
    state.keep(LastGood(KEPT, ""))
    if broken is None:
        path.unlink()
    else:
        path.write_text(broken)
    policy, text, problems = _policy_at_start(path, state)
    assert [entry.label for entry in policy.entries] == ["kept.example"]
    assert text == KEPT
    assert problems
    assert all(str(path) in problem for problem in problems)


@pytest.mark.parametrize("kept", [None, BAD])
def test_without_a_good_one_it_does_not_start(kept: str | None, path: Path, state: State) -> None:
    path.write_text(BAD)
    if kept is not None:
        state.keep(LastGood(kept, ""))
    with pytest.raises(PolicyError, match="hots"):
        _policy_at_start(path, state)
    with pytest.raises(PolicyError, match="hots"):
        _policy_at_start(path, None)
