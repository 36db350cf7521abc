"""The DNS watch, fed with the kernel's own datagrams: packets that were shown, held or copied.

The sockets are fakes: a test puts there what the kernel would send, and reads the verdicts.
"""

from __future__ import annotations

import errno
import struct
from collections import deque
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramfw.core.events import HeldAnswer
from ramfw.core.questions import PATIENCE
from ramfw.core.watch_rules import ANSWER_GROUP, QUESTION_GROUP, QUEUE_NUMBER, WatchForm
from ramfw.errors import ObserveError
from ramfw.observe import dnswatch
from ramfw.observe.dnswatch import DnsWatch, _joined
from ramfw.wire import netlink, nflog, nfqueue, packet
from ramfw.wire.dns_void import MOST_PARTS
from tests.unit.wire.test_packet import is_right

NAME = "registry.example"
CLIENT, SERVER, OTHER = "192.0.2.2", "192.0.2.53", "192.0.2.54"
CLIENT6, SERVER6 = "2001:db8::2", "2001:db8::53"
PORT = 40_000
ADDRESS = "203.0.113.1"

QUEUED, LOGGED, CONFIG = 0x0300, 0x0400, 1


# -- packets -----------------------------------------------------------------------------------


def ip(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    """A packet; the checksum of its body is left to whoever reads it, as the kernel may."""
    s, d = ip_address(source), ip_address(destination)
    if s.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + s.packed + d.packed + body
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return head + s.packed + d.packed + body


@dataclass(frozen=True)
class Ends:
    """Who asks whom."""

    client: str = CLIENT
    server: str = SERVER
    port: int = PORT

    def udp(self, payload: bytes, *, asks: bool) -> bytes:
        ports = (self.port, 53) if asks else (53, self.port)
        body = struct.pack("!HHHH", *ports, 8 + len(payload), 0xBEEF) + payload
        return self._ip(packet.UDP, body, asks=asks)

    def tcp(self, sequence: int, payload: bytes = b"", *, asks: bool, flags: int = 0x10) -> bytes:
        ports = (self.port, 53) if asks else (53, self.port)
        header = struct.pack("!HHIIBBHHH", *ports, sequence % (1 << 32), 0, 5 << 4, flags, 0, 0, 0)
        return self._ip(packet.TCP, header + payload, asks=asks)

    def _ip(self, protocol: int, body: bytes, *, asks: bool) -> bytes:
        ends = (self.client, self.server) if asks else (self.server, self.client)
        return ip(*ends, protocol, body)


ENDS = Ends()


def query(name: str = NAME, kind: str = "A", ident: int = 0x1234) -> bytes:
    return dns.message.make_query(name, kind, id=ident).to_wire()


def reply(asked: bytes, *addresses: str, ttl: int = 60, more: tuple[str, ...] = ()) -> bytes:
    """What a server answers; `more` are records as text, without their name."""
    message = dns.message.make_response(dns.message.from_wire(asked), recursion_available=True)
    question = message.question[0]
    for address in addresses or (() if more else (ADDRESS,)):
        kind = "A" if ip_address(address).version == 4 else "AAAA"
        message.answer.append(dns.rrset.from_text(question.name, ttl, "IN", kind, address))
    for record in more:
        kind, _, text = record.partition(" ")
        message.answer.append(dns.rrset.from_text(question.name, ttl, "IN", kind, text))
    return message.to_wire()


def framed(*messages: bytes) -> bytes:
    return b"".join(struct.pack("!H", len(message)) + message for message in messages)


# -- the kernel --------------------------------------------------------------------------------


class FakeSocket:
    """What the kernel sends, and what it is sent."""

    def __init__(self) -> None:
        self.waiting: deque[bytes | int] = deque()
        self.sent: list[bytes] = []
        self.is_open = True

    def recv(self, size: int) -> bytes:
        """The next datagram; a number is an errno."""
        assert size >= 1 << 16
        if not self.waiting:
            raise BlockingIOError
        one = self.waiting.popleft()
        if isinstance(one, int):
            raise OSError(one, "from the kernel")
        return one

    def recv_into(self, buffer: memoryview) -> int:
        one = self.recv(len(buffer))
        buffer[: len(one)] = one
        return len(one)

    def send(self, data: bytes) -> None:
        assert len(data) <= 212_992, "the usual send buffer"
        self.sent.append(data)

    def close(self) -> None:
        self.is_open = False


@dataclass
class Kernel:
    """Shows packets to the watch, by rules that others have tested."""

    form: WatchForm = WatchForm.NATIVE
    permitted: tuple[str, ...] = (NAME,)
    asked: list[str] = field(default_factory=list)
    binds: list[bytes] = field(default_factory=list)
    handles: int = 0
    copies_taken: bool = False

    def __post_init__(self) -> None:
        self.questions, self.answers, self.passing = FakeSocket(), FakeSocket(), FakeSocket()
        sockets = [self.questions, self.answers, self.passing]

        def listen(bind: bytes, _: str, *, room: int = 0) -> FakeSocket:
            del room
            self.binds.append(bind)
            if self.copies_taken and len(self.binds) > 2:
                raise ObserveError("another program listens")
            return sockets.pop(0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(dnswatch, "listen", listen)
            self.watch = DnsWatch(self.form, self.permits)

    def permits(self, name: str) -> bool:
        self.asked.append(name)
        return name in self.permitted

    def asks(self, *packets: bytes) -> None:
        """Questions that pass, and are copied."""
        for one in packets:
            self.questions.waiting.append(logged(one))

    def answer(self, *packets: bytes) -> list[int]:
        """Answers that are shown; their handles."""
        given = []
        for one in packets:
            if self.form is WatchForm.COPY:
                self.answers.waiting.append(logged(one))
                continue
            self.handles += 1
            given.append(self.handles)
            self.answers.waiting.append(queued(self.handles, one))
        return given

    def passes(self, *packets: bytes) -> None:
        """Answers that go on by themselves, and are copied."""
        for one in packets:
            self.passing.waiting.append(logged(one))

    def read(self, now: float = 100.0) -> tuple[HeldAnswer, ...]:
        return self.watch.read(now) or ()

    def verdicts(self) -> dict[int, bytes | None]:
        """What was let go, with its new packet where it has one; each only once."""
        return self._given(nfqueue.ACCEPT)

    def dropped(self) -> set[int]:
        """What was not let go."""
        return set(self._given(nfqueue.DROP))

    def _given(self, verdict: int) -> dict[int, bytes | None]:
        found: dict[int, bytes | None] = {}
        seen = set()
        for data in self.answers.sent:
            for m in netlink.messages(data):
                what, handle = struct.unpack_from("!II", data, m.start + 8)
                assert what in (nfqueue.ACCEPT, nfqueue.DROP)
                assert struct.unpack_from("!BBH", data, m.start)[2] == QUEUE_NUMBER
                assert handle not in seen
                seen.add(handle)
                if what == verdict:
                    found[handle] = data[m.start + 16 : m.end] or None
        return found


def texts(held: HeldAnswer) -> list[str]:
    """The addresses of an answer, as people write them."""
    return [str(ip_address(address)) for address in held.addresses]


def queued(handle: int, one: bytes) -> bytes:
    header = netlink.attribute(1, struct.pack("!IHBx", handle, 0x0800, 1)[:7])
    body = netlink.NFGEN.pack(2, 0, QUEUE_NUMBER) + header + netlink.attribute(10, one)
    return netlink.message(QUEUED, 0, 0, body)


def logged(one: bytes) -> bytes:
    header = netlink.attribute(1, struct.pack("!HBx", 0x0800, 1))
    body = netlink.NFGEN.pack(2, 0, QUESTION_GROUP) + header + netlink.attribute(9, one)
    return netlink.message(LOGGED, 0, 0, body)


def asked_and_answered(ends: Ends = ENDS, **how: Any) -> tuple[bytes, bytes]:  # noqa: ANN401
    question = query(**how)
    return ends.udp(question, asks=True), ends.udp(reply(question), asks=False)


# -- what is held ------------------------------------------------------------------------------


def test_an_answer_to_a_question_that_was_asked_is_held_until_it_is_released() -> None:
    kernel = Kernel()
    question, answer = asked_and_answered()
    kernel.asks(question)
    (handle,) = kernel.answer(answer)
    found = (ip_address(ADDRESS).packed,)
    assert kernel.read() == (HeldAnswer(handle, NAME, found, 60, SERVER),)
    assert kernel.verdicts() == {}
    kernel.watch.release((handle,))
    assert kernel.verdicts() == {handle: None}, "as it was"


def test_over_ipv6_and_of_type_aaaa_too() -> None:
    kernel, ends = Kernel(), Ends(CLIENT6, SERVER6)
    question = query(kind="AAAA")
    kernel.asks(ends.udp(question, asks=True))
    kernel.answer(ends.udp(reply(question, "2001:db8:5::1", "2001:db8:5::2"), asks=False))
    (held,) = kernel.read()
    assert texts(held) == ["2001:db8:5::1", "2001:db8:5::2"]
    assert held.server == SERVER6


def test_letters_in_another_case_are_the_same_name() -> None:
    kernel = Kernel()
    question = ENDS.udp(query("ReGiStRy.ExAmPlE"), asks=True)
    answer = ENDS.udp(reply(query("REGISTRY.example")), asks=False)
    kernel.asks(question)
    kernel.answer(answer)
    assert [held.name for held in kernel.read()] == [NAME]


def test_answers_that_wait_together_are_told_together() -> None:
    kernel = Kernel(permitted=("a.example", "b.example"))
    for name in ("a.example", "no.example", "b.example"):
        question, answer = asked_and_answered(name=name)
        kernel.asks(question)
        kernel.answer(answer)
    assert [(held.handle, held.name) for held in kernel.read()] == [
        (1, "a.example"),
        (3, "b.example"),
    ]
    assert kernel.verdicts() == {2: None}


def test_an_answer_that_has_no_address_is_told_and_opens_nothing() -> None:
    kernel = Kernel()
    asked = query()
    kernel.asks(ENDS.udp(asked, asks=True))
    message = dns.message.make_response(dns.message.from_wire(asked))
    message.set_rcode(dns.rcode.NXDOMAIN)
    kernel.answer(ENDS.udp(message.to_wire(), asks=False))
    held = kernel.read()
    assert [one.addresses for one in held] == [()]
    kernel.watch.release([one.handle for one in held])
    assert set(kernel.verdicts()) == {1}


# -- what goes on at once ----------------------------------------------------------------------

GOOD_QUESTION, GOOD_ANSWER = asked_and_answered()
NO_ANSWERS: dict[str, tuple[bytes, bytes]] = {
    "unasked": (b"", GOOD_ANSWER),
    "wrong id": (GOOD_QUESTION, asked_and_answered(ident=0x4321)[1]),
    "wrong server": (GOOD_QUESTION, asked_and_answered(Ends(server=OTHER))[1]),
    "wrong client": (GOOD_QUESTION, asked_and_answered(Ends(client=OTHER))[1]),
    "wrong port": (GOOD_QUESTION, asked_and_answered(Ends(port=PORT + 1))[1]),
    "wrong type": (GOOD_QUESTION, asked_and_answered(kind="AAAA")[1]),
    "another name": (GOOD_QUESTION, asked_and_answered(name="other.example")[1]),
    "no response": (GOOD_QUESTION, ENDS.udp(query(), asks=False)),
    "malformed": (GOOD_QUESTION, ENDS.udp(reply(query())[:-1], asks=False)),
    "with more behind": (GOOD_QUESTION, ENDS.udp(reply(query()) + b"x", asks=False)),
    "no DNS": (GOOD_QUESTION, ENDS.udp(b"\0", asks=False)),
    "no datagram": (GOOD_QUESTION, GOOD_ANSWER[:30]),
    "a question of another server": (asked_and_answered(Ends(server=OTHER))[0], GOOD_ANSWER),
}


@pytest.mark.parametrize("how", NO_ANSWERS)
def test_what_is_no_answer_to_what_was_asked_goes_on_at_once(how: str) -> None:
    question, answer = NO_ANSWERS[how]
    kernel = Kernel(permitted=(NAME, "other.example"))
    if question:
        kernel.asks(question)
    (handle,) = kernel.answer(answer)
    assert kernel.read() == ()
    assert kernel.verdicts() == {handle: None}
    tally = kernel.watch.tally
    assert tally.unasked + tally.malformed + (how in {"no response", "no DNS"}) == 1


def test_a_name_that_nobody_permitted_goes_on_and_is_not_even_remembered() -> None:
    kernel = Kernel(permitted=())
    kernel.asks(GOOD_QUESTION)
    kernel.watch.read_questions(100.0)
    (handle,) = kernel.answer(GOOD_ANSWER)
    assert kernel.read() == ()
    assert kernel.verdicts() == {handle: None}
    kernel.permitted = (NAME,)
    kernel.answer(GOOD_ANSWER)
    assert kernel.read() == ()
    assert kernel.watch.tally.unasked == 1


def test_an_answer_that_comes_when_nobody_waits_any_more_opens_nothing() -> None:
    kernel = Kernel()
    kernel.asks(GOOD_QUESTION)
    kernel.answer(GOOD_ANSWER)
    assert len(kernel.read(now=100.0)) == 1
    kernel.answer(GOOD_ANSWER)
    assert kernel.read(now=100.0 + PATIENCE + 1) == ()


def test_a_response_among_the_questions_is_no_question() -> None:
    kernel = Kernel()
    forged = ENDS.udp(reply(query()), asks=True)
    kernel.asks(forged)
    kernel.answer(GOOD_ANSWER)
    assert kernel.read() == ()


# -- over TCP ----------------------------------------------------------------------------------

FIRST_ASK, FIRST_TOLD = 7_000, 0xFFFFFFF0  # the second wraps


def connect(kernel: Kernel) -> None:
    """A connection is made; the handshake goes on at once."""
    kernel.asks(ENDS.tcp(FIRST_ASK - 1, asks=True, flags=packet.SYN))
    (handle,) = kernel.answer(ENDS.tcp(FIRST_TOLD - 1, asks=False, flags=packet.SYN | packet.ACK))
    assert kernel.read() == ()
    assert kernel.verdicts() == {handle: None}


def ask_over_tcp(kernel: Kernel, *questions: bytes) -> None:
    kernel.asks(ENDS.tcp(FIRST_ASK, framed(*questions), asks=True))


def test_several_messages_in_one_segment_are_each_read_and_held_as_one() -> None:
    kernel = Kernel(permitted=("a.example", "b.example"))
    connect(kernel)
    a, b, c = (query(name, ident=number) for number, name in
               enumerate(("a.example", "b.example", "c.example")))  # fmt: skip
    ask_over_tcp(kernel, a, b, c)
    told = framed(reply(a, "203.0.113.1"), reply(c), reply(b, "203.0.113.2"))
    (handle,) = kernel.answer(ENDS.tcp(FIRST_TOLD, told, asks=False))
    assert [(h.handle, h.name, texts(h)[0]) for h in kernel.read()] == [
        (handle, "a.example", "203.0.113.1"),
        (handle, "b.example", "203.0.113.2"),
    ]


def test_a_message_over_several_segments_is_held_where_it_is_whole() -> None:
    kernel = Kernel()
    connect(kernel)
    ask_over_tcp(kernel, query())
    told = framed(reply(query()))
    cuts = (0, 1, 30, len(told))
    handles = kernel.answer(*in_segments(told, *cuts))
    assert [held.handle for held in kernel.read()] == handles[-1:]
    assert set(kernel.verdicts()) == {1, *handles[:-1]}


def in_segments(told: bytes, *cuts: int) -> list[bytes]:
    return [
        ENDS.tcp(FIRST_TOLD + first, told[first:last], asks=False) for first, last in pairwise(cuts)
    ]


@pytest.mark.parametrize("order", [(0, 2, 1), (2, 0, 1), (2, 1, 0)])
def test_a_segment_that_overtook_another_is_dropped_and_comes_again(order: tuple[int, ...]) -> None:
    kernel = Kernel()
    connect(kernel)
    ask_over_tcp(kernel, query())
    told = framed(reply(query()))
    parts = in_segments(told, 0, 1, 30, len(told))
    came, taken = 0, []
    for number in order:
        (handle,) = kernel.answer(parts[number])
        assert kernel.read() == ()
        if number == came:
            came += 1
            assert handle not in kernel.dropped()
        else:
            taken.append(number)
            assert handle in kernel.dropped(), "what it was to say is not known yet"
    for number in sorted(taken):
        (handle,) = kernel.answer(parts[number])
    assert [held.handle for held in kernel.read()] == [handle]


def test_another_copy_of_a_segment_is_dropped() -> None:
    kernel = Kernel()
    connect(kernel)
    ask_over_tcp(kernel, query())
    told = framed(reply(query()))
    first, other = kernel.answer(
        ENDS.tcp(FIRST_TOLD, told[:40], asks=False),
        ENDS.tcp(FIRST_TOLD, told[:20] + bytes(20), asks=False),
    )
    assert kernel.read() == ()
    assert kernel.dropped() == {other}
    (last,) = kernel.answer(ENDS.tcp(FIRST_TOLD + 40, told[40:], asks=False))
    assert [held.handle for held in kernel.read()] == [last], "the stream goes on"
    assert first in kernel.verdicts()


def test_a_segment_sent_again_is_not_held_again() -> None:
    kernel = Kernel()
    connect(kernel)
    ask_over_tcp(kernel, query())
    segment = ENDS.tcp(FIRST_TOLD, framed(reply(query())), asks=False)
    first, again = kernel.answer(segment, segment)
    assert [held.handle for held in kernel.read()] == [first]
    assert again in kernel.verdicts()


@pytest.mark.parametrize("flags", [packet.FIN, packet.RST])
def test_a_connection_that_ends_is_forgotten(flags: int) -> None:
    kernel = Kernel()
    connect(kernel)
    ask_over_tcp(kernel, query())
    told = framed(reply(query()))
    kernel.answer(ENDS.tcp(FIRST_TOLD, told, asks=False, flags=flags | packet.ACK))
    assert len(kernel.read()) == 1, "what came with the end counts"
    kernel.answer(ENDS.tcp(FIRST_TOLD + len(told), told, asks=False))
    assert kernel.read() == ()


def test_a_connection_whose_beginning_was_not_seen_opens_nothing() -> None:
    kernel = Kernel()
    ask_over_tcp(kernel, query())
    (handle,) = kernel.answer(ENDS.tcp(FIRST_TOLD, framed(reply(query())), asks=False))
    assert kernel.read() == ()
    assert kernel.verdicts() == {handle: None}


def test_nor_is_anything_voided_in_it_so_that_its_client_may_hide_a_name_and_is_refused() -> None:
    """It began while no daemon was there; `test_server_names` has what becomes of its hello."""
    kernel = Kernel()
    asked, told = hiding()
    ask_over_tcp(kernel, asked)
    (handle,) = kernel.answer(ENDS.tcp(FIRST_TOLD, framed(told), asks=False))
    assert kernel.read() == ()
    assert kernel.verdicts() == {handle: None}, "it goes on as it came"
    assert kernel.watch.tally.changed == 0


def test_streams_are_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnswatch, "_MOST_STREAMS", 4)
    kernel = Kernel()
    for port in range(10):
        kernel.answer(Ends(port=port + 1).tcp(1, asks=False, flags=packet.SYN))
        kernel.read()
    assert [flow[3] for flow in kernel.watch._streams] == [7, 8, 9, 10]


def test_an_answer_over_tcp_counts_for_no_question_over_udp() -> None:
    kernel = Kernel()
    connect(kernel)
    kernel.asks(GOOD_QUESTION)
    kernel.answer(ENDS.tcp(FIRST_TOLD, framed(reply(query())), asks=False))
    assert kernel.read() == ()


# -- service records ---------------------------------------------------------------------------

HIDING = 'HTTPS 1 . alpn="h3,h2" ech="AAgADQAEa2V5IQ=="'


def hiding(ident: int = 0x1234) -> tuple[bytes, bytes]:
    asked = query(kind="HTTPS", ident=ident)
    return asked, reply(asked, more=(HIDING,))


def new_packet(attributes: bytes | None) -> bytes:
    assert attributes is not None
    length, kind = netlink.ATTRIBUTE.unpack_from(attributes)
    assert kind == 10
    return attributes[4:length]


@pytest.mark.parametrize("ends", [ENDS, Ends(CLIENT6, SERVER6)])
def test_what_would_hide_the_name_is_voided_with_a_right_checksum_and_the_same_length(
    ends: Ends,
) -> None:
    kernel = Kernel()
    asked, told = hiding()
    kernel.asks(ends.udp(asked, asks=True))
    before = ends.udp(told, asks=False)
    (handle,) = kernel.answer(before)
    assert [(h.handle, h.addresses) for h in kernel.read()] == [(handle, ())]
    kernel.watch.release([handle])
    after = new_packet(kernel.verdicts()[handle])
    assert len(after) == len(before)
    assert is_right(after)
    segment = packet.parse(after)
    assert segment is not None
    payload = after[segment.start : segment.end]
    assert dns.message.from_wire(payload).id == 0x1234
    assert (b"h3" in told, b"h3" in payload) == (True, False)
    assert b"h2" in payload
    assert kernel.watch.tally.changed == 1


@pytest.mark.parametrize("size", [1, 7, 40, 1000])
def test_it_is_voided_over_tcp_however_the_messages_are_cut(size: int) -> None:
    kernel = Kernel()
    connect(kernel)
    first, second = (hiding(ident) for ident in (1, 2))
    ask_over_tcp(kernel, first[0], second[0])
    told = framed(first[1], second[1])
    parts = in_segments(told, *range(0, len(told), size), len(told))
    handles = kernel.answer(*parts)
    kernel.watch.release(tuple({held.handle: 0 for held in kernel.read()}))
    passed = b""
    for part, handle in zip(parts, handles, strict=True):
        new = kernel.verdicts()[handle]
        after = part if new is None else new_packet(new)
        assert new is None or is_right(after)
        assert len(after) == len(part)
        segment = packet.parse(after)
        assert segment is not None
        passed += after[segment.start : segment.end]
    assert (told.count(b"h3"), passed.count(b"h3"), passed.count(b"hx")) == (2, 0, 2)
    assert passed.count(b"h2") == 2
    assert (told.count(b"\xfe\r"), passed.count(b"\xfe\r")) == (0, 0)


@pytest.mark.parametrize("flags", [packet.ACK, packet.ACK | packet.FIN])
def test_what_is_sent_again_is_changed_again_whatever_its_cuts(flags: int) -> None:
    """The original still waits; its repetition goes on before it."""
    kernel = Kernel()
    connect(kernel)
    asked, answered = hiding()
    ask_over_tcp(kernel, asked)
    told = framed(answered)
    (handle,) = kernel.answer(ENDS.tcp(FIRST_TOLD, told, asks=False, flags=flags))
    assert [held.handle for held in kernel.read()] == [handle]
    cut = told.index(b"h3") + 1
    again = [
        ENDS.tcp(FIRST_TOLD, told[:cut], asks=False),
        ENDS.tcp(FIRST_TOLD + cut, told[cut:], asks=False, flags=flags),
    ]
    one, two = kernel.answer(*again)
    assert kernel.read() == ()
    assert not kernel.dropped()
    new = new_packet(kernel.verdicts()[two])
    assert is_right(new)
    assert kernel.verdicts()[one] is None
    assert b"h3" not in again[0]
    assert new[-len(told) + cut :].startswith(b"x")


def test_a_message_in_more_parts_than_are_looked_at_never_becomes_whole() -> None:
    kernel = Kernel()
    connect(kernel)
    asked = query(kind="HTTPS")
    told = framed(reply(asked, more=(HIDING,) * 8))
    ask_over_tcp(kernel, asked)
    parts = in_segments(told, *range(MOST_PARTS + 20), len(told))
    handles = kernel.answer(*parts)
    assert kernel.read() == ()
    assert handles[-1] in kernel.dropped()


def test_a_copy_is_not_changed() -> None:
    kernel = Kernel(WatchForm.COPY)
    asked, told = hiding()
    kernel.asks(ENDS.udp(asked, asks=True))
    kernel.answer(ENDS.udp(told, asks=False))
    assert [held.handle for held in kernel.read()] == [0]
    assert kernel.watch.tally.changed == 0
    assert kernel.answers.sent == []


# -- the sockets -------------------------------------------------------------------------------


def test_copies_are_read_and_nothing_is_let_go() -> None:
    kernel = Kernel(WatchForm.COPY)
    kernel.asks(GOOD_QUESTION)
    kernel.answer(GOOD_ANSWER, GOOD_ANSWER[:25])
    assert [held.handle for held in kernel.read()] == [0]
    assert kernel.answers.sent == []


def test_each_form_listens_where_the_rules_show() -> None:
    held, copied = Kernel(), Kernel(WatchForm.COPY)
    questions = nflog.bind(QUESTION_GROUP, copy_range=512, sequence=1)
    assert held.binds[0] == copied.binds[0] == questions
    assert copied.binds[1] == nflog.bind(ANSWER_GROUP, copy_range=65535, sequence=1)
    most = dnswatch._MOST_WAITING
    assert held.binds[1] == nfqueue.bind(QUEUE_NUMBER, copy_range=0, max_length=most, sequence=1)


def test_questions_that_were_lost_are_counted_and_those_that_were_not_are_read() -> None:
    kernel = Kernel()
    kernel.questions.waiting += [errno.ENOBUFS, b"\1", logged(GOOD_QUESTION)]
    kernel.answer(GOOD_ANSWER)
    assert len(kernel.read()) == 1
    assert (kernel.watch.tally.questions_lost, kernel.watch.tally.malformed) == (1, 1)


def test_answers_that_were_lost_do_not_hide_those_behind_them() -> None:
    kernel = Kernel()
    kernel.asks(GOOD_QUESTION)
    kernel.answers.waiting += [errno.ENOBUFS, b"\1"]
    kernel.answer(GOOD_ANSWER)
    assert len(kernel.read()) == 1


@pytest.mark.parametrize("which", ["questions", "answers"])
def test_any_other_error_of_a_socket_is_raised(which: str) -> None:
    kernel = Kernel()
    kernel.asks(GOOD_QUESTION)
    kernel.answer(GOOD_ANSWER)
    getattr(kernel, which).waiting.appendleft(errno.EBADF)
    with pytest.raises(OSError, match="from the kernel"):
        kernel.read()


def test_a_reading_is_bounded_and_the_rest_is_read_next() -> None:
    kernel = Kernel(permitted=())
    kernel.answer(*([GOOD_ANSWER] * (dnswatch.A_READING + 3)))
    kernel.read()
    assert len(kernel.verdicts()) == dnswatch.A_READING
    kernel.read()
    assert len(kernel.verdicts()) == dnswatch.A_READING + 3


def test_ten_thousand_answers_that_were_changed_are_let_go_in_parts_that_can_be_sent() -> None:
    kernel = Kernel()
    asked, told = hiding()
    kernel.asks(ENDS.udp(asked, asks=True))
    handles = kernel.answer(*([ENDS.udp(told, asks=False)] * 10_000))
    while kernel.answers.waiting:
        kernel.read()
    kernel.watch.release(handles)
    verdicts = kernel.verdicts()
    assert set(verdicts) == set(handles)
    assert all(verdicts.values())


def test_verdicts_are_joined_up_to_a_size_and_never_torn() -> None:
    verdicts = [b"a" * size for size in (40_000, 30_000, 65_000, 70_000, 1)]
    assert [len(some) for some in _joined(verdicts)] == [40_000, 30_000, 65_000, 70_000, 1]
    assert list(_joined([b"a", b"b"])) == [b"ab"]


def test_releasing_nothing_sends_nothing() -> None:
    kernel = Kernel()
    kernel.watch.release(())
    assert kernel.answers.sent == []


def test_all_sockets_are_closed() -> None:
    kernel = Kernel()
    kernel.watch.close()
    assert not kernel.questions.is_open
    assert not kernel.answers.is_open
    assert not kernel.passing.is_open


def test_where_the_queue_is_not_to_be_had_the_group_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    questions = FakeSocket()

    def listen(bind: bytes, _: str, *, room: int = 0) -> FakeSocket:
        del room
        if questions.is_open and bind.startswith(nflog.bind(1, copy_range=1, sequence=1)[:6]):
            return questions
        raise ObserveError("another program listens")

    monkeypatch.setattr(dnswatch, "listen", listen)
    with pytest.raises(ObserveError, match="another program"):
        DnsWatch(WatchForm.XT, lambda _: True)
    assert not questions.is_open


# -- what was not held -------------------------------------------------------------------------


def test_what_passed_wakes_nobody_and_tells_for_which_name_an_address_was_given() -> None:
    kernel = Kernel(permitted=())
    kernel.asks(GOOD_QUESTION)
    kernel.passes(GOOD_ANSWER)
    assert kernel.watch.tells_problem == ""
    readers: tuple[Any, ...] = kernel.watch.sockets
    assert readers == (kernel.answers,)
    assert kernel.watch.read(100.0) is None, "nothing waits"
    assert kernel.watch.read_passed(100.0) == ()
    known = kernel.watch.known(ip_address(ADDRESS), ip_address(CLIENT), 100.0, here=True)
    assert known.names == (NAME,)
    assert kernel.answers.sent == []
    assert kernel.watch.tally.answers == 1


def test_it_is_known_at_once_where_a_refusal_follows() -> None:
    kernel = Kernel(permitted=())
    kernel.asks(GOOD_QUESTION)
    kernel.passes(GOOD_ANSWER)
    known = kernel.watch.known(ip_address(ADDRESS), ip_address(CLIENT), 100.0, here=True)
    assert known.names == (NAME,)


def test_a_passed_answer_to_which_there_was_no_question_tells_nothing() -> None:
    kernel = Kernel(permitted=())
    kernel.passes(GOOD_ANSWER)
    known = kernel.watch.known(ip_address(ADDRESS), ip_address(CLIENT), 100.0, here=True)
    assert known.names == ()


@pytest.mark.parametrize("first", ["it is read", "a refusal asks"])
def test_a_passed_answer_whose_name_has_become_permitted_opens_and_is_counted(first: str) -> None:
    kernel = Kernel()
    kernel.asks(GOOD_QUESTION)
    kernel.passes(GOOD_ANSWER)
    if first == "a refusal asks":
        kernel.watch.known(ip_address(ADDRESS), ip_address(CLIENT), 100.0, here=True)
    found = (ip_address(ADDRESS).packed,)
    assert kernel.watch.read_passed(100.0) == (HeldAnswer(0, NAME, found, 60, SERVER),)
    assert kernel.watch.read_passed(100.0) == (), "it is told once"
    assert kernel.watch.tally.late == 1
    assert kernel.answers.sent == [], "nothing waits for it"


@pytest.mark.parametrize("how", [how for how in NO_ANSWERS if how != "another name"])
def test_what_is_no_answer_to_what_was_asked_opens_nothing_when_it_has_passed(how: str) -> None:
    """The same is asked of it as of one that is held."""
    question, answer = NO_ANSWERS[how]
    kernel = Kernel(permitted=(NAME, "other.example"))
    if question:
        kernel.asks(question)
    kernel.passes(answer)
    assert kernel.watch.read_passed(100.0) == ()


def test_copies_that_were_lost_lose_no_held_answer() -> None:
    kernel = Kernel()
    kernel.asks(GOOD_QUESTION)
    kernel.passing.waiting.append(errno.ENOBUFS)
    kernel.passes(ENDS.udp(reply(query("other.example")), asks=False))
    assert kernel.watch.read_passed(100.0) == ()
    kernel.answer(GOOD_ANSWER)
    assert len(kernel.read()) == 1


def test_where_another_program_listens_for_copies_answers_are_still_held() -> None:
    kernel = Kernel(copies_taken=True)
    assert "another program listens" in kernel.watch.tells_problem
    kernel.asks(GOOD_QUESTION)
    kernel.answer(GOOD_ANSWER)
    assert len(kernel.read()) == 1
    assert kernel.watch.read_passed(100.0) == ()
    kernel.watch.close()
    assert not kernel.answers.is_open


def test_where_answers_are_only_copied_there_is_no_third_socket() -> None:
    kernel = Kernel(WatchForm.COPY)
    assert len(kernel.binds) == 2


@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=120)), max_size=12))
@settings(max_examples=150)
def test_any_bytes_are_taken_and_nothing_that_was_not_asked_is_held(
    shown: list[tuple[bool, bytes]],
) -> None:
    kernel = Kernel(permitted=())
    kernel.watch.permits = lambda _: True
    handles = []
    for is_datagram, data in shown:
        handles += kernel.answer(ENDS.udp(data, asks=False) if is_datagram else data)
        kernel.answers.waiting.append(data)
        kernel.questions.waiting.append(data)
        kernel.passing.waiting.append(data)
        kernel.passes(data)
    assert kernel.read() == ()
    assert kernel.watch.read_passed(100.0) == ()
    assert set(kernel.verdicts()) == set(handles)
