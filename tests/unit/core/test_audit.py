"""The slow audit: elements that nobody granted go, those that are missing come back."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from ramfw.core import audit
from ramfw.core.events import ElementsSeen, MapAudited, TableTouched
from ramfw.core.questions import Tally
from ramfw.core.report import report
from ramfw.core.tablestate import Counts, HeldGrant
from ramfw.core.transaction import AddGrant, DeleteGrant, GrantKey
from tests.unit.core.driver import Driver
from tests.unit.core.policies import policy

HUB = "hub.example"
A, B, STRANGER = "192.0.2.10", "192.0.2.11", "192.0.2.99"
MAP = "permitted4"


def key(address: str) -> GrantKey:

    return GrantKey.of(MAP, ip_network(address), "tcp", 443)


def started(*addresses: str) -> Driver:
    driver = Driver()
    driver.start(policy("", HUB))
    driver.answers(HUB, *(addresses or (A, B)))
    assert driver.open(A)
    return driver


def audited(driver: Driver, *, size: int = 1) -> None:
    """One pass through all maps, in pieces of this size."""
    for name in driver.engine.maps_of_grants():
        state = driver.kernel.read(with_grants=True)
        assert state is not None
        assert state.grants is not None
        held = list(state.grants.get(name, {}).items())
        for start in range(0, len(held), size):
            driver.tell(ElementsSeen(name, tuple(held[start : start + size])))
        driver.tell(MapAudited(name))


def suspects(driver: Driver) -> bool:
    return driver.engine.audit.suspects


def said(driver: Driver, words: str) -> list[str]:
    return [note for note in driver.notes if words in note]


def test_a_table_that_is_as_it_was_acknowledged_has_nothing_said_of_it() -> None:
    driver = started()
    notes = len(driver.notes)
    for _ in range(3):
        audited(driver)
    assert len(driver.notes) == notes
    assert driver.open(A)
    assert not suspects(driver)
    assert not driver.engine.health.touches


def test_a_stray_element_is_taken_away_and_its_twin_stays() -> None:
    driver = started()
    entry = driver.open(A)
    assert entry
    driver.kernel.run((AddGrant(key(STRANGER), entry, 3600),))
    audited(driver)
    assert driver.open(STRANGER) == entry, "it is suspected"
    assert suspects(driver)
    audited(driver)
    assert driver.open(STRANGER) is None
    assert driver.open(A) == entry
    (touch,) = driver.engine.health.touches
    assert (touch.pid, touch.program) == (0, "somebody unseen")
    assert touch.mended_at == driver.now
    assert said(driver, "192.0.2.99 tcp/443")
    alarms = report(driver.engine, Counts({}, {}), Tally(), driver.now)["alarms"]
    assert "somebody unseen (pid 0)" in alarms[0]


def test_a_granted_address_whose_entry_or_time_somebody_changed_has_its_own_again() -> None:
    driver = started()
    entry = driver.open(A)
    assert entry
    driver.kernel.run((DeleteGrant(key(A)), AddGrant(key(A), entry, 86_400)))
    audited(driver)
    audited(driver)
    assert driver.open(A) == entry
    assert driver.remaining(A) < 1000
    assert len(driver.engine.health.touches) == 1


def test_a_granted_address_that_the_kernel_lost_is_given_again() -> None:
    driver = started()
    entry = driver.open(A)
    driver.kernel.run((DeleteGrant(key(A)),))
    audited(driver)
    assert driver.open(A) != entry
    audited(driver)
    assert driver.open(A) == entry
    assert driver.open(B) == entry
    assert said(driver, "the kernel had lost what is permitted")
    assert driver.engine.health.mismatches == 1
    assert not driver.engine.health.touches, "nobody is blamed"


def test_what_looks_wrong_once_only_is_left_alone() -> None:
    """A piece that was read before a change of ours, and looked at after it."""
    driver = started()
    entry = driver.open(A)
    assert entry
    notes = len(driver.notes)
    driver.tell(ElementsSeen(MAP, ((key(STRANGER).packed, HeldGrant(entry, 60)),)))
    driver.tell(MapAudited(MAP))
    assert suspects(driver)
    audited(driver)
    assert not suspects(driver)
    assert len(driver.notes) == notes
    assert (driver.open(A), driver.open(B)) == (entry, entry)


def test_an_element_that_ramfw_cannot_have_written_has_the_whole_table_read() -> None:
    driver = started()
    driver.tell(ElementsSeen(MAP, ((None, HeldGrant(0, 60)),)))
    driver.tell(MapAudited(MAP))
    assert said(driver, "holds what ramfw did not write")
    assert driver.open(A)
    assert driver.engine.in_force


def test_too_many_strays_are_not_remembered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MOST_SUSPECTS", 3)
    driver = started()
    entry = driver.open(A)
    assert entry
    for last in range(100, 110):
        driver.kernel.run((AddGrant(key(f"192.0.2.{last}"), entry, 3600),))
    audited(driver, size=4)
    assert all(driver.open(f"192.0.2.{last}") is None for last in range(100, 110))
    assert driver.open(A) == entry


def test_of_a_large_map_every_element_is_missed_within_so_many_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit, "MOST_AT_ONCE", 4)
    many = [f"192.0.2.{last}" for last in range(10, 30)]
    driver = started(*many)
    for address in many[::3]:
        driver.kernel.run((DeleteGrant(key(address)),))
    for _ in range(2 * (1 + len(many) // 4)):
        audited(driver, size=4)
    assert all(driver.open(address) for address in many)


def test_a_pass_that_the_reading_of_the_table_overtook_counts_for_nothing() -> None:
    driver = started()
    entry = driver.open(A)
    assert entry
    driver.engine.handle(TableTouched(4711, "nft"), driver.now)
    driver.engine.handle(ElementsSeen(MAP, ((key(STRANGER).packed, HeldGrant(entry, 60)),)), 0.0)
    driver.engine.handle(MapAudited(MAP), 0.0)
    assert not suspects(driver)
    assert driver.engine.maps_of_grants() == ()


def test_what_ends_during_the_pass_is_not_missed() -> None:
    driver = started()
    driver.now += driver.remaining(A) - 1
    for address in (A, B):
        driver.kernel.run((DeleteGrant(key(address)),))
    audited(driver)
    assert not suspects(driver)
