"""Leases: they begin with an answer, end at their time, and are found from both sides."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ramfw.core.leases import (
    GRACE,
    LONGEST_STALE,
    LONGEST_TTL,
    SHORTEST_TTL,
    Leases,
    bounded_ttl,
)

HUB, GHCR = "hub.example", "ghcr.example"
A, B = ip_address("192.0.2.10").packed, ip_address("2001:db8::10").packed
SERVER = "192.0.2.53"


def learn(
    leases: Leases, name: str, *addresses: bytes, ttl: float = 60, now: float = 0
) -> set[bytes]:
    return set(leases.learn(name, addresses, ttl, SERVER, now))


def names_on(leases: Leases, address: bytes) -> list[str]:
    return [name for name, _ in leases.of_address(address)]


def expires(leases: Leases, name: str = HUB, address: bytes = A) -> float:
    return leases.of_name(name)[address].expires


@pytest.mark.parametrize(
    ("ttl", "counted"),
    [(0, SHORTEST_TTL), (10, 10), (60, 60), (3600, 3600), (2**31 - 1, LONGEST_TTL)],
)
def test_a_lease_outlives_its_ttl_by_the_grace_within_bounds(ttl: int, counted: float) -> None:
    leases = Leases()
    assert learn(leases, HUB, A, ttl=ttl, now=100) == {A}
    assert bounded_ttl(ttl) == counted
    assert expires(leases) == 100 + counted + GRACE


def test_a_lease_ends_at_its_time_and_not_before() -> None:
    leases = Leases()
    learn(leases, HUB, A, now=0)
    end = leases.next_expiry()
    assert end == 60 + GRACE
    assert leases.expire(end - 0.001) == []
    assert names_on(leases, A) == [HUB]
    assert leases.expire(end) == [A]
    assert (leases.of_name(HUB), leases.of_address(A)) == ({}, [])
    assert leases.next_expiry() is None


def test_a_later_answer_never_shortens_a_lease() -> None:
    leases = Leases()
    learn(leases, HUB, A, ttl=600, now=0)
    assert learn(leases, HUB, A, ttl=60, now=10) == set()
    assert expires(leases) == 600 + GRACE
    assert learn(leases, HUB, A, ttl=600, now=10) == {A}
    assert leases.expire(600 + GRACE) == [], "the first end was superseded"
    assert leases.expire(610 + GRACE) == [A]


def test_two_names_on_one_address_each_have_a_lease_of_their_own() -> None:
    leases = Leases()
    learn(leases, HUB, A, ttl=60, now=0)
    learn(leases, GHCR, A, ttl=600, now=0)
    assert leases.expire(60 + GRACE) == [A], "the address lost a name"
    assert names_on(leases, A) == [GHCR]
    assert leases.forget(GHCR) == [A]
    assert list(leases.addresses()) == []
    assert leases.names() == ()


def test_a_forgotten_name_leaves_nothing_behind() -> None:
    leases = Leases()
    learn(leases, HUB, A, B, now=0)
    assert leases.forget(HUB) == [A, B]
    assert leases.next_expiry() is None
    assert leases.forget(HUB) == []
    learn(leases, HUB, A, ttl=600, now=1)
    assert leases.expire(60 + GRACE + 1) == [], "the old end is not the new lease's"


def test_the_last_good_answer_is_served_on_a_little_at_a_time_up_to_its_bound() -> None:
    leases = Leases()
    learn(leases, HUB, A, now=0)
    assert leases.prolong(HUB, last_good=0, asked_next=20) == [], "it counts longer as it is"
    assert leases.prolong(HUB, last_good=0, asked_next=80) == [A]
    assert expires(leases) == 80 + GRACE
    assert leases.of_name(HUB)[A].learned == 0
    leases.prolong(HUB, last_good=0, asked_next=LONGEST_STALE - 5)
    assert expires(leases) == LONGEST_STALE
    assert leases.prolong(HUB, last_good=0, asked_next=LONGEST_STALE - 1) == []


def test_an_address_that_the_last_good_answer_left_out_is_not_served_on() -> None:
    leases = Leases()
    learn(leases, HUB, A, now=0)
    learn(leases, HUB, B, now=45)
    assert leases.prolong(HUB, last_good=45, asked_next=130) == [B]
    assert expires(leases) == 60 + GRACE


def test_a_cache_whose_ttl_counts_down_gave_the_address_anew_each_time() -> None:
    """A lease that an answer did not prolong is part of the last good answer all the same."""
    leases = Leases()
    learn(leases, HUB, A, ttl=300, now=0)
    assert learn(leases, HUB, A, ttl=75, now=225) == set()
    assert leases.prolong(HUB, last_good=225, asked_next=320) == [A]
    assert expires(leases) == 320 + GRACE


NAMES = st.sampled_from([HUB, GHCR, "nexus.example"])
ADDRESSES = st.sampled_from([A, B, ip_address("192.0.2.11").packed])


@dataclass
class Model:
    """What ought to be: the end of each lease, and nothing cleverer."""

    ends: dict[tuple[str, bytes], float] = field(default_factory=dict)

    def live(self, now: float) -> dict[tuple[str, bytes], float]:
        return {key: end for key, end in self.ends.items() if end > now}


class LeasesAndTheModel(RuleBasedStateMachine):
    """Whatever is learned, forgotten and expired, both sides agree, and nothing ends off time."""

    def __init__(self) -> None:
        super().__init__()
        self.leases, self.model, self.now = Leases(), Model(), 0.0

    @rule(name=NAMES, addresses=st.lists(ADDRESSES, max_size=3), ttl=st.integers(0, 5000))
    def learn(self, name: str, addresses: list[bytes], ttl: int) -> None:
        changed = learn(self.leases, name, *addresses, ttl=ttl, now=self.now)
        end = self.now + bounded_ttl(ttl) + GRACE
        grown = {a for a in addresses if end > self.model.ends.get((name, a), 0)}
        assert changed == grown
        self.model.ends |= {(name, address): end for address in grown}

    @rule(name=NAMES)
    def forget(self, name: str) -> None:
        held = {address for owner, address in self.model.ends if owner == name}
        assert set(self.leases.forget(name)) == held
        for address in held:
            del self.model.ends[name, address]

    @rule(seconds=st.floats(0, 2000))
    def sleep(self, seconds: float) -> None:
        self.now += seconds
        live = self.model.live(self.now)
        gone = {address for name, address in self.model.ends.keys() - live.keys()}
        assert set(self.leases.expire(self.now)) == gone
        self.model.ends = live

    @rule()
    def until_the_next_end(self) -> None:
        end = self.leases.next_expiry()
        if end is not None:
            assert end > self.now
            self.sleep(end - self.now)

    @invariant()
    def both_sides_agree_with_the_model(self) -> None:
        names = {
            (name, address): lease.expires
            for name in self.leases.names()
            for address, lease in self.leases.of_name(name).items()
        }
        addresses = {
            (name, address): lease.expires
            for address in self.leases.addresses()
            for name, lease in self.leases.of_address(address)
        }
        assert names == addresses == self.model.ends
        for address in self.leases.addresses():
            on_it = [name for name, _ in self.leases.of_address(address)]
            assert list(self.leases.names_of(address)) == on_it
        assert all(len(self.leases.of_name(name)) > 0 for name in self.leases.names())
        due, end = self.leases.next_expiry(), min(self.model.ends.values(), default=None)
        assert (due is None) == (end is None)
        assert due is None or end is None or due <= end, "one that was prolonged is looked at, too"


TestLeasesAndTheModel = LeasesAndTheModel.TestCase
