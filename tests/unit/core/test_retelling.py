"""When refused clients are told again: a moment after others changed rules, and not too often."""

from __future__ import annotations

from ramfw.core.commands import TellAgain
from ramfw.core.events import OtherRulesChanged, Tick
from ramfw.core.retelling import NOT_MORE_OFTEN, SETTLES_WITHIN, Retelling
from tests.unit.core.driver import Driver
from tests.unit.core.policies import policy


def test_it_waits_until_the_rules_have_settled() -> None:
    retelling = Retelling()
    assert not retelling.take(100.0)
    for now in (100.0, 100.5, 101.0):
        retelling.changed(now)
        assert not retelling.take(now + SETTLES_WITHIN / 2)
    assert retelling.take(101.0 + SETTLES_WITHIN)
    assert not retelling.take(200.0), "told once"
    assert retelling.due is None


def test_rules_that_change_all_the_time_have_it_tried_now_and_then() -> None:
    retelling = Retelling()
    tried = []
    for tenth in range(600):
        now = 100.0 + tenth / 10
        if retelling.due is None:
            retelling.changed(now)
        if retelling.take(now):
            tried.append(now)
    assert 60 / NOT_MORE_OFTEN - 2 < len(tried) <= 60 / NOT_MORE_OFTEN


def test_the_engine_asks_for_it_when_it_is_due_and_for_nothing_else() -> None:
    driver = Driver()
    driver.start(policy("", "hub.example"))
    driver.answers("hub.example", "192.0.2.10")
    committed = len(driver.kernel.committed)
    assert TellAgain() not in driver.engine.handle(OtherRulesChanged(), driver.now)
    due = driver.engine.deadline()
    assert due is not None
    assert due <= driver.now + SETTLES_WITHIN
    driver.now += SETTLES_WITHIN
    assert driver.engine.handle(Tick(), driver.now).count(TellAgain()) == 1
    assert TellAgain() not in driver.engine.handle(Tick(), driver.now)
    assert len(driver.kernel.committed) == committed
