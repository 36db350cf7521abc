"""What becomes of each packet that waits, told as the life of one connection."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from ramfw.core import flows, name_check
from ramfw.core.commands import Fate
from ramfw.core.events import Copied, HeldSegment
from ramfw.core.expected import STALE_AFTER
from ramfw.core.flows import LONGEST_REFUSED, NO_FLAGS, Flags
from ramfw.core.leases import Leases
from ramfw.core.marks import EXPECTED, LAST_EXPECTED_ID, LISTEN, PASSED, REFUSED
from ramfw.core.name_check import NameCheck
from ramfw.core.policy import ScopeName
from ramfw.wire import first_bytes
from tests.unit.core.policies import policy
from tests.unit.wire.hello_sample import hello, server_name

NAME, OTHER, REGISTRY = "nexus.example", "web.example", "ghcr.io"
ADDRESS = ip_address("203.0.113.1")
ENTRY, FIRST = 16, 1000
HANDLE = 7
STRICT = '[scopes.containers]\nmode = "strict"\n'
GO = Fate(HANDLE)


def judged(first: bytes, entry_id: int = ENTRY) -> Fate:
    """The packet goes on, and the kernel settles its flow when the server has taken these bytes."""
    return Fate(HANDLE, EXPECTED | entry_id, expects=FIRST + len(first))


def client_hello(name: str) -> bytes:
    return hello(server_name(name.encode()))


@dataclass
class Story:
    """One connection of a container, in a policy that permits one name."""

    body: str = STRICT
    host: str = NAME
    now: float = 0.0
    check: NameCheck = field(default_factory=lambda: NameCheck(first_bytes.read, first_bytes.ended))
    leases: Leases = field(default_factory=Leases)
    scope: ScopeName = ScopeName.CONTAINERS

    def __post_init__(self) -> None:
        self.follow()
        self.leases.learn(NAME, [ADDRESS.packed], 86_400, "192.0.2.53", self.now)

    def follow(self, *, permitting: bool = True) -> None:
        hosts = (self.host,) if permitting else ()
        read = policy(self.body, *hosts)
        self.check.follow(read, dict(enumerate(read.entries, ENTRY)), self.now)

    def opens(self, first: int = FIRST, number: int = 1) -> None:
        self.hears(first, opens=True, number=number)

    def hears(
        self, acknowledged: int, *, opens: bool = False, lost: bool = False, number: int = 2
    ) -> None:
        self.check.copied([Copied("flow", acknowledged, opens, number)], self.now, lost=lost)

    def sends(self, payload: bytes, at: int = 0, flags: Flags = NO_FLAGS) -> Fate | None:
        where = (ADDRESS.packed, 443, FIRST + at, payload, flags)
        return self.check.held(
            HeldSegment(HANDLE, "flow", self.scope, *where), self.leases, self.now
        )

    @property
    def listening(self) -> Fate:
        return Fate(HANDLE, LISTEN[self.scope])

    def settles(self, name: str, entry_id: int = ENTRY) -> Fate | None:
        """The whole of a connection, to the fate of the packet after its hello."""
        first = client_hello(name)
        self.opens()
        assert self.sends(first) == judged(first, entry_id)
        self.hears(FIRST + len(first))
        return self.sends(b"more", len(first))

    @property
    def reasons(self) -> list[tuple[str, str]]:
        return [(one.name, one.reason) for one in self.check.refusals.values()]


def test_permitted_name_becomes_its_entry_s_flow_when_the_server_has_taken_it() -> None:
    story = Story()
    assert story.settles(NAME) == Fate(HANDLE, ENTRY)
    assert story.check.judged == {"permitted": 1}


def test_other_name_is_refused_with_its_reason() -> None:
    story = Story()
    story.opens()
    assert story.sends(client_hello(OTHER)) == Fate(HANDLE, REFUSED)
    assert story.reasons == [(OTHER, "the name is not permitted")]


def test_what_was_on_its_way_when_its_client_was_told_is_dropped_not_reset() -> None:
    """A reset would overtake the answer. Later, or where nobody is told, there is one."""
    told, audited = Story(), Story(body=f'{STRICT}[enforcement]\nmode = "audit"\n')
    gone, passed_on = Fate(HANDLE, dropped=True), Fate(HANDLE, REFUSED)
    for story, then in ((told, gone), (audited, passed_on)):
        story.opens()
        assert story.sends(client_hello(OTHER)) == passed_on
        assert story.sends(b"more", 500) == then
        assert story.sends(b"", 504, Flags(fin=True)) == then
    told.now = name_check.LONGEST_TOLD
    assert told.sends(b"more", 500) == passed_on


def test_new_connection_of_a_client_that_was_told_is_judged_anew() -> None:
    story = Story()
    for first in (FIRST, 2 * FIRST):
        story.opens(first)
        assert story.sends(client_hello(OTHER), first - FIRST) == Fate(HANDLE, REFUSED)


def test_beginning_that_was_not_seen_is_refused_in_strict() -> None:
    story = Story()
    assert story.sends(client_hello(NAME)) == Fate(HANDLE, REFUSED)
    assert story.reasons == [("", flows.Reason.UNSEEN)]


def test_beginning_that_was_not_seen_is_read_from_here_on_in_registries() -> None:
    known, web = Story(body=""), Story(body="")
    assert known.sends(client_hello(REGISTRY), at=99) == Fate(HANDLE, REFUSED)
    assert web.sends(client_hello(OTHER), at=99) == GO
    assert web.check.judged == {"unseen": 1, "passed": 1}


def test_passed_flow_of_mode_registries_has_the_id_of_all_that_pass() -> None:
    assert Story(body="").settles(OTHER, PASSED) == Fate(HANDLE, PASSED)


def test_server_that_speaks_first_or_never_is_listened_to() -> None:
    """The copy that the rules make by themselves told nothing: the next packet asks for more."""
    story = Story(body="")
    story.opens()
    story.hears(FIRST)
    assert story.sends(b"select 1\n") == judged(b"select 1\n", PASSED)
    assert story.sends(b"select 1\n", 9) == story.listening
    story.hears(FIRST + 9)
    assert story.sends(b"select 1\n", 18) == Fate(HANDLE, PASSED)


def test_silence_of_an_hour_is_no_way_past() -> None:
    """It is read whenever it comes; what was refused for being slow stays so."""
    silent, slow = Story(body=""), Story(body="")
    for story in (silent, slow):
        story.opens()
    assert slow.sends(client_hello(REGISTRY)[:1]) == GO
    for story in (silent, slow):
        story.now = LONGEST_REFUSED - 1
        story.check.expire(story.now)
    assert silent.sends(client_hello(REGISTRY)) == Fate(HANDLE, REFUSED)
    assert slow.sends(client_hello(REGISTRY)[1:], 1) == Fate(HANDLE, REFUSED)


def test_connection_that_idled_after_its_hello_goes_on() -> None:
    first = client_hello(NAME)
    story = Story()
    story.opens()
    story.sends(first)
    story.hears(FIRST + len(first))
    story.now = 3000.0
    story.check.expire(story.now)
    assert story.sends(b"more", len(first)) == Fate(HANDLE, ENTRY)


def test_answer_that_is_long_in_coming_settles_too() -> None:
    first = client_hello(NAME)
    story = Story()
    story.opens()
    story.sends(first)
    story.now = 600.0
    story.check.expire(story.now)
    story.hears(FIRST + len(first))
    assert story.sends(b"more", len(first)) == Fate(HANDLE, ENTRY)


@pytest.mark.parametrize("taken", [False, True])
def test_what_was_taken_out_of_the_policy_is_refused_before_it_is_settled(taken: bool) -> None:  # noqa: FBT001
    first = client_hello(NAME)
    story = Story()
    story.opens()
    story.sends(first)
    if taken:
        story.hears(FIRST + len(first))
    story.follow(permitting=False)
    assert story.sends(b"more", len(first)) == Fate(HANDLE, REFUSED)


def test_syn_ack_that_comes_twice_changes_nothing() -> None:
    first = client_hello(NAME)
    story = Story()
    story.opens()
    story.sends(first)
    story.opens()
    story.hears(FIRST + len(first))
    story.opens()
    assert story.sends(b"more", len(first)) == Fate(HANDLE, ENTRY)


def test_new_connection_in_the_old_one_s_place_has_none_of_its_verdict() -> None:
    story = Story()
    first = client_hello(NAME)
    story.opens()
    story.sends(first)
    story.hears(FIRST + len(first))
    story.opens(FIRST + 50_000)
    assert story.sends(client_hello(OTHER), 50_000) == Fate(HANDLE, REFUSED)


def test_kernel_is_told_of_no_connection_whose_forerunner_it_may_remember() -> None:
    """Another on the same ports, with the same numbers, would be settled by the old one's bytes."""
    story, first = Story(), client_hello(NAME)
    story.opens(number=1)
    assert story.sends(first) == judged(first)
    story.now = STALE_AFTER - 0.1
    story.opens(number=5000)
    assert story.sends(first) == GO
    story.hears(FIRST + len(first))
    assert story.sends(b"more", len(first)) == Fate(HANDLE, ENTRY), "the daemon settles it"

    story.now = STALE_AFTER
    story.opens(number=9000)
    assert story.sends(first) == judged(first)


def test_kernel_is_told_nothing_while_it_may_remember_an_earlier_daemon_s() -> None:
    story, first = Story(), client_hello(NAME)
    story.check.expected.inherit(story.now)
    story.opens()
    assert story.sends(first) == GO

    story.now = STALE_AFTER
    story.opens(number=5000)
    assert story.sends(first) == judged(first)


def test_kernel_is_told_nothing_of_what_the_stream_ends_in_or_did_not_begin_in() -> None:
    """Of an end the server acknowledges more; where it began before, nobody knows what."""
    ends, unseen = Story(body=""), Story(body="")
    ends.opens()
    assert ends.sends(b"select 1", flags=Flags(fin=True)) == GO
    assert unseen.sends(client_hello(OTHER)) == GO


def test_kernel_is_told_only_ids_that_have_room_in_a_verdict() -> None:
    story, first = Story(), client_hello(NAME)
    read = policy(STRICT, NAME)
    story.check.follow(read, dict(enumerate(read.entries, LAST_EXPECTED_ID + 1)), 0.0)
    story.opens()
    assert story.sends(first) == GO

    story = Story()
    story.check.follow(read, dict(enumerate(read.entries, LAST_EXPECTED_ID)), 0.0)
    story.opens()
    assert story.sends(first) == judged(first, LAST_EXPECTED_ID)


@pytest.mark.parametrize("waits", [True, False])
def test_new_connection_that_begins_with_the_old_one_s_number_is_judged_anew(waits: bool) -> None:  # noqa: FBT001
    """Who writes raw packets chooses the numbers of its connections; it cannot the server's."""
    story = Story()
    first = client_hello(NAME)
    story.opens(number=1)
    story.sends(first)
    story.hears(FIRST + len(first))
    if not waits:
        assert story.sends(b"more", len(first)) == Fate(HANDLE, ENTRY)
    story.opens(number=5000)
    assert story.sends(client_hello(OTHER)) == Fate(HANDLE, REFUSED)

    story.opens(number=9000)
    assert story.sends(first) == GO, "the permitted one, on the same ports"


def test_lost_copies_have_all_forgotten() -> None:
    first = client_hello(NAME)
    story = Story()
    story.opens()
    story.sends(first)
    story.check.copied([], story.now, lost=True)
    assert story.sends(b"more", len(first)) == Fate(HANDLE, REFUSED)
    story.now = STALE_AFTER
    assert story.settles(NAME) == Fate(HANDLE, ENTRY)


def test_urgent_data_and_data_in_a_syn() -> None:
    story = Story()
    story.opens()
    assert story.sends(client_hello(NAME), flags=Flags(syn=True)) == Fate(HANDLE, dropped=True)
    assert story.sends(client_hello(NAME), flags=Flags(urgent=True)) == Fate(HANDLE, REFUSED)


def test_unknown_hosts_by_the_policy_s_word() -> None:
    refusing = Story(body='[scopes.containers]\nunknown = "refuse"\n')
    refusing.opens()
    assert refusing.sends(client_hello(OTHER)) == Fate(HANDLE, REFUSED)
    assert refusing.reasons == [(OTHER, "nothing is known about this host")]


def test_refusals_are_bounded_and_the_latest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_check, "MOST_REFUSALS", 2)
    story = Story()
    for number, name in enumerate(("a.example", "b.example", "a.example", "c.example")):
        story.opens(FIRST + number * 10_000)
        story.sends(client_hello(name), number * 10_000)
    assert [name for name, _ in story.reasons] == ["a.example", "c.example"]
    assert story.check.judged == {"refused": 4}


# -- what is told --------------------------------------------------------------------------------


def test_who_is_refused_is_told_once_with_the_organization_s_message() -> None:
    story = Story()
    story.opens()
    story.sends(client_hello(OTHER))
    (told,) = story.check.take_told()

    assert (told.handle, told.scope, told.host) == (HANDLE, ScopeName.CONTAINERS, OTHER)
    assert told.opening.server_name == OTHER  # type: ignore[union-attr]
    assert told.message.startswith(f"Access to {OTHER} has been restricted")
    story.sends(b"more", 500)
    assert story.check.take_told() == ()


def test_who_names_nobody_is_told_of_the_address() -> None:
    story = Story()
    story.opens()
    story.sends(hello())
    (told,) = story.check.take_told()
    assert told.host == str(ADDRESS)


def test_in_audit_mode_nobody_is_told() -> None:
    story = Story(body=f'{STRICT}[enforcement]\nmode = "audit"\n')
    story.opens()
    assert story.sends(client_hello(OTHER)) == Fate(HANDLE, REFUSED)
    assert story.check.take_told() == ()


def test_who_was_not_understood_is_told_nothing() -> None:
    story = Story()
    assert story.sends(b"middle", 99) == Fate(HANDLE, REFUSED)
    assert story.check.take_told() == ()


def test_reason_of_each_flow_is_known_by_the_flow_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that ask one address for different names at once are not taken for each other."""
    monkeypatch.setattr(name_check, "MOST_REFUSED_FLOWS", 2)
    story = Story()
    for flow, name in (("forgotten", REGISTRY), ("one", OTHER), ("another", REGISTRY)):
        story.check.copied([Copied(flow, FIRST, opens=True)], 0.0, lost=False)
        where = (ADDRESS.packed, 443, FIRST, client_hello(name), NO_FLAGS)
        segment = HeldSegment(HANDLE, flow, story.scope, *where)
        assert story.check.held(segment, story.leases, 0.0) == Fate(HANDLE, REFUSED)

    for flow, name in (("one", OTHER), ("another", REGISTRY)):
        refusal = story.check.take_refusal(flow)
        assert refusal is not None
        assert refusal.name == name
        assert story.check.take_refusal(flow) is None, "told once"
    assert story.check.take_refusal("forgotten") is None


def test_reason_has_what_exactly_was_wrong() -> None:
    story = Story()
    story.opens()
    story.sends(b"SSH-2.0-OpenSSH_9.2\r\n")
    assert story.reasons == [("", "it speaks neither TLS nor HTTP: SSH")]
