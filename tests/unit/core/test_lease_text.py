"""What was learned from answers outlives the daemon, and opens no more than it did."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core import lease_text
from ramfw.core.lease_text import KeptLease, LeasesRecalled, read, write
from ramfw.core.leases import Lease, Leases
from ramfw.core.transaction import DeleteTable
from tests.unit.core.driver import Driver
from tests.unit.core.policies import policy

BELOW, SITE, OTHER = "*.cdn.example", "site.cdn.example", "other.example"
A, B = "203.0.113.7", "2001:db8:f::7"
PACKED = tuple(ip_address(one).packed for one in (A, B))
SERVER, BOOT = "192.0.2.53", "b00t"


def learned(now: float = 1000.0, ttl: float = 300) -> Leases:
    leases = Leases()
    leases.learn(SITE, PACKED, ttl, SERVER, now)
    return leases


def text(leases: Leases, offset: float = 0.0) -> str:
    return write(leases, lambda _: False, BOOT, offset)


def test_what_was_learned_is_known_again_until_its_own_end() -> None:
    recalled = read(text(learned(), 50.0), BOOT, 1100.0 - 20.0, 70.0)
    lease = Lease(SERVER, 980.0, 1310.0)
    assert recalled == LeasesRecalled(tuple(KeptLease(SITE, (one,), lease) for one in PACKED))


@pytest.mark.parametrize(
    ("boot", "now"), [("another", 1000.0), (BOOT, 1330.0), (BOOT, 999.0), (BOOT, -9000.0)]
)
def test_nothing_is_known_of_another_boot_nor_after_its_end(boot: str, now: float) -> None:
    assert read(text(learned()), boot, now, 0.0) == LeasesRecalled(())


def test_names_that_only_a_wildcard_permits_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses of the others are asked for at a start."""
    monkeypatch.setattr(lease_text, "MOST_KEPT", 2)
    leases = Leases()
    leases.learn("a.example", PACKED, 300, SERVER, 1000.0)
    leases.learn(SITE, PACKED, 300, SERVER, 1000.0)
    kept = read(write(leases, lambda name: name == "a.example", BOOT, 0.0), BOOT, 1000.0, 0.0)
    assert [one.name for one in kept.kept] == [SITE, SITE]


@pytest.mark.parametrize(
    "row",
    [
        [SITE, A, SERVER, 1000],
        [7, A, SERVER, 1000, 1300],
        [SITE, "site", SERVER, 1000, 1300],
        [SITE, A, SERVER, "x", 1300],
        [SITE, A, SERVER, 1000, float("nan")],
        [SITE, A, SERVER, 1000, float("inf")],
        "row",
    ],
)
def test_what_nobody_wrote_is_an_error(row: object) -> None:
    bad = json.dumps({"version": 1, "boot": BOOT, "leases": [row]})
    with pytest.raises(ValueError, match=r"."):
        read(bad, BOOT, 1000.0, 0.0)


@given(st.text() | st.sampled_from(["{", "[]", "7", '{"version": 2}', '{"version": 1}']))
def test_any_text_is_read_or_an_error(broken: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(broken, BOOT, 0.0, 0.0)


# -- in the engine ---------------------------------------------------------------------------------


def restarted(recalled: LeasesRecalled | None, body: str = BELOW, *, wiped: bool = False) -> Driver:
    """Somebody was given an answer; then another daemon, with what the kernel has, or without."""
    driver = Driver()
    driver.start(policy("", BELOW))
    driver.hold(SITE, A)
    if wiped:
        driver.kernel.run((DeleteTable(),))
    driver.sleep(10)
    driver.restart(policy("", body))
    if recalled is not None:
        driver.tell(recalled)
    return driver


def kept(name: str = SITE, address: str = A, expires: float = 1300.0) -> LeasesRecalled:
    lease = Lease(SERVER, 1000.0, expires)
    return LeasesRecalled((KeptLease(name, (ip_address(address).packed,), lease),))


def names(driver: Driver, address: str = A) -> tuple[str, ...]:
    return driver.engine.leases.names_of(ip_address(address).packed)


@pytest.mark.parametrize("wiped", [False, True])
def test_a_client_s_answer_of_before_counts_as_it_did(wiped: bool) -> None:  # noqa: FBT001
    driver = restarted(kept(), wiped=wiped)
    assert names(driver) == (SITE,)
    assert driver.open(A)
    assert names(restarted(None, wiped=wiped)) == ()
    driver.sleep(330)
    assert not driver.open(A)
    assert names(driver) == ()


def test_what_the_policy_no_longer_permits_is_not_recalled() -> None:
    driver = restarted(kept(), OTHER)
    assert names(driver) == ()
    assert not driver.open(A)


def test_special_addresses_are_not_recalled() -> None:
    driver = restarted(kept(address="127.0.0.1"))
    assert names(driver, "127.0.0.1") == ()
    assert not driver.open("127.0.0.1")


def test_a_later_answer_is_not_made_older() -> None:
    driver = restarted(None)
    driver.hold(SITE, A, ttl=3000)
    driver.tell(kept())
    driver.sleep(2000)
    assert driver.open(A)
