"""When no daemon was there: known from a file that each leaves to the next."""

from __future__ import annotations

from pathlib import Path

import pytest

from ramfw import alive
from ramfw.alive import MOST_ABSENCES, Alive


class Clock:
    """Seconds since the boot."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(alive, "_now", lambda: clock.now)
    return clock


def live(path: Path, clock: Clock, unread: int, seconds: float = 10.0) -> Alive:
    """A daemon's life, from its start to its last sign of it."""
    daemon = Alive(path)
    daemon.begin(unread)
    clock.now += seconds
    daemon.show()
    return daemon


def test_absence_in_which_something_passed_is_told(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "alive"
    assert live(path, clock, 0).absences_ago() == ()
    clock.now += 4
    (absence,) = live(path, clock, 12, 100).absences_ago()

    assert absence == {"since_ago": 104.0, "until_ago": 100.0, "connections": 12}


def test_absence_in_which_nothing_passed_is_none(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "alive"
    for unread in (0, 12, 12):
        daemon = live(path, clock, unread)
        clock.now += 4

    assert [one["connections"] for one in daemon.absences_ago()] == [12]


def test_table_that_was_made_anew_counts_from_nothing(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "alive"
    for unread in (100, 3):
        daemon = live(path, clock, unread)

    assert [one["connections"] for one in daemon.absences_ago()] == [3]


def test_the_latest_come_first_and_the_oldest_are_forgotten(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "alive"
    for number in range(MOST_ABSENCES + 6):
        daemon = live(path, clock, number * (number + 1) // 2)

    passed = [one["connections"] for one in daemon.absences_ago()]
    assert passed == list(range(MOST_ABSENCES + 5, 5, -1))


def test_nothing_is_said_before_it_is_known_what_passed(tmp_path: Path, clock: Clock) -> None:
    """A daemon that ends while it starts was not there."""
    path = tmp_path / "alive"
    live(path, clock, 0)
    before = path.read_text()
    clock.now += 5
    Alive(path).show()

    assert path.read_text() == before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "{}", '{"alive_at": "x", "unread": 1, "absences": [7]}', "\0"]
)
def test_file_that_cannot_be_understood_is_none(tmp_path: Path, clock: Clock, text: str) -> None:
    path = tmp_path / "alive"
    path.write_text(text)

    assert live(path, clock, 5).absences_ago() == ()
    clock.now += 1
    assert [one["connections"] for one in live(path, clock, 7).absences_ago()] == [2]


def test_directory_that_cannot_be_written_is_no_error(tmp_path: Path, clock: Clock) -> None:
    assert live(tmp_path / "missing" / "alive", clock, 5).absences_ago() == ()
