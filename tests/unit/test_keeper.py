"""What is in force is kept, once it is in force, and a failure is said and tried again."""

from __future__ import annotations

import errno
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from ramfw import keeper
from ramfw.core.events import PolicyRefused
from ramfw.core.probe import Outcome, Place, Probed, Recalled
from ramfw.core.registry_check import Evidence
from ramfw.keeper import FoundKeeper, Keeper
from ramfw.state import LastGood, State
from tests.unit.core.driver import Driver
from tests.unit.core.policies import policy

HUB, GHCR = "hub.example", "ghcr.example"


def story(tmp_path: Path) -> tuple[Driver, Keeper]:
    driver, kept = Driver(), Keeper(State(tmp_path), "")
    first = policy("", HUB)
    kept.loaded(first, "first")
    assert kept.due(driver.engine) is None, "nothing is in force yet"
    driver.start(first)
    return driver, kept


def keep(kept: Keeper, driver: Driver) -> bool:
    work = kept.due(driver.engine)
    if work is not None:
        work()
    return work is not None


def test_what_is_in_force_is_kept_once(tmp_path: Path) -> None:
    driver, kept = story(tmp_path)
    assert keep(kept, driver)
    assert (tmp_path / "policy.toml").read_text() == "first"
    assert "0:10 comment" in (tmp_path / "boot.nft").read_text()
    assert not keep(kept, driver)
    assert kept.report()["problem"] == ""
    assert kept.report()["kept_ago"] >= 0


def test_another_policy_replaces_it_and_a_refused_one_does_not(tmp_path: Path) -> None:
    driver, kept = story(tmp_path)
    assert keep(kept, driver)
    driver.tell(PolicyRefused(("bad",)))
    assert not keep(kept, driver)
    second = policy("", GHCR)
    kept.loaded(second, "second")
    assert not keep(kept, driver), "it is not in force yet"
    driver.reload(second)
    assert keep(kept, driver)
    assert (tmp_path / "policy.toml").read_text() == "second"


def test_a_failure_is_said_and_tried_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, kept = story(tmp_path)
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)

    def refuse(_state: State, _last: LastGood) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as broken:
        broken.setattr(State, "keep", refuse)
        assert keep(kept, driver)
    assert "Read-only file system" in kept.report()["problem"]
    assert not keep(kept, driver), "not at once"
    now += keeper.AGAIN
    assert keep(kept, driver)
    assert kept.report()["problem"] == ""


def test_without_a_directory_nothing_is_kept() -> None:
    driver, kept = Driver(), Keeper(None, "")
    first = policy("", HUB)
    kept.loaded(first, "first")
    driver.start(first)
    assert kept.due(driver.engine) is None
    assert kept.report() == {"directory": "", "kept_ago": None, "problem": ""}


# -- registries that were found ----------------------------------------------------------------


def found_at(driver: Driver, name: str) -> None:
    place = Place(name, ip_address("203.0.113.1").packed, 443)
    driver.tell(Probed(place, Outcome.REGISTRY, Evidence.HEADER))


def test_registries_that_were_found_are_there_for_the_next_daemon(tmp_path: Path) -> None:
    driver, kept = story(tmp_path)[0], FoundKeeper(State(tmp_path))
    assert kept.recall() == ()
    assert kept.due(driver.engine) is None
    driver.now = time.monotonic()
    found_at(driver, "first.example")
    found_at(driver, "second.example")
    work = kept.due(driver.engine)
    assert work is not None
    assert kept.due(driver.engine) is None, "it is being written"
    work()
    assert kept.due(driver.engine) is None, "nothing has changed"

    again = FoundKeeper(State(tmp_path))
    recalled = again.recall()
    assert [one.place.name for one in recalled] == ["second.example", "first.example"]
    driver.restart(policy("", HUB))
    driver.tell(Recalled(recalled))
    assert again.due(driver.engine) is None
    probing = driver.engine.name_check.probing
    assert [one.place for one in probing.registries(driver.now)] == [r.place for r in recalled]


def test_registries_that_cannot_be_kept_are_said_and_kept_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, kept = story(tmp_path)[0], FoundKeeper(State(tmp_path / "absent"))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    found_at(driver, "first.example")
    work = kept.due(driver.engine)
    assert work is not None
    work()
    assert "absent cannot be written" in kept.problem
    assert kept.due(driver.engine) is None, "not at once"
    now += keeper.AGAIN
    (tmp_path / "absent").mkdir()
    work = kept.due(driver.engine)
    assert work is not None
    work()
    assert kept.problem == ""


@pytest.mark.parametrize("text", ["", "nonsense", '{"version":9}'])
def test_a_bad_file_of_registries_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "registries.json").write_text(text)
    assert FoundKeeper(State(tmp_path)).recall() == ()
