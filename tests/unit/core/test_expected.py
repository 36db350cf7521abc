"""The kernel is told of no flow whose addresses and ports it may remember from another."""

from __future__ import annotations

import pytest

from ramfw.core.expected import STALE_AFTER, Expected
from ramfw.core.settle_rules import REMEMBERED_FOR
from ramfw.watchdog import SILENCE


def test_a_flow_s_ports_are_told_once_until_the_kernel_has_forgotten() -> None:
    expected = Expected()
    assert expected.may("ports", 100.0)
    assert not expected.may("ports", 100.0)
    assert not expected.may("ports", 100.0 + STALE_AFTER - 0.1)
    assert expected.may("other ports", 100.0)
    assert expected.may("ports", 100.0 + STALE_AFTER)
    assert not expected.may("ports", 100.0 + STALE_AFTER)


def test_a_verdict_may_be_as_late_as_a_daemon_that_stands_still() -> None:
    assert STALE_AFTER > REMEMBERED_FOR + SILENCE


def test_what_an_earlier_daemon_told_is_waited_for() -> None:
    expected = Expected()
    expected.inherit(100.0)
    assert not expected.may("ports", 100.0 + STALE_AFTER - 0.1)
    assert expected.may("ports", 100.0 + STALE_AFTER)


def test_no_more_is_told_than_the_kernel_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ramfw.core.expected.MOST_REMEMBERED", 2)
    expected = Expected()
    assert [expected.may(n, 0.0) for n in range(3)] == [True, True, False]
    assert expected.may(3, STALE_AFTER)
