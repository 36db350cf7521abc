"""Reads DNS answers that the kernel holds, and lets go at once of all that open nothing.

The kernel shows answers of trusted servers to scoped sockets and containers in a queue, and copies
their questions beforehand (`core.watch_rules`). Here an answer is matched with its question and
its addresses are read; which of them open something is decided elsewhere.

The queue is read before the questions: a question is always copied before its answer can come, so
then every answer that was read has its question among those read after it. A question by itself
wakes nobody: it would be read while its answer already waits.

Nor does an answer that need not be held, and of which there is only a copy: it tells for which name
a refused address was given. If its name is permitted all the same, for the policy has just changed,
it opens what it names, as copies do where nothing can be held: the client's next try gets through.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Final

from ramfw.core.events import Address, HeldAnswer
from ramfw.core.questions import Asked, Questions, Tally
from ramfw.core.watch_rules import ANSWER_GROUP, QUESTION_GROUP, QUEUE_NUMBER, WatchForm
from ramfw.errors import ObserveError
from ramfw.observe.given_names import GivenNames, Known
from ramfw.observe.listening import DATAGRAM, listen
from ramfw.wire import dns_packet, nflog, nfqueue, packet
from ramfw.wire.dns_message import Question, answers, question
from ramfw.wire.dns_service import neutralize
from ramfw.wire.dns_stream import Reassembler
from ramfw.wire.dns_void import Voids
from ramfw.wire.packet import UDP

_FAILURE = "DNS answers cannot be watched"
_MOST_WAITING = 16_384
_MOST_STREAMS = 1_024
_A_SENDING = 1 << 16  # bytes of verdicts at once, unless one is longer: a send buffer has room
_MODULUS = 1 << 32
_PASSED = 2 << 20  # bytes that copies of passed answers take: some more than are remembered
_NOTHING: set[Asked] = set()
_NAME: Final = 5  # its place in what was asked

A_READING = 512
"""Answers that are read together; then other things are seen to."""


_Flow = tuple[bytes, int, bytes, int]


_Shown = tuple[int, bytes, int, bytes, Question, Asked]
"""An answer to a permitted name: the handle of its packet, the packet, the answer's place in the
packet's payload, the answer, its question, and how it would have been asked."""


@dataclass(slots=True)
class DnsWatch:
    """The queue, and the copies of questions.

    `permits` tells whether a name may open anything: others are let go of unread.
    """

    form: WatchForm
    permits: Callable[[str], bool]
    tally: Tally = field(default_factory=Tally)
    given: GivenNames = field(default_factory=GivenNames)
    """What was answered for names that open nothing, to tell refusals by."""
    _questions: Questions = field(default_factory=Questions)
    _streams: dict[_Flow, tuple[Reassembler, Voids]] = field(default_factory=dict)
    _replaced: dict[int, bytes] = field(default_factory=dict)
    _dropped: set[int] = field(default_factory=set)
    _queue: nfqueue.Reader = field(default_factory=nfqueue.Reader)
    _verdicts: nfqueue.Verdicts = field(default_factory=lambda: nfqueue.Verdicts(QUEUE_NUMBER))
    _copies: nflog.Reader = field(default_factory=nflog.Reader)
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(DATAGRAM)))
    _asking: socket.socket = field(init=False)
    _answering: socket.socket = field(init=False)
    _passed: socket.socket | None = field(init=False, default=None)
    tells_problem: str = field(init=False, default="")
    """Why it cannot listen for copies of answers that need not be held."""
    _late: list[_Shown] = field(default_factory=list)
    """Answers to permitted names that were not held, still to be told."""

    def __post_init__(self) -> None:
        """Raises ObserveError where the kernel has no such queue, or another listener has it."""
        self._asking = listen(nflog.bind(QUESTION_GROUP, copy_range=512, sequence=1), _FAILURE)
        if self.form is WatchForm.COPY:
            bind = _bind_copies()
        else:
            bind = nfqueue.bind(QUEUE_NUMBER, copy_range=0, max_length=_MOST_WAITING, sequence=1)
        try:
            self._answering = listen(bind, _FAILURE)
        except ObserveError:
            self._asking.close()
            raise
        if self.form.holds:
            try:
                self._passed = listen(_bind_copies(), "copies cannot be had", room=_PASSED)
            except ObserveError as error:
                self.tells_problem = str(error)

    def close(self) -> None:
        """Stop watching: what is held is dropped, what comes passes."""
        self._asking.close()
        self._answering.close()
        if self._passed is not None:
            self._passed.close()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Readable when `read` has something to do."""
        return (self._answering,)

    def read(self, now: float, most: int = A_READING) -> tuple[HeldAnswer, ...] | None:
        """The answers to permitted names among `most` that wait; all others are released here.

        None where no answer waits.
        """
        waiting = self._receive(most, self._answering)
        if not waiting:
            return None
        if len(waiting) == 1 and (alone := self._alone(*waiting[0], now)) is not None:
            return (alone,)
        shown: list[_Shown] = []
        passing: list[int] = []
        for handle, datagram in waiting:
            before = len(shown)
            self._take(handle, datagram, shown)
            if len(shown) == before and handle:
                passing.append(handle)
        if passing:
            self.release(passing)
        if not shown:
            return ()
        held = self._judge(shown, now)
        if len(held) < len(shown):
            others = {one[0] for one in shown} - {one.handle for one in held}
            self.release(tuple(others - {0}))
        return tuple(held)

    def _alone(self, handle: int, datagram: bytes, now: float) -> HeldAnswer | None:
        """The same of one answer of the usual form, in less time; None for all others.

        Usual: to a permitted name, its question is the next of those that wait, and there is
        nothing in it to be made void.
        """
        usual = dns_packet.usual(datagram)
        if usual is None:
            return None
        server, _, client, port, payload, asked = usual
        name = asked.name
        if not asked.is_response or not self.permits(name):
            return None
        key = (client, port, server, UDP, asked.id, name, asked.type)
        if not self._is_next(key, payload, asked, now):
            return None
        given = answers(payload, asked)
        if given is None or given.services:
            return None
        self.tally.answers += 1
        self.given.note_permitted(client, name, now)
        return HeldAnswer(handle, name, given.addresses, given.ttl, _spelled(server))

    def _is_next(self, key: Asked, payload: bytes, asked: Question, now: float) -> bool:
        """Take in the next question; whether it is this one."""
        try:
            size = self._asking.recv_into(self._buffer)
            copies = self._copies.payloads(self._buffer, size)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self.tally.questions_lost += 1
            return False
        except ValueError:
            self.tally.malformed += 1
            return False
        is_next = False
        for copied in copies:
            if dns_packet.asks(copied, key, payload, asked):
                self._questions.note(key, now)
                is_next = True
            else:
                self._note(copied, now, _NOTHING)
        return is_next

    def read_passed(self, now: float) -> tuple[HeldAnswer, ...]:
        """Take in what need not be held, now and then, and what was asked.

        The answers to permitted names among it: nothing waits for what they open.
        """
        self._take_passed()
        late, self._late = self._late, []
        held = self._judge(late, now)
        self.read_questions(now)
        return tuple(held)

    def _take_passed(self) -> None:
        if self._passed is None:
            return
        before = len(self._late)
        for handle, datagram in self._receive(_MOST_WAITING, self._passed):
            self._take(handle, datagram, self._late)
        self.tally.late += len(self._late) - before

    def _judge(self, shown: list[_Shown], now: float) -> list[HeldAnswer]:
        """What those of the answers say that somebody asked for."""
        missing: set[Asked] = set()
        for *_, key in shown:
            if not self._questions.was_asked(key, now):
                missing.add(key)
        if missing:
            self.read_questions(now, missing)
        held: list[HeldAnswer] = []
        for one in shown:
            if one[-1] in missing:
                self.tally.unasked += 1
            else:
                self._answer(one, held, now)
        return held

    def release(self, handles: list[int] | tuple[int, ...]) -> None:
        """Let held packets go on, changed where they had to be."""
        if len(handles) == 1 and not self._replaced and not self._dropped:
            self._answering.send(self._verdicts.pass_on(handles[0]))
            return
        if not handles:
            return
        verdicts = [
            nfqueue.verdict(
                QUEUE_NUMBER,
                handle,
                nfqueue.DROP if handle in self._dropped else nfqueue.ACCEPT,
                payload=self._replaced.pop(handle, None),
            )
            for handle in handles
        ]
        self._dropped.difference_update(handles)
        for some in _joined(verdicts):
            self._answering.send(some)

    def known(self, address: Address, client: Address, now: float, *, here: bool) -> Known:
        """What was asked for around a client's refused connection to this address."""
        self._take_passed()
        self.read_questions(now)
        return self.given.known(address, client, now, here=here)

    # -- questions -----------------------------------------------------------------------------

    def read_questions(self, now: float, missing: set[Asked] | None = None) -> None:
        """Take in what was asked; all of it, now and then, so that not too much waits.

        With `missing`, up to where none of these is missing any more: an answer waits.
        """
        while missing is None or missing:
            try:
                size = self._asking.recv_into(self._buffer)
            except BlockingIOError:
                self.given.check(now)
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.tally.questions_lost += 1
                continue
            try:
                for copied in self._copies.payloads(self._buffer, size):
                    self._note(copied, now, missing or _NOTHING)
            except ValueError:
                self.tally.malformed += 1

    def _note(self, datagram: bytes, now: float, missing: set[Asked]) -> None:
        usual = dns_packet.usual(datagram)
        if usual is not None:
            source, sport, destination, _, _, asked = usual
            if not asked.is_response:
                key = (source, sport, destination, UDP, asked.id, asked.name, asked.type)
                self._note_key(key, now, missing)
            return
        segment = packet.parse(datagram)
        if segment is None:
            return
        source, sport, destination = segment.source, segment.sport, segment.destination
        for _, payload in self._messages(datagram, segment):
            asked_ = question(payload)
            if asked_ is not None and not asked_.is_response:
                sent = asked_.id, asked_.name, asked_.type
                key = (source, sport, destination, segment.protocol, *sent)
                self._note_key(key, now, missing)

    def _note_key(self, key: Asked, now: float, missing: set[Asked]) -> None:
        if key in missing:
            missing.discard(key)
        elif not self.permits(key[_NAME]):
            self.given.note_question(key, now)
            return
        self._questions.note(key, now)

    # -- answers -------------------------------------------------------------------------------

    def _receive(self, most: int, source: socket.socket) -> list[tuple[int, bytes]]:
        """Handle (0: a copy) and packet of what waits."""
        copies = self.form is WatchForm.COPY or source is self._passed
        found: list[tuple[int, bytes]] = []
        for _ in range(most):
            try:
                size = source.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            try:
                if copies:
                    found += [(0, copied) for copied in self._copies.payloads(self._buffer, size)]
                else:
                    found += self._queue.payloads(self._buffer, size)
            except ValueError:
                self.tally.malformed += 1
        return found

    def _take(self, handle: int, datagram: bytes, shown: list[_Shown]) -> None:
        """Add the answers that end in the packet and whose names may open anything."""
        usual = dns_packet.usual(datagram)
        if usual is not None:
            self.tally.answers += 1
            server, _, client, port, payload, asked = usual
            if asked.is_response:
                key = (client, port, server, UDP, asked.id, asked.name, asked.type)
                self._keep((handle, datagram, 0, payload, asked, key), shown)
            return
        segment = packet.parse(datagram)
        if segment is None:
            self.tally.malformed += 1
            return
        known = self._streams.get(_flow(segment)) if segment.protocol != UDP else None
        if handle and known is not None and not _may_pass(datagram, segment, *known):
            self._dropped.add(handle)
            return
        server, client, port = segment.source, segment.destination, segment.dport
        for offset, payload in self._messages(datagram, segment):
            self.tally.answers += 1
            asked_ = question(payload)
            if asked_ is not None and asked_.is_response:
                sent = asked_.id, asked_.name, asked_.type
                key = (client, port, server, segment.protocol, *sent)
                self._keep((handle, datagram, offset, payload, asked_, key), shown)
        if handle and known is not None:
            self._void(handle, datagram, segment, known[1])

    def _void(self, handle: int, datagram: bytes, segment: packet.Segment, voids: Voids) -> None:
        """Have a segment go on without what would hide a connection's name."""
        changed = voids.applied(segment.sequence, datagram[segment.start : segment.end])
        if changed is None:
            return
        if len(datagram) > nfqueue.MAX_PAYLOAD:
            self._dropped.add(handle)
            return
        self._replaced[handle] = packet.replace(datagram, segment, 0, changed)
        self.tally.changed += 1

    def _keep(self, one: _Shown, shown: list[_Shown]) -> None:
        _, _, _, payload, asked, key = one
        if self.permits(asked.name):
            shown.append(one)
        else:
            self.given.note_answer(key, asked, payload)

    def _answer(self, shown: _Shown, held: list[HeldAnswer], now: float) -> None:
        """Add what an answer says."""
        handle, datagram, offset, payload, asked, key = shown
        client, _, server, protocol, _, name, _ = key
        self.given.note_permitted(client, name, now)
        given = answers(payload, asked)
        if given is None:
            self.tally.malformed += 1
            return
        addresses, ttl, services = given
        held.append(HeldAnswer(handle, name, addresses, ttl, _spelled(server)))
        if services and handle and protocol == UDP:
            self._neutralize(handle, datagram, offset, payload, asked)

    def _neutralize(
        self, handle: int, datagram: bytes, offset: int, payload: bytes, asked: Question
    ) -> None:
        """Have the packet go on without what would hide a connection's name."""
        changed = neutralize(payload, asked)
        segment = packet.parse(datagram)
        if changed is None or segment is None or len(datagram) > nfqueue.MAX_PAYLOAD:
            return
        if 0 <= offset <= segment.end - segment.start - len(payload):
            present = self._replaced.get(handle, datagram)
            self._replaced[handle] = packet.replace(present, segment, offset, changed)
            self.tally.changed += 1

    def _messages(self, datagram: bytes, segment: packet.Segment) -> Iterator[tuple[int, bytes]]:
        """The DNS messages that end in this packet, each with its place in the payload.

        Negative for one that began in an earlier packet.
        """
        payload = datagram[segment.start : segment.end]
        if segment.protocol == UDP:
            yield 0, payload
            return
        flow = _flow(segment)
        if segment.flags & packet.SYN:
            self._streams.pop(flow, None)
            self._streams[flow] = Reassembler(segment.sequence + 1), Voids(self.permits)
            if len(self._streams) > _MOST_STREAMS:
                del self._streams[next(iter(self._streams))]
        elif (known := self._streams.get(flow)) is not None:
            stream, voids = known
            for message in stream.feed(segment.sequence, payload):
                voids.follow(message)
                behind = (segment.sequence + len(payload) - message.sequence) % _MODULUS
                yield len(payload) - behind, message.payload
            if (rest := stream.rest) is not None:
                voids.follow(rest)
        if segment.flags & packet.FIN and (known := self._streams.get(flow)) is not None:
            known[0].finish()  # and yet the last of it may be sent again
        if segment.flags & packet.RST:
            self._streams.pop(flow, None)


def _bind_copies() -> bytes:
    return nflog.bind(ANSWER_GROUP, copy_range=65535, sequence=1)


def _may_pass(datagram: bytes, segment: packet.Segment, stream: Reassembler, voids: Voids) -> bool:
    """Whether all before it is known that decides what of it is made void.

    What overtook something, or says other than before, is dropped: its server sends it again.
    """
    payload = datagram[segment.start : segment.end]
    if not payload or segment.flags & packet.SYN:
        return True
    return stream.continues(segment.sequence, payload) and not voids.is_exhausted


def _flow(segment: packet.Segment) -> _Flow:
    return (segment.source, segment.sport, segment.destination, segment.dport)


def _joined(verdicts: list[bytes]) -> Iterator[bytes]:
    """The verdicts in few datagrams, none too long to be sent."""
    some: list[bytes] = []
    size = 0
    for verdict in verdicts:
        if some and size + len(verdict) > _A_SENDING:
            yield b"".join(some)
            some, size = [], 0
        some.append(verdict)
        size += len(verdict)
    yield b"".join(some)


@cache
def _spelled(server: bytes) -> str:
    """A trusted server's address as text: there are few, for only they are shown."""
    return str(ip_address(server))
