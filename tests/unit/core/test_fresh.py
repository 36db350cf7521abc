"""The quick way to open what is new leads to what the long way leads to."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core import engine as engine_module
from ramfw.core.commands import Program
from ramfw.core.events import AnswersHeld, Committed, HeldAnswer, PolicyLoaded, Rejected
from tests.unit.core.driver import SERVER, Driver
from tests.unit.core.policies import policy

HUB, ONE, TWO, BOTH = "hub.example", "one.wild.example", "two.wild.example", "both.wild.example"
BODY = f"""
[[allow]]
host = "*.wild.example"
ports = [443, 8443]
[[allow]]
host = "{BOTH}"
scopes = ["engines"]
[[allow]]
address = "192.0.2.13"
ports = [443]
"""
ADDRESSES = [f"192.0.2.{n}" for n in range(10, 15)] + ["2001:db8::10", "127.0.0.1"]

answers = st.builds(
    lambda handle, name, addresses, ttl: HeldAnswer(
        handle, name, tuple(ip_address(a).packed for a in addresses), ttl, SERVER
    ),
    st.integers(0, 3),
    st.sampled_from([HUB, ONE, TWO, BOTH, "elsewhere.example"]),
    st.lists(st.sampled_from(ADDRESSES), max_size=3, unique=True),
    st.integers(0, 300),
)
steps = st.lists(
    st.tuples(st.lists(answers, min_size=1, max_size=3), st.floats(0, 90)), max_size=12
)


def lived(story: list[tuple[list[HeldAnswer], float]]) -> list[object]:
    """What the kernel and the leases hold after each step, and what went on."""
    driver = Driver()
    driver.start(policy(BODY, HUB))
    seen: list[object] = []
    for held, seconds in story:
        driver.tell(AnswersHeld(tuple(held)))
        leases = driver.engine.leases
        seen.append(
            (
                driver.kernel.grants(),
                {name: leases.of_name(name) for name in leases.names()},
                sorted(driver.released),
                driver.engine.health.answers_learned,
                driver.engine.settled,
            )
        )
        driver.sleep(seconds)
    return seen


@given(steps)
def test_both_ways_lead_to_the_same(story: list[tuple[list[HeldAnswer], float]]) -> None:
    quick = lived(story)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "fresh_grants", lambda *_: None)
        assert lived(story) == quick


def begun() -> tuple[Driver, Program]:
    """A fresh answer whose transaction is under way."""
    driver = Driver()
    driver.start(policy(BODY, HUB))
    held = HeldAnswer(5, ONE, (ip_address("192.0.2.10").packed,), 300, SERVER)
    (program,) = driver.engine.handle(AnswersHeld((held,)), driver.now)
    assert isinstance(program, Program)
    assert program.releases == (5,)
    assert driver.engine.leases.names() == (), "that comes after it went on"
    return driver, program


def test_a_policy_that_takes_the_name_out_meanwhile_closes_it() -> None:
    driver, program = begun()
    assert driver.engine.handle(PolicyLoaded(policy("", HUB)), driver.now)
    driver.kernel.run(program.transaction)
    assert driver.open("192.0.2.10") == 17
    driver.tell(Committed())
    assert driver.open("192.0.2.10") is None
    assert driver.engine.leases.names() == ()


def test_a_policy_that_gives_it_to_another_entry_meanwhile_does_so() -> None:
    driver, program = begun()
    before = driver.engine.handle(PolicyLoaded(policy(BODY, ONE, HUB)), driver.now)
    assert not any(isinstance(command, Program) for command in before)
    driver.kernel.run(program.transaction)
    driver.tell(Committed())
    first = next(iter(driver.engine.numbering.entries))
    assert driver.open("192.0.2.10") == first
    assert driver.open("192.0.2.10", 8443) == 17


def test_what_the_kernel_refused_is_learned_and_opened_when_it_takes_it() -> None:
    driver, _ = begun()
    driver.tell(Rejected("ENOMEM"))
    assert driver.engine.leases.names() == (ONE,)
    assert driver.open("192.0.2.10") == 17
