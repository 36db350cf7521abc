"""What was learned from answers is kept beside the control socket, for the next daemon alone."""

from __future__ import annotations

import logging
import os
import stat
from ipaddress import ip_address
from pathlib import Path

import pytest

from ramfw import lease_keeper
from ramfw.core.lease_text import LeasesRecalled
from ramfw.lease_keeper import LeaseKeeper
from tests.unit.core.driver import Driver
from tests.unit.core.policies import policy

SITE, A = "site.cdn.example", "203.0.113.7"
NOTHING = LeasesRecalled(())


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """An engine that has learned something, on a clock of the test's."""
    driver = Driver()
    monkeypatch.setattr("ramfw.lease_keeper.time.monotonic", lambda: driver.now)
    monkeypatch.setattr(lease_keeper, "_offset", lambda: 5.0)
    driver.start(policy("", "*.cdn.example"))
    driver.hold(SITE, A)
    return driver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock.leases"


def keep(keeper: LeaseKeeper, driver: Driver) -> bool:
    if (work := keeper.due(driver.engine)) is not None:
        work()
    return work is not None


def test_the_next_daemon_knows_it(driver: Driver, path: Path) -> None:
    assert keep(LeaseKeeper(path), driver)
    driver.now += 60
    (kept,) = LeaseKeeper(path).recall().kept
    assert (kept.name, kept.addresses) == (SITE, (ip_address(A).packed,))
    assert kept.lease.expires == driver.now - 60 + 330
    assert LeaseKeeper(path.with_name("other")).recall() == NOTHING


def test_nobody_else_may_read_what_was_asked_for(driver: Driver, path: Path) -> None:
    before = os.umask(0)
    try:
        assert keep(LeaseKeeper(path), driver)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_written_when_something_was_learned_and_not_too_often(
    driver: Driver, path: Path
) -> None:
    keeper = LeaseKeeper(path)
    assert keep(keeper, driver)
    driver.hold("more.cdn.example", "203.0.113.8")
    assert not keep(keeper, driver), "within a second"
    driver.now += lease_keeper.SHORTEST_PAUSE
    assert keep(keeper, driver)
    driver.now += 100
    assert not keep(keeper, driver), "nothing new"
    driver.hold("third.cdn.example", "203.0.113.9")
    assert keep(keeper, driver)
    driver.hold("last.cdn.example", "203.0.113.10")
    keeper.hurry()
    assert keep(keeper, driver), "the daemon ends"
    assert len(LeaseKeeper(path).recall().kept) == 4


def test_a_disk_that_fails_is_told_and_tried_again(
    driver: Driver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = LeaseKeeper(path / "missing")
    assert keep(keeper, driver)
    assert "cannot be written: [Errno 2]" in keeper.problem
    assert not keep(keeper, driver)
    driver.now += lease_keeper.AGAIN
    monkeypatch.setattr(keeper, "_path", path)
    assert keep(keeper, driver)
    assert keeper.problem == ""


def test_while_one_writes_no_other_does(driver: Driver, path: Path) -> None:
    keeper = LeaseKeeper(path)
    assert keeper.due(driver.engine) is not None
    keeper.hurry()
    assert keeper.due(driver.engine) is None


@pytest.mark.parametrize("spoil", ["others", "link", "pipe", "text"])
def test_what_others_may_have_written_opens_nothing(
    driver: Driver, path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert keep(LeaseKeeper(path), driver)
    match spoil:
        case "others":
            path.chmod(0o666)
        case "link":
            path.symlink_to(path.rename(path.with_name("elsewhere")))
        case "pipe":
            path.unlink()
            os.mkfifo(path)
        case _:
            path.write_text("{")
    with caplog.at_level(logging.WARNING):
        assert LeaseKeeper(path).recall() == NOTHING
    assert "not known" in caplog.text


def test_another_s_file_opens_nothing(
    driver: Driver, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keep(LeaseKeeper(path), driver)
    monkeypatch.setattr("ramfw.lease_keeper.os.geteuid", lambda: os.getuid() + 1)
    assert (LeaseKeeper(path).recall() == NOTHING) == (os.getuid() != 0), "root's is trusted"


def test_a_service_is_told_which_boot_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """It sees no more of /proc than processes; with or without dashes it is the same boot."""
    seen = lease_keeper._boot()
    assert "-" not in seen
    monkeypatch.setattr(lease_keeper, "BOOT", Path("/proc/absent"))
    monkeypatch.setenv("RAMFW_BOOT_ID", "0123-4567")
    assert lease_keeper._boot() == "01234567"
    monkeypatch.delenv("RAMFW_BOOT_ID")
    with pytest.raises(FileNotFoundError):
        lease_keeper._boot()
