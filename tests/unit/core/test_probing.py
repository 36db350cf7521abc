"""Who waits for a host's answer, for how long, and what is remembered of it: as an engine's life.

No fate is given to a packet that waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core import probing
from ramfw.core.commands import Command, Decide, Fate, Note, Resolve
from ramfw.core.engine import Engine
from ramfw.core.events import (
    Answer,
    Copied,
    Event,
    HeldSegment,
    NoCgroupMatch,
    OpeningsHeld,
    PolicyLoaded,
    Resolved,
    ServerReply,
    Tick,
    WatchChanged,
)
from ramfw.core.flows import NO_FLAGS
from ramfw.core.marks import EXPECTED, PASSED, REFUSED
from ramfw.core.name_check import REGISTRY, NameCheck
from ramfw.core.policy import ScopeName
from ramfw.core.probe import Outcome, Place, Probe, Probed
from ramfw.core.probing import (
    LONGEST_IN_LINE,
    LONGEST_QUESTION,
    LONGEST_WAIT,
    MOST_AT_AN_ADDRESS,
    MOST_AT_ONCE,
    MOST_IN_LINE,
    MOST_IN_LINE_FOR_AN_ADDRESS,
    OTHER_KEPT,
    REGISTRY_KEPT,
    SILENT_KEPT,
    UNWELL,
)
from ramfw.core.registry_check import Evidence
from ramfw.core.watch_rules import WatchForm
from ramfw.wire import first_bytes
from tests.unit.core.policies import policy
from tests.unit.wire.hello_sample import hello, server_name

ASKS = '[scopes.containers]\nunknown = "probe"\n'
NAME, WEB = "registry.example", "web.example"
HERE, THERE = "203.0.113.1", "203.0.113.2"
SERVER = "192.0.2.53"
START = 1000.0


def place(name: str = NAME, address: str = HERE, port: int = 443) -> Place:
    return Place(name, ip_address(address).packed, port)


class Story:
    """Connections of containers, each a flow of its own."""

    def __init__(self, body: str = ASKS) -> None:
        self.now = START
        self.engine = Engine(lambda: 0.5, NameCheck(first_bytes.read, first_bytes.ended))
        self.asked: list[Place] = []
        self.resolved: list[str] = []
        self.fates: dict[int, Fate] = {}
        self.notes: list[str] = []
        self._flows = 0
        self.tell(WatchChanged(WatchForm.NATIVE, names=True))
        self.follow(body)

    def follow(self, body: str) -> None:
        self.tell(PolicyLoaded(policy(body, "permitted.example")))

    def tell(self, event: Event) -> None:
        self._take(self.engine.handle(event, self.now))

    def _take(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Decide(fates):
                    assert not {fate.handle for fate in fates} & self.fates.keys()
                    self.fates |= {fate.handle: fate for fate in fates}
                case Probe(where):
                    self.asked.append(where)
                case Resolve(name):
                    self.resolved.append(name)
                case Note(_, message):
                    self.notes.append(message)
                case _:
                    pass

    def opens(  # noqa: PLR0913 - what a connection has
        self,
        name: str | None = NAME,
        address: str = HERE,
        port: int = 443,
        *,
        seen: bool = True,
        flow: int = 0,
        first: int = 1,
        scope: ScopeName = ScopeName.CONTAINERS,
    ) -> int:
        """A connection sends its hello; the handle of the packet."""
        self._flows += 1
        key = flow or self._flows
        payload = hello(server_name(name.encode()) if name else b"")
        where = (ip_address(address).packed, port, first, payload, NO_FLAGS)
        copies = (Copied(key, first, opens=True),) if seen else ()
        self.tell(OpeningsHeld((HeldSegment(self._flows, key, scope, *where),), copies))
        return self._flows

    def hears(
        self, outcome: Outcome, where: Place | None = None, evidence: Evidence | None = None
    ) -> None:
        if outcome is Outcome.REGISTRY:
            evidence = evidence or Evidence.HEADER
        problem = "nobody is there" if outcome is Outcome.UNASKED else ""
        self.tell(Probed(where or self.asked[-1], outcome, evidence, problem))

    def given(self, name: str, *addresses: str) -> None:
        """Trusted servers gave these addresses for the name."""
        found = tuple(Answer(ip_address(a), 60, SERVER) for a in addresses)
        self.tell(Resolved(name, found, (ServerReply(SERVER, "ok"),)))

    def sleep(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.engine.deadline()) is not None and deadline <= end:
            self.now = max(deadline, self.now + 1e-6)
            self.tell(Tick())
        self.now = end
        self.tell(Tick())

    def waits(self, handle: int) -> bool:
        return handle not in self.fates

    def passed(self, handle: int) -> bool:
        """Whether it went on, by itself or to be settled by the kernel."""
        fate = self.fates.get(handle)
        by_kernel = {
            Fate(handle, EXPECTED | one) for one in (PASSED, *self.engine.numbering.entries)
        }
        return fate is not None and fate._replace(expects=0) in {Fate(handle), *by_kernel}

    def refused(self, handle: int) -> bool:
        return self.fates.get(handle) == Fate(handle, REFUSED)

    @property
    def counts(self) -> dict[str, int]:
        counts = self.engine.name_check.probing.counts
        return {str(what): number for what, number in counts.items() if number}


def found() -> Story:
    """A registry was found at one place."""
    story = Story()
    story.opens()
    story.hears(Outcome.REGISTRY)
    return story


# -- the answer --------------------------------------------------------------------------------


def test_first_connection_waits_and_is_refused_with_all_that_wait_beside_it() -> None:
    story = Story()
    first, second, other = story.opens(), story.opens(), story.opens(WEB, THERE)
    assert [story.waits(one) for one in (first, second, other)] == [True] * 3
    assert story.asked == [place(), place(WEB, THERE)]

    story.hears(Outcome.REGISTRY, place())

    assert story.refused(first)
    assert story.refused(second)
    assert story.waits(other)
    assert story.refused(story.opens())
    assert len(story.asked) == 2
    refusal = next(iter(story.engine.name_check.refusals.values()))
    assert (refusal.name, refusal.reason) == (NAME, REGISTRY)
    assert any("is a registry" in note for note in story.notes)


def test_what_is_no_registry_passes_and_is_not_asked_again() -> None:
    story = Story()
    first = story.opens()
    story.hears(Outcome.OTHER)
    assert story.passed(first)
    assert story.passed(story.opens())
    assert len(story.asked) == 1
    assert story.counts == {"asked": 1}
    story.sleep(OTHER_KEPT + 1)
    assert story.waits(story.opens())


def test_flow_that_passed_has_the_id_of_all_that_pass_when_its_server_took_it() -> None:
    story = Story()
    handle = story.opens(flow=7)
    story.hears(Outcome.OTHER)
    size = len(hello(server_name(NAME.encode())))
    more = HeldSegment(
        99, 7, ScopeName.CONTAINERS, place().address, 443, 1 + size, b"more", NO_FLAGS
    )
    story.tell(OpeningsHeld((more,), (Copied(7, 1 + size, opens=False),)))
    assert story.passed(handle)
    assert story.fates[99] == Fate(99, PASSED)


def test_known_and_permitted_hosts_are_not_asked() -> None:
    story = Story()
    assert story.refused(story.opens("ghcr.io"))
    assert story.asked == []


def test_only_scopes_that_ask_wait() -> None:
    story = Story()
    assert story.passed(story.opens(scope=ScopeName.HOST))
    refuses = found()
    refuses.follow(ASKS + '[scopes.host]\nunknown = "probe"\n')
    assert refuses.refused(refuses.opens(scope=ScopeName.HOST))


# -- what is remembered ------------------------------------------------------------------------


def test_no_registry_counts_for_its_address_and_port_alone() -> None:
    story = Story()
    story.opens()
    story.hears(Outcome.OTHER)
    assert story.waits(story.opens(address=THERE))
    assert story.waits(story.opens(port=8443))


def test_registry_counts_where_it_was_found_until_dns_confirms_its_name() -> None:
    story = found()
    assert story.resolved == [NAME]
    assert story.waits(story.opens(address=THERE))
    story.given(NAME, THERE)
    assert story.waits(story.opens(address="203.0.113.3"))
    story.given(NAME, THERE, HERE)
    assert story.refused(story.opens(address="203.0.113.4", port=8443))
    assert f"{NAME} is refused at every address" in story.notes


def test_nobody_can_have_another_s_name_refused_with_a_server_of_their_own() -> None:
    story = Story()
    story.opens(WEB, HERE)
    story.hears(Outcome.REGISTRY)
    story.given(WEB, THERE)
    own = story.opens(WEB, THERE)
    story.hears(Outcome.OTHER)
    assert story.passed(own)
    assert story.refused(story.opens(WEB, HERE))


def test_registry_that_said_otherwise_before_is_found_when_it_is_asked_again() -> None:
    story = Story()
    story.opens()
    story.hears(Outcome.OTHER)
    story.sleep(OTHER_KEPT + 1)
    again = story.opens()
    story.hears(Outcome.REGISTRY)
    assert story.refused(again)
    assert story.refused(story.opens())


def test_registry_is_forgotten_after_a_week() -> None:
    story = found()
    story.given(NAME, HERE)
    story.sleep(REGISTRY_KEPT - 1)
    assert story.refused(story.opens())
    story.sleep(2)
    assert story.waits(story.opens())
    assert list(story.engine.name_check.probing.registries(story.now)) == []


def test_host_without_a_name_is_its_address() -> None:
    story = Story()
    story.opens(None)
    assert story.asked == [place("")]
    assert story.asked[0].host == HERE
    story.hears(Outcome.REGISTRY)
    assert story.resolved == []
    assert story.refused(story.opens(None))
    assert story.waits(story.opens(NAME))


def test_a_registry_that_the_policy_permits_later_is_no_longer_refused() -> None:
    story = found()
    story.engine.leases.learn(NAME, [place().address], 86_400, SERVER, story.now)
    story.tell(PolicyLoaded(policy(ASKS, NAME)))
    assert story.passed(story.opens())


def test_memory_is_bounded_and_others_push_out_no_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probing, "MOST_FOUND", 2)
    monkeypatch.setattr(probing, "MOST_OTHERS", 2)
    story = found()
    for number in range(5):
        story.opens(f"n{number}.example")
        story.hears(Outcome.OTHER)
    assert story.refused(story.opens())
    for number in range(2):
        story.opens(f"r{number}.example")
        story.hears(Outcome.REGISTRY)
    assert story.waits(story.opens())


# -- no answer ---------------------------------------------------------------------------------


def test_nobody_waits_longer_than_the_bound_also_who_came_later() -> None:
    story = Story()
    first = story.opens()
    story.sleep(LONGEST_WAIT - 0.5)
    later = story.opens()
    assert story.waits(first)
    assert story.engine.deadline() == START + LONGEST_WAIT
    story.sleep(0.5)
    assert story.passed(first)
    assert story.passed(later)
    assert story.passed(story.opens()), "the answer is long in coming already"
    assert len(story.asked) == 1
    assert story.counts == {"asked": 1, "passed_unanswered": 3}


def test_answer_that_comes_late_counts_from_then_on() -> None:
    story = Story()
    first = story.opens()
    story.sleep(LONGEST_WAIT)
    story.hears(Outcome.REGISTRY)
    assert story.passed(first)
    assert story.refused(story.opens())


def test_silence_is_remembered_and_each_time_for_longer() -> None:
    story = Story()
    kept = SILENT_KEPT
    while kept < OTHER_KEPT:
        assert story.waits(story.opens())
        story.hears(Outcome.SILENT)
        story.sleep(kept - 1)
        assert story.passed(story.opens())
        story.sleep(2)
        kept *= 2
    story.opens()
    story.hears(Outcome.SILENT)
    story.sleep(OTHER_KEPT + 1)
    assert story.waits(story.opens())


def test_without_a_prober_who_waits_passes_and_nobody_else_waits_for_a_while() -> None:
    story = Story()
    first = story.opens()
    story.hears(Outcome.UNASKED)
    assert story.passed(first)
    assert story.passed(story.opens())
    assert story.counts == {"asked": 1, "passed_unasked": 2}
    assert story.engine.name_check.probing.problem == "nobody is there"
    story.sleep(UNWELL + 0.1)
    back = story.opens()
    assert story.waits(back)
    story.hears(Outcome.REGISTRY)
    assert story.refused(back)
    assert story.engine.name_check.probing.problem == ""
    said = [note for note in story.notes if "nobody is there" in note]
    assert len(said) == 1, "told once"


def test_question_of_which_nothing_comes_is_put_again_at_last() -> None:
    story = Story()
    story.opens()
    story.sleep(LONGEST_QUESTION + 1)
    assert story.waits(story.opens())
    assert len(story.asked) == 2


# -- bounds ------------------------------------------------------------------------------------


def crowded() -> Story:
    """As many hosts are asked as may be at once, and all are slow."""
    story = Story()
    crowd = [story.opens(f"n{n}.example", f"203.0.113.{n}") for n in range(MOST_AT_ONCE)]
    assert all(map(story.waits, crowd))
    return story


def test_no_more_are_asked_at_once_than_there_may_be_and_the_rest_stands_in_line() -> None:
    story, busy = crowded(), crowded()
    for one in (story, busy):
        assert one.waits(one.opens(address="203.0.113.200"))
        assert len(one.asked) == MOST_AT_ONCE
    story.hears(Outcome.OTHER, story.asked[0])
    assert story.asked[MOST_AT_ONCE:] == [place(address="203.0.113.200")], "its turn has come"
    story.hears(Outcome.REGISTRY)
    assert story.refused(MOST_AT_ONCE + 1)
    # Its twin waits no longer than any other, and passes, counted.
    busy.sleep(LONGEST_WAIT)
    assert busy.passed(MOST_AT_ONCE + 1)
    assert busy.counts["passed_unasked"] == 1


def test_registry_that_stood_in_line_too_long_for_the_first_is_refused_to_the_second() -> None:
    """Slow hosts, which a client may call on, keep nothing from being found."""
    story = crowded()
    story.opens(address="203.0.113.200")
    story.sleep(LONGEST_WAIT)
    assert story.passed(story.opens(address="203.0.113.200")), "nobody waits for it twice"
    story.hears(Outcome.SILENT, story.asked[0])
    story.hears(Outcome.REGISTRY, story.asked[MOST_AT_ONCE])
    assert story.refused(story.opens(address="203.0.113.200"))


def test_the_line_is_bounded_and_what_stands_in_it_is_not_kept_for_ever() -> None:
    story = crowded()
    slow = [story.opens(f"m{n}.example") for n in range(MOST_IN_LINE_FOR_AN_ADDRESS + 1)]
    assert [story.waits(one) for one in slow] == [True] * MOST_IN_LINE_FOR_AN_ADDRESS + [False]
    others = [story.opens(address=f"198.51.100.{n}") for n in range(MOST_IN_LINE)]
    left = MOST_IN_LINE - MOST_IN_LINE_FOR_AN_ADDRESS
    story.sleep(LONGEST_WAIT)
    assert all(story.passed(one) for one in (*slow, *others))
    story.sleep(LONGEST_IN_LINE)
    for asked in story.asked[:MOST_AT_ONCE]:
        story.hears(Outcome.OTHER, asked)
    assert left > MOST_AT_ONCE
    assert len(story.asked) == MOST_AT_ONCE, "their next connections begin anew"


def test_who_stands_in_line_passes_at_once_where_the_prober_is_gone() -> None:
    story = crowded()
    last = story.opens(address="203.0.113.200")
    story.hears(Outcome.UNASKED, story.asked[0])
    assert story.passed(last)
    assert len(story.asked) == MOST_AT_ONCE
    assert story.counts["passed_unasked"] == 2


def test_one_slow_address_takes_no_more_than_its_share() -> None:
    story = Story()
    waiting = [story.opens(f"n{number}.example") for number in range(MOST_AT_AN_ADDRESS)]
    assert all(map(story.waits, waiting))
    assert story.waits(story.opens("more.example"))
    assert len(story.asked) == MOST_AT_AN_ADDRESS, "it stands in line"
    assert story.waits(story.opens("more.example", THERE))
    assert story.asked[-1] == place("more.example", THERE)


def test_one_ipv6_network_takes_no_more_than_its_share() -> None:
    story = Story()
    for number in range(1, 6):
        assert story.waits(story.opens(address=f"2001:db8::{number}"))
    assert len(story.asked) == MOST_AT_AN_ADDRESS
    story.opens(address="2001:db8:0:1::1")
    assert len(story.asked) == MOST_AT_AN_ADDRESS + 1


def test_no_more_packets_wait_than_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "MOST_WAITING", 3)
    story = Story()
    crowd = [story.opens() for _ in range(5)]
    assert [story.waits(one) for one in crowd] == [True] * 3 + [False] * 2
    assert story.counts == {"asked": 1, "passed_unasked": 2}


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (NAME, "127.0.0.1"), (NAME, "169.254.169.254"), (NAME, "::1"), (NAME, "fe80::1"),
        (NAME, "64:ff9b::a9fe:a9fe"), ("a:b.example", HERE), ("..", HERE), (f"{'a' * 64}.b", HERE),
        ("a/b.example", HERE),
    ],
)  # fmt: skip
def test_special_addresses_and_names_that_cannot_be_asked_by_are_not(
    name: str, address: str
) -> None:
    story = Story()
    assert story.passed(story.opens(name, address))
    assert story.asked == []
    assert story.counts == {"passed_unasked": 1}


def test_underscore_is_no_way_past() -> None:
    story = Story()
    assert story.waits(story.opens("my_registry.example"))


def test_where_no_server_is_known_to_have_answered_the_client_nobody_is_asked() -> None:
    """A firewall behind ramfw may keep the two apart; the host itself is no way round it."""
    story = Story()
    assert story.passed(story.opens(seen=False))
    assert story.asked == []
    known = found()
    assert known.refused(known.opens(seen=False))


def test_kernel_that_cannot_tell_containers_on_the_hosts_network_asks_nobody() -> None:
    story = Story()
    story.tell(NoCgroupMatch())
    assert story.passed(story.opens())
    assert story.asked == []


# -- flows that change while they wait ---------------------------------------------------------


def test_new_connection_in_the_place_of_one_that_waits_has_a_wait_of_its_own() -> None:
    """Else an answer for a web site would let a registry pass that took its ports."""
    story = Story()
    old = story.opens(WEB, flow=7)
    new = story.opens(NAME, flow=7, first=90_000)
    story.hears(Outcome.OTHER, place(WEB))
    assert story.fates[old] == Fate(old, dropped=True)
    assert story.waits(new)
    story.hears(Outcome.REGISTRY, place(NAME))
    assert story.refused(new)


def test_flow_that_was_refused_while_it_waits_stays_so() -> None:
    story = Story()
    handle = story.opens(flow=7)
    other = HeldSegment(
        99, 7, ScopeName.CONTAINERS, place().address, 443, 1, b"\x16\x03\x01\xff", NO_FLAGS
    )
    story.tell(OpeningsHeld((other,), ()))
    story.hears(Outcome.OTHER)
    assert story.fates[99] == Fate(99, REFUSED)
    assert story.fates[handle] == Fate(handle, dropped=True)


def test_lost_copies_drop_what_waits_so_that_it_is_sent_again() -> None:
    story = Story()
    handle = story.opens()
    story.tell(OpeningsHeld((), (), lost=True))
    story.hears(Outcome.OTHER)
    assert story.fates[handle] == Fate(handle, dropped=True)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        ('[scopes.containers]\nunknown = "refuse"\n', True),
        ('[scopes.containers]\nmode = "strict"\n', True),
        ('[scopes.containers]\nunknown = "allow"\n', False),
    ],
)
def test_who_waits_over_a_reload_goes_by_the_new_policy(body: str, *, refused: bool) -> None:
    story = Story()
    handle = story.opens()
    story.follow(body)
    story.hears(Outcome.OTHER)
    assert story.refused(handle) is refused
    assert story.passed(handle) is not refused


# -- whatever happens --------------------------------------------------------------------------

NAMES = st.sampled_from([NAME, WEB, None, "ghcr.io", "permitted.example", "odd/name"])
ADDRESSES = st.sampled_from([HERE, THERE, "2001:db8::1", "127.0.0.1"])
OPENS = st.tuples(st.just("opens"), NAMES, ADDRESSES, st.integers(1, 3), st.booleans())
HEARS = st.tuples(st.just("hears"), st.integers(0, 9), st.sampled_from(Outcome))
SLEEPS = st.tuples(st.just("sleeps"), st.sampled_from([0.0, 0.5, 1.9, 2.0, 61.0, 4000.0]))
FOLLOWS = st.tuples(st.just("follows"), st.sampled_from(["probe", "allow", "refuse"]))
LOSES = st.just(("loses",))


@given(st.lists(st.one_of(OPENS, OPENS, HEARS, SLEEPS, FOLLOWS, LOSES), max_size=40))
def test_each_packet_that_waits_has_one_fate_and_within_the_bound(
    events: list[tuple[Any, ...]],
) -> None:
    """Also where flows take each other's ports, and answers come late, twice or for nothing."""
    story = Story()
    since: dict[int, float] = {}
    for first, event in enumerate(events, 1):
        match event:
            case "opens", name, address, flow, seen:
                handle = story.opens(name, address, flow=flow, first=first * 10_000, seen=seen)
                since[handle] = story.now
            case "hears", number, outcome if story.asked:
                story.hears(outcome, story.asked[number % len(story.asked)])
            case "sleeps", seconds:
                story.sleep(seconds)
            case "follows", unknown:
                story.follow(f'[scopes.containers]\nunknown = "{unknown}"\n')
            case ("loses",):
                story.tell(OpeningsHeld((), (), lost=True))
        waiting = [handle for handle in since if story.waits(handle)]
        assert len(waiting) == story.engine.name_check.probing.waiting
        assert all(story.now < since[handle] + LONGEST_WAIT for handle in waiting)
    story.sleep(LONGEST_WAIT)
    assert not [handle for handle in since if story.waits(handle)]
    assert not any(asked.address == ip_address("127.0.0.1").packed for asked in story.asked)
