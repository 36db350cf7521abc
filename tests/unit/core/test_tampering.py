"""Somebody else changes the table: the engine looks at once, and puts it right."""

from __future__ import annotations

from ipaddress import ip_network

from ramfw.core.events import CanaryReported, TableTouched
from ramfw.core.questions import Tally
from ramfw.core.report import report
from ramfw.core.ruleset import ACCEPT
from ramfw.core.standing import MOST_TOUCHES
from ramfw.core.tablestate import Counts
from ramfw.core.transaction import AddGrant, AddRule, DeleteGrant, DeleteTable, FlushChain, GrantKey
from tests.unit.core.driver import Driver
from tests.unit.core.policies import policy

HUB = "hub.example"
A, B = "192.0.2.10", "192.0.2.99"


def started() -> Driver:
    driver = Driver()
    driver.start(policy("", HUB))
    driver.answers(HUB, A)
    assert driver.open(A)
    return driver


def alarms(driver: Driver) -> list[str]:
    facts = report(driver.engine, Counts({}, {}), Tally(), driver.now)
    found: list[str] = facts["alarms"]
    return found


def test_a_table_that_was_flushed_is_back_with_its_addresses() -> None:
    driver = started()
    driver.kernel.run((DeleteTable(),))
    driver.tell(TableTouched(4711, "nft"))
    assert driver.open(A)
    assert any("nft (pid 4711)" in note for note in driver.notes)
    (touch,) = driver.engine.health.touches
    assert (touch.pid, touch.program, touch.mended_at) == (4711, "nft", driver.now)


def test_a_rule_that_was_put_before_ours_is_gone() -> None:
    driver = started()
    before = driver.kernel.read(with_grants=True)
    driver.kernel.run((FlushChain("guard_output"), AddRule("guard_output", (ACCEPT,))))
    driver.tell(TableTouched(4711, "nft"))
    after = driver.kernel.read(with_grants=True)
    assert before is not None
    assert after is not None
    assert after.ruleset == before.ruleset


def test_a_touch_during_a_transaction_is_looked_at_after_it() -> None:
    driver = started()
    commands = driver.engine.handle(TableTouched(4711, "nft"), driver.now)
    assert [type(command).__name__ for command in commands] == ["Note", "ReadTable"]
    again = driver.engine.handle(TableTouched(4712, "nft"), driver.now)
    assert [type(command).__name__ for command in again] == ["Note"], "one reading at a time"


def test_a_change_that_is_not_known_to_be_ones_is_looked_at_and_blamed_on_nobody() -> None:
    driver = started()
    driver.kernel.run((DeleteTable(),))
    driver.tell(TableTouched(0, ""))
    assert driver.open(A)
    assert not driver.engine.health.touches


def test_it_is_an_alarm_for_an_hour() -> None:
    driver = started()
    assert alarms(driver) == []
    driver.tell(TableTouched(4711, "firewalld"))
    assert "firewalld (pid 4711)" in alarms(driver)[0]
    driver.now += 3601
    assert alarms(driver) == []


def test_only_the_last_of_many_are_remembered() -> None:
    driver = started()
    for pid in range(MOST_TOUCHES + 5):
        driver.tell(TableTouched(pid, "nft"))
    assert driver.engine.health.touched == MOST_TOUCHES + 5
    assert next(touch.pid for touch in driver.engine.health.touches) == 5


def test_a_canary_that_got_through_is_an_alarm_until_one_does_not() -> None:
    driver = started()
    driver.tell(CanaryReported(holds=True, detail="refused"))
    assert alarms(driver) == []
    driver.tell(CanaryReported(holds=False, detail="passed"))
    assert "does not hold: passed" in alarms(driver)[0]
    driver.tell(CanaryReported(holds=True, detail="refused"))
    assert alarms(driver) == []
    assert [n for n in driver.notes if "the filter" in n] == [
        "the filter holds: refused",
        "the filter DOES NOT HOLD: passed",
        "the filter holds: refused",
    ]


def test_a_canary_that_falls_silent_is_an_alarm() -> None:
    driver = started()
    driver.now += 1000
    assert alarms(driver) == [], "nobody starts one here"
    driver.tell(CanaryReported(holds=True, detail="refused"))
    driver.now += 200
    assert "not tested from inside" in alarms(driver)[0]


def test_an_address_that_somebody_opened_for_an_entry_is_closed() -> None:
    driver = started()
    key = GrantKey.of("permitted4", ip_network(B), "tcp", 443)
    entry = driver.open(A)
    assert entry
    driver.kernel.run((AddGrant(key, entry, 3600),))
    assert driver.open(B) == entry
    driver.tell(TableTouched(4711, "nft"))
    assert driver.open(B) is None
    assert driver.open(A) == entry


def test_an_address_whose_time_somebody_made_longer_has_its_own_again() -> None:
    driver = started()
    key = GrantKey.of("permitted4", ip_network(A), "tcp", 443)
    entry = driver.open(A)
    assert entry
    before = driver.remaining(A)
    driver.kernel.run((DeleteGrant(key), AddGrant(key, entry, 86_400)))
    driver.tell(TableTouched(4711, "nft"))
    assert driver.remaining(A) <= before + 1
    assert driver.open(A) == entry


def test_what_an_earlier_daemon_opened_stays_for_its_time() -> None:
    """The twin: at a start the ledger knows nothing, and adopts."""
    driver = started()
    driver.restart(policy("", HUB))
    assert driver.open(A)
