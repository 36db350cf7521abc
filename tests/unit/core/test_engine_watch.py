"""Stories of answers that wait in the kernel: what they open is open before they go on."""

from __future__ import annotations

import errno
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramfw.core import engine as engine_module
from ramfw.core import ledger as ledger_module
from ramfw.core.commands import Command, Program, ReadTable, Release
from ramfw.core.engine import LONGEST_HOLD
from ramfw.core.events import (
    AnswersHeld,
    Committed,
    Event,
    HeldAnswer,
    LinksChanged,
    Rejected,
    ServersChanged,
    TableRead,
    Tick,
)
from ramfw.core.leases import GRACE, SHORTEST_TTL
from ramfw.core.transaction import AddGrant, DeleteGrant
from ramfw.errors import KernelError
from tests.unit.core.driver import SERVER, Driver
from tests.unit.core.policies import policy

HUB, GHCR = "hub.example", "ghcr.example"
WILD = '[[allow]]\nhost = "*.wild.example"'
ONE, TWO, THREE = "one.wild.example", "two.wild.example", "three.wild.example"
A, B, C = "192.0.2.10", "192.0.2.11", "2001:db8::10"


def started(*hosts: str, body: str = WILD) -> Driver:
    driver = Driver()
    driver.start(policy(body, *hosts))
    return driver


def held(handle: int, name: str, *addresses: str, ttl: int = 300) -> HeldAnswer:
    return HeldAnswer(handle, name, tuple(ip_address(a).packed for a in addresses), ttl, SERVER)


def released(commands: list[Command]) -> list[int]:
    return [handle for c in commands if isinstance(c, Release) for handle in c.handles]


def carried(commands: list[Command]) -> list[int]:
    """What goes on when the kernel has decided on what was begun."""
    return [handle for program in programs(commands) for handle in program.releases]


def programs(commands: list[Command]) -> list[Program]:
    return [command for command in commands if isinstance(command, Program)]


# -- what is open when it goes on --------------------------------------------------------------


def test_an_answer_goes_on_when_its_addresses_are_open_and_not_before() -> None:
    driver = started()
    seen: list[tuple[int, int | None, int | None]] = []
    driver.on_release = lambda handle: seen.append((handle, driver.open(A), driver.open(C)))
    handle = driver.hold(ONE, A, C)
    assert seen == [(handle, 16, 16)]


def test_it_waits_for_the_kernel_s_word_however_long_the_commit_takes() -> None:
    engine, now = started().engine, 1001.0
    commands = engine.handle(AnswersHeld((held(5, ONE, A),)), now)
    assert (len(programs(commands)), carried(commands), released(commands)) == (1, [5], [])
    assert released(engine.handle(Tick(), now + 1)) == []
    assert engine.handle(Committed(), now + 1) == []
    assert engine.handle(Tick(), now + LONGEST_HOLD + 1) == [], "nothing waits any more"


def test_answers_that_come_together_open_in_one_transaction() -> None:
    engine = started().engine
    event = AnswersHeld((held(5, ONE, A), held(6, TWO, B), held(7, THREE, A, C)))
    (program,) = programs(engine.handle(event, 1001.0))
    assert program.releases == (5, 6, 7)
    opened = {op.key.network.network_address for op in program.transaction}  # type: ignore[union-attr]
    assert {str(address) for address in opened} == {A, B, C}


def test_an_answer_that_comes_while_a_change_is_under_way_goes_with_the_next() -> None:
    engine, now = started().engine, 1001.0
    engine.handle(AnswersHeld((held(5, ONE, A),)), now)
    assert engine.handle(AnswersHeld((held(6, TWO, B),)), now) == []
    commands = engine.handle(Committed(), now)
    assert (len(programs(commands)), carried(commands)) == (1, [6])


def test_the_same_address_again_while_its_change_is_under_way_waits_for_it() -> None:
    engine, now = started().engine, 1001.0
    engine.handle(AnswersHeld((held(5, ONE, A),)), now)
    assert engine.handle(AnswersHeld((held(6, ONE, A),)), now) == []
    assert released(engine.handle(Committed(), now)) == [6]


def test_an_answer_that_comes_while_the_rules_are_read_back_waits_for_what_it_opens() -> None:
    driver = started()
    engine, now = driver.engine, driver.now
    commands = engine.handle(LinksChanged(frozenset(), frozenset({"br-lan"}), frozenset()), now)
    driver.kernel.run(programs(commands)[0].transaction)
    assert any(isinstance(c, ReadTable) for c in engine.handle(Committed(), now))
    assert engine.handle(AnswersHeld((held(5, ONE, A),)), now) == []
    read = TableRead(driver.kernel.read(with_grants=False))
    commands = engine.handle(read, now)
    assert (carried(commands), released(commands)) == ([5], [])


def test_what_does_not_fit_into_one_transaction_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger_module, "MOST_GRANTS_A_TRANSACTION", 2)
    driver = started()
    addresses = [f"192.0.2.{n}" for n in range(100, 107)]
    seen: list[bool] = []
    driver.on_release = lambda _: seen.append(all(driver.open(a) for a in addresses))
    driver.hold(ONE, *addresses)
    assert seen == [True]


def test_an_answer_that_opens_nothing_new_goes_on_at_once() -> None:
    driver = started()
    driver.hold(ONE, A, ttl=300)
    committed = len(driver.kernel.committed)
    driver.now += 1
    handle = driver.hold(ONE, A, ttl=299)
    assert driver.released[-1] == handle
    assert len(driver.kernel.committed) == committed


def test_a_packet_with_two_answers_is_let_go_once() -> None:
    driver = started()
    driver.tell(AnswersHeld((held(5, ONE, A), held(5, TWO, B))))
    assert driver.released == [5]
    assert (driver.open(A), driver.open(B)) == (16, 16)


def test_a_copy_opens_and_nothing_is_let_go() -> None:
    driver = started()
    driver.tell(AnswersHeld((held(0, ONE, A),)))
    assert driver.open(A) == 16
    assert driver.released == []


# -- what does not open ------------------------------------------------------------------------


def test_a_name_that_no_entry_permits_goes_on_and_opens_nothing() -> None:
    driver = started(HUB)
    for name in (GHCR, "wild.example", "one.wild.example.org", "xwild.example"):
        handle = driver.hold(name, B)
        assert driver.released[-1] == handle
    assert driver.open(B) is None
    assert driver.engine.leases.names() == ()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "169.254.169.254", "224.0.0.1", "::", "::1", "fe80::1", "::ffff:127.0.0.1",
     "64:ff9b::7f00:1"],
)  # fmt: skip
def test_a_special_address_never_opens_and_the_others_of_the_answer_do(address: str) -> None:
    driver = started()
    handle = driver.hold(ONE, address, A)
    assert driver.open(A) == 16
    assert driver.released == [handle]
    assert set(driver.engine.leases.of_name(ONE)) == {ip_address(A).packed}
    assert driver.open(address) is None


def test_the_names_that_are_learned_are_bounded_and_exact_ones_are_not_counted_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "MOST_LEARNED_NAMES", 2)
    driver = started(HUB)
    driver.hold(ONE, "192.0.2.101")
    driver.hold(TWO, "192.0.2.102")
    beyond = driver.hold(THREE, "192.0.2.103")
    assert driver.released[-1] == beyond, "it goes on all the same"
    assert driver.open("192.0.2.103") is None
    assert driver.engine.health.answers_beyond_bound == 1
    driver.hold(HUB, A)
    driver.hold(ONE, B)
    assert (driver.open(A), driver.open(B)) == (16, 17), "known ones are kept up"
    driver.sleep(300 + GRACE + 1)
    driver.hold(THREE, "192.0.2.103")
    assert driver.open("192.0.2.103") == 17, "there is room again"


def test_a_wildcard_taken_out_of_the_policy_is_closed_at_once() -> None:
    driver = started(HUB)
    driver.hold(ONE, A)
    assert driver.open(A) == 17
    driver.reload(policy("", HUB))
    assert driver.open(A) is None
    assert not driver.engine.permits(ONE)


# -- how long it stays open --------------------------------------------------------------------


def test_what_was_learned_outlives_the_client_s_cache_and_then_closes() -> None:
    driver = started()
    driver.hold(ONE, A, ttl=60)
    driver.sleep(60 + GRACE - 1)
    assert driver.open(A) == 16
    driver.sleep(2)
    assert driver.open(A) is None
    driver.hold(TWO, B, ttl=0)
    assert driver.remaining(B) >= SHORTEST_TTL + GRACE - 1


def test_leases_that_end_one_after_the_other_are_seen_to_once_a_second() -> None:
    """A tick for each lease would take longer than its answer did."""
    driver = started()
    for number in range(200):
        driver.now += 0.005
        driver.hold(f"a{number}.wild.example", f"198.51.100.{number + 1}", ttl=10)
    assert len(driver.engine.leases) == 200
    first, ticks = driver.now + 10 + GRACE - 1.0, 0
    while len(driver.engine.leases):
        deadline = driver.engine.deadline()
        assert deadline is not None
        driver.now = max(driver.now, deadline)
        driver.tell(Tick())
        ticks += driver.now >= first
    assert ticks <= 3
    assert driver.now <= first + 2.0


def test_the_same_answer_again_prolongs_its_element_in_one_batch() -> None:
    driver = started()
    driver.hold(ONE, A, ttl=60)
    driver.sleep(50)
    driver.hold(ONE, A, ttl=60)
    kinds = [type(operation) for operation in driver.kernel.committed[-1]]
    assert kinds == [AddGrant, DeleteGrant, AddGrant]
    assert driver.remaining(A) >= 60 + GRACE - 1


def test_an_address_of_two_names_closes_with_the_last_lease() -> None:
    driver = started(HUB)
    driver.hold(HUB, A, ttl=60)
    driver.hold(ONE, A, ttl=600)
    assert driver.open(A) == 16
    assert [name for name, _ in driver.engine.leases.of_address(ip_address(A).packed)] == [HUB, ONE]
    driver.sleep(60 + GRACE + 1)
    assert driver.open(A) == 17, "the wildcard's entry has it now"
    driver.sleep(600)
    assert driver.open(A) is None


def test_an_answer_for_an_exact_name_opens_beside_what_was_resolved_ahead() -> None:
    driver = started(HUB)
    driver.answers(HUB, A)
    driver.hold(HUB, B)
    assert (driver.open(A), driver.open(B)) == (16, 16)


def test_an_answer_from_a_cache_opens_after_a_restart_with_an_empty_table() -> None:
    driver = started()
    driver.hold(ONE, A)
    driver.kernel.flush()
    driver.restart(policy(WILD))
    assert driver.open(A) is None
    driver.hold(ONE, A, ttl=17)
    assert driver.open(A) == 16


# -- nothing waits for ever --------------------------------------------------------------------


def test_a_refused_change_lets_its_answers_go() -> None:
    engine, now = started().engine, 1001.0
    assert carried(engine.handle(AnswersHeld((held(5, ONE, A),)), now)) == [5]
    engine.handle(AnswersHeld((held(6, TWO, B),)), now)
    assert released(engine.handle(Rejected("ENOMEM"), now)) == [6]


def test_while_the_kernel_goes_on_refusing_answers_pass_at_once() -> None:
    driver = started()
    driver.kernel.failures += [KernelError(errno.ENOMEM, "batch") for _ in range(4)]
    for name in (ONE, TWO, THREE):
        handle = driver.hold(name, A)
        assert driver.released[-1] == handle
    driver.sleep(60)
    assert driver.open(A) == 16


def test_after_a_refusal_that_was_mended_answers_are_held_again() -> None:
    driver = started()
    driver.kernel.failures.append(KernelError(errno.ENOMEM, "batch"))
    driver.hold(ONE, A)
    assert driver.open(A) == 16
    engine, now = driver.engine, driver.now
    assert carried(engine.handle(AnswersHeld((held(91, TWO, B),)), now)) == [91]
    assert engine.handle(AnswersHeld((held(92, THREE, C),)), now) == []
    assert carried(engine.handle(Committed(), now)) == [92]


def test_a_kernel_that_does_not_answer_holds_an_answer_for_a_moment_only() -> None:
    engine, now = started().engine, 1001.0
    engine.handle(AnswersHeld((held(5, ONE, A),)), now)
    engine.handle(AnswersHeld((held(6, TWO, B),)), now + 1)
    assert engine.deadline() == now + LONGEST_HOLD
    assert released(engine.handle(Tick(), now + LONGEST_HOLD)) == [5]
    assert engine.deadline() == now + 1 + LONGEST_HOLD
    assert released(engine.handle(Tick(), now + 1 + LONGEST_HOLD)) == [6]
    assert released(engine.handle(Committed(), now + 9)) == [], "none is let go twice"


def test_before_all_is_known_nothing_is_held() -> None:
    driver = Driver()
    driver.tell(TableRead(None))
    driver.reload(policy(WILD))
    handle = driver.hold(ONE, A)
    assert driver.released == [handle]
    assert driver.kernel.committed == []


NAMES = st.sampled_from([ONE, TWO, HUB, GHCR])
ADDRESSES = st.lists(st.sampled_from([A, B, C, "127.0.0.1"]), max_size=3)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hold"), st.tuples(NAMES, ADDRESSES, st.integers(0, 400))),
        st.tuples(st.just("completed"), st.booleans()),
        st.tuples(st.just("read"), st.none()),
        st.tuples(st.just("links"), st.booleans()),
        st.tuples(st.just("servers"), st.booleans()),
        st.tuples(st.just("pass"), st.floats(0, 3)),
    ),
    max_size=40,
)


class Slow:
    """A kernel that answers when the story says so; each answer is watched on its way."""

    def __init__(self) -> None:
        self.driver = started(HUB)
        self.engine = self.driver.engine
        self.under_way: list[Program] = []
        self.reads: list[ReadTable] = []
        self.since: dict[int, float] = {}
        self.wanted: dict[int, tuple[str, list[str]]] = {}
        self.gone: list[int] = []
        self.refused = False

    def tell(self, event: Event) -> None:
        commands = self.engine.handle(event, self.driver.now)
        self.under_way += programs(commands)
        assert len(self.under_way) <= 1
        self.reads += (c for c in commands if isinstance(c, ReadTable))
        for handle in released(commands):
            self.goes_on(handle)

    def goes_on(self, handle: int) -> None:
        assert handle not in self.gone
        self.gone.append(handle)
        waited = self.driver.now - self.since[handle]
        assert waited <= LONGEST_HOLD
        name, addresses = self.wanted[handle]
        if waited < LONGEST_HOLD and not self.refused and self.engine.permits(name):
            assert all(self.driver.open(a) for a in addresses if a != "127.0.0.1")

    def hold(self, name: str, addresses: list[str], ttl: int) -> None:
        handle = len(self.since) + 1
        self.since[handle], self.wanted[handle] = self.driver.now, (name, addresses)
        self.tell(AnswersHeld((held(handle, name, *addresses, ttl=ttl),)))

    def complete(self, *, good: bool) -> None:
        program = self.under_way.pop()
        if good:
            self.driver.kernel.run(program.transaction)
        else:
            self.refused = True
        for handle in program.releases:
            if handle not in self.gone:  # the kernel lets go of it once
                self.goes_on(handle)
        self.tell(Committed() if good else Rejected("ENOMEM"))

    def read(self) -> None:
        with_grants = self.reads.pop(0).with_grants
        self.tell(TableRead(self.driver.kernel.read(with_grants=with_grants)))

    def sleep(self, seconds: float) -> None:
        end = self.driver.now + seconds
        while (due := self.engine.deadline()) is not None and due <= end:
            self.driver.now = max(self.driver.now, due)
            self.tell(Tick())
        self.driver.now = end


@given(STEPS)
@settings(max_examples=200)
def test_whatever_happens_each_answer_goes_on_once_in_time_and_opened_if_it_can_be(
    story: list[tuple[str, object]],
) -> None:
    slow = Slow()
    for what, with_ in story:
        match what, with_:
            case "hold", (str(name), list(addresses), int(ttl)):
                slow.hold(name, addresses, ttl)
            case "completed", bool(good) if slow.under_way:
                slow.complete(good=good)
            case "read", _ if slow.reads:
                slow.read()
            case "links", bool(there):
                uplinks = frozenset({"br-lan"} if there else ())
                slow.tell(LinksChanged(frozenset(), uplinks, frozenset()))
            case "servers", bool(more):
                servers = [SERVER, "192.0.2.54"][: 1 + more]
                slow.tell(ServersChanged(tuple(map(ip_address, servers))))
            case "pass", float(seconds):
                slow.sleep(seconds)
    slow.sleep(LONGEST_HOLD)
    assert sorted(slow.gone) == sorted(slow.since)
