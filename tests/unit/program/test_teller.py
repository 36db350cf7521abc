"""A refused client is told why where that can be, and else is reset: which of them, and when.

What arrives, and what clients make of it, is shown in the lab.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from ramfw.core.commands import Decide, Fate, Told
from ramfw.core.events import Copied
from ramfw.core.marks import ANSWERED, REFUSED
from ramfw.core.opening import Hello, Opening, Other
from ramfw.core.policy import ScopeName
from ramfw.errors import KernelError
from ramfw.program import teller
from ramfw.program.teller import HEARD_WITHIN, MOST_UNHEARD, NOT_TOLD_FOR, Teller
from ramfw.wire import netlink, tcp, tcp_packet
from ramfw.wire.refusal import TLS_ALERT
from tests.unit.wire.test_nfnetlink import tuple_of
from tests.unit.wire.test_tcp import FOUR, SIX, packet, segment

HELLO = Hello("ghcr.io", encrypted=False, alpn=(), end=7)
HERE = ip_address("203.0.113.9").packed
MASKED = tcp.FlowKey(FOUR.destination, HERE, 443, 61000)
WANTED = FOUR._replace(destination=ip_address("198.51.100.7").packed, dport=8443)
"""The flow of a client that knows its server by another address than the packet has."""


def flow_message(original: tcp.FlowKey, reply: tcp.FlowKey, sequence: int) -> bytes:
    """What the kernel answers to a question after a flow."""
    directions = tuple_of(1, original) + tuple_of(2, reply)
    return netlink.message(0x100, 0, sequence, bytes(4) + directions)


@dataclass
class Machine:
    """The device, and the flows that the kernel knows by the packets of either side."""

    flows: dict[tcp.FlowKey, tcp.FlowKey] = field(
        default_factory=lambda: {FOUR: MASKED, SIX: SIX.reverse}
    )
    up: bool = True
    write_fails: int = 0
    none_to_be_had: int = 0
    written: list[bytes] = field(default_factory=list)
    made: int = 0
    closed: int = 0
    question: bytes = b""

    # The device

    def open(self) -> Machine:
        if self.none_to_be_had:
            raise KernelError(self.none_to_be_had, "opening /dev/net/tun")
        self.made += 1
        return self

    def is_up(self) -> bool:
        return self.up

    def write(self, data: bytes) -> None:
        if self.write_fails:
            raise OSError(self.write_fails, os.strerror(self.write_fails))
        self.written.append(data)

    def close(self) -> None:
        self.closed += 1

    # The socket that asks after flows

    def setblocking(self, _: bool) -> None:  # noqa: FBT001
        """As all of the daemon's."""

    def send(self, question: bytes) -> None:
        self.question = question

    def recv(self, _: int) -> bytes:
        (one,) = netlink.messages(self.question)
        for flow, reply in self.flows.items():
            if any(tuple_of(1, direction) in self.question for direction in (flow, reply)):
                return flow_message(flow, reply, one.sequence)
        return netlink.message(2, 0, one.sequence, struct.pack("=i", -errno.ENOENT))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(teller, "Tun", machine.open)
    monkeypatch.setattr("ramfw.program.teller.socket.socket", lambda *_: machine)
    monkeypatch.setattr(teller, "own_address", lambda _: HERE)
    return machine


@dataclass
class Story:
    """One daemon's teller, and its clock."""

    machine: Machine
    now: float = 0.0
    teller: Teller = field(default_factory=Teller)

    def __post_init__(self) -> None:
        self.teller.open(self.now)

    def refuses(
        self,
        key: tcp.FlowKey = FOUR,
        opening: Opening = HELLO,
        scope: ScopeName = ScopeName.CONTAINERS,
    ) -> int | None:
        """The id that the verdict brings."""
        held = packet(key, b"a hello", sequence=1000, ack=5000)
        told = Told(7, scope, held, opening, "ghcr.io", "no")
        decision = Decide((Fate(6), Fate(7, REFUSED)), (told,))
        other, fate = self.teller.prepare(decision, self.now)
        assert other == Fate(6)
        before = len(self.machine.written)
        self.teller.tell(self.now)
        sent = len(self.machine.written) > before
        assert sent == (fate.entry_id == ANSWERED and not self.machine.write_fails)
        return fate.entry_id

    def hears(self, key: tcp.FlowKey = FOUR, *, lost: bool = False) -> None:
        self.teller.saw([Copied(tcp_packet.key(key), 1007, opens=False)], lost=lost)

    def unheard(self, times: int, key: tcp.FlowKey = FOUR) -> None:
        for _ in range(times):
            assert self.refuses(key) == ANSWERED
            self.now += HEARD_WITHIN


@pytest.fixture
def story(machine: Machine) -> Story:
    return Story(machine)


@pytest.mark.parametrize(("key", "reply"), [(FOUR, MASKED), (SIX, SIX.reverse)])
def test_answer_comes_as_from_the_server_on_the_wire(
    story: Story, key: tcp.FlowKey, reply: tcp.FlowKey
) -> None:
    assert story.refuses(key) == ANSWERED

    (data,) = story.machine.written
    sent = segment(data)
    assert (sent.key, sent.sequence, sent.acknowledged) == (reply, 5000, 1007)
    assert data[sent.start : sent.end] == TLS_ALERT
    story.hears(key)
    assert (story.teller.told, story.teller.heard) == (1, 1)


@pytest.mark.parametrize(
    "reply",
    [FOUR.reverse, FOUR.reverse._replace(destination=HERE)],
    ids=["as it is", "masqueraded"],
)
def test_where_nat_chose_the_server_the_answer_comes_as_that_one_s(
    story: Story, reply: tcp.FlowKey
) -> None:
    story.machine.flows = {WANTED: reply}

    assert story.refuses() == ANSWERED

    (data,) = story.machine.written
    assert segment(data).key == reply
    # Where it gets through, NAT may have written the server's address that the client knows.
    story.hears(WANTED)
    assert story.teller.heard == 1


@pytest.mark.parametrize(
    ("original", "reply"),
    [
        (WANTED, FOUR.reverse._replace(dport=1025)),
        (WANTED._replace(sport=1025), FOUR.reverse),
        (WANTED._replace(source=HERE), FOUR.reverse),
        (WANTED._replace(source=HERE), FOUR.reverse._replace(destination=HERE)),
        (FOUR.reverse, WANTED),
    ],
    ids=["another port", "another's port", "another's", "this host's own", "the other way"],
)
def test_another_s_flow_with_that_server_is_never_answered(
    story: Story, original: tcp.FlowKey, reply: tcp.FlowKey
) -> None:
    story.machine.flows = {original: reply}

    assert story.refuses() == REFUSED
    assert story.machine.written == []


def test_nothing_is_sent_before_the_verdict(story: Story) -> None:
    told = Told(7, ScopeName.HOST, packet(FOUR, b"x"), HELLO, "ghcr.io", "no")
    story.teller.prepare(Decide((Fate(7, REFUSED),), (told,)), 0.0)
    assert story.machine.written == []


def test_what_is_no_refusal_costs_nothing(story: Story) -> None:
    fates = (Fate(7), Fate(8, 16))
    assert story.teller.prepare(Decide(fates), 0.0) is fates


def no_flow(machine: Machine) -> None:
    machine.flows.clear()


def down(machine: Machine) -> None:
    machine.up = False


def silent(machine: Machine) -> None:
    def recv(_: int) -> bytes:
        raise BlockingIOError(errno.EAGAIN, "nothing there")

    machine.recv = recv  # type: ignore[method-assign]


def garbled(machine: Machine) -> None:
    machine.recv = lambda _: b"\xff" * 40  # type: ignore[method-assign]


@pytest.mark.parametrize("trouble", [no_flow, down, silent, garbled])
def test_whatever_goes_wrong_before_is_a_reset(
    story: Story, trouble: Callable[[Machine], None]
) -> None:
    trouble(story.machine)

    assert story.refuses() == REFUSED
    assert story.machine.written == []


def test_who_speaks_neither_tls_nor_http_is_reset(story: Story) -> None:
    assert story.refuses(opening=Other("SSH")) == REFUSED


def test_device_that_is_taken_away_is_made_again_later(story: Story) -> None:
    story.machine.up = False
    assert story.refuses() == REFUSED
    assert story.teller.problem == "its device was taken away"
    story.machine.up = True
    assert story.refuses() == REFUSED
    story.now += NOT_TOLD_FOR
    assert story.refuses() == ANSWERED
    assert (story.machine.made, story.teller.problem) == (2, "")


def test_device_that_takes_nothing_more_is_given_up(story: Story) -> None:
    """That client sends its bytes again, and is reset; the next is reset at once."""
    story.machine.write_fails = errno.EIO
    assert story.refuses() == ANSWERED
    assert story.teller.problem == "[Errno 5] Input/output error"
    assert story.refuses() == REFUSED
    assert story.machine.closed == 2


def test_without_the_device_all_are_reset_and_it_says_why(machine: Machine) -> None:
    machine.none_to_be_had = errno.EACCES
    story = Story(machine)
    assert story.refuses() == REFUSED
    assert story.teller.problem == "opening /dev/net/tun: Permission denied"


def test_where_answers_do_not_arrive_nobody_is_told_for_a_while(story: Story) -> None:
    story.unheard(MOST_UNHEARD, SIX)

    assert story.refuses(SIX) == REFUSED
    assert story.teller.unheard_ways(story.now) == ("containers (IPv6)",)
    assert story.refuses(FOUR) == ANSWERED, "another way"
    assert story.refuses(SIX, scope=ScopeName.HOST) == ANSWERED, "another way"
    story.now += NOT_TOLD_FOR
    assert story.teller.unheard_ways(story.now) == ()
    story.unheard(1, SIX)
    assert story.refuses(SIX) == REFUSED, "one that fails is enough then"


def test_when_others_have_changed_their_rules_it_is_tried_again_as_at_first(story: Story) -> None:
    story.unheard(MOST_UNHEARD, SIX)
    assert story.refuses(SIX) == REFUSED
    story.teller.try_again()
    assert story.teller.unheard_ways(story.now) == ()
    story.unheard(MOST_UNHEARD - 1, SIX)
    assert story.refuses(SIX) == ANSWERED
    story.hears(SIX)


def test_one_that_arrives_makes_up_for_those_before(story: Story) -> None:
    story.unheard(MOST_UNHEARD - 1)
    assert story.refuses() == ANSWERED
    story.hears()
    story.unheard(MOST_UNHEARD - 1)

    assert story.refuses() == ANSWERED


def test_what_may_have_been_seen_does_not_count(story: Story) -> None:
    for _ in range(MOST_UNHEARD * 2):
        assert story.refuses() == ANSWERED
        story.hears(SIX, lost=True)
        story.now += HEARD_WITHIN
    assert story.teller.heard == 0


def test_what_is_awaited_is_bounded(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller, "MOST_AWAITED", 1)
    assert story.refuses(FOUR) == story.refuses(SIX) == ANSWERED
    story.hears(FOUR)
    assert story.teller.heard == 0
    story.hears(SIX)
    assert story.teller.heard == 1
