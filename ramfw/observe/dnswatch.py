"""Reads DNS answers that the kernel holds, and lets go at once of all that open nothing.

The kernel shows answers of trusted servers to scoped sockets and containers in a queue, and copies
their questions beforehand (`core.watch_rules`). Here an answer is matched with its question and
its addresses are read; which of them open something is decided elsewhere.

The queue is read before the questions: a question is always copied before its answer can come, so
then every answer that was read has its question among those read after it. A question by itself
wakes nobody: it would be read while its answer already waits.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from ramfw.core.events import Answer, HeldAnswer
from ramfw.core.questions import Asked, Questions, Tally
from ramfw.core.watch_rules import ANSWER_GROUP, QUESTION_GROUP, QUEUE_NUMBER, WatchForm
from ramfw.errors import ObserveError
from ramfw.wire import nflog, nfqueue, packet
from ramfw.wire.dns_message import Answers, Question, answers, question
from ramfw.wire.dns_service import neutralize
from ramfw.wire.dns_stream import Reassembler
from ramfw.wire.netlink import errors

_NETLINK_NETFILTER = 12
_SO_RCVBUFFORCE = 33
_RECEIVE = 16 << 20  # bytes of answers and questions that may wait for the daemon
_DATAGRAM = 1 << 17
_MOST_WAITING = 16_384
_MOST_STREAMS = 1_024
_A_READING = 512  # answers; then the loop sees to other things
_A_SENDING = 1 << 16  # bytes of verdicts at once, unless one is longer: a send buffer has room
_MODULUS = 1 << 32


class _Shown(NamedTuple):
    """A packet with answers to permitted names: each with its place and its question."""

    handle: int
    datagram: bytes
    segment: packet.Segment
    messages: list[tuple[int, bytes, Question]]


@dataclass(slots=True)
class DnsWatch:
    """The queue, and the copies of questions.

    `permits` tells whether a name may open anything: others are let go of unread.
    """

    form: WatchForm
    permits: Callable[[str], bool]
    tally: Tally = field(default_factory=Tally)
    _questions: Questions = field(default_factory=Questions)
    _streams: dict[tuple[bytes, int, bytes, int], Reassembler] = field(default_factory=dict)
    _replaced: dict[int, bytes] = field(default_factory=dict)
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_DATAGRAM)))
    _asking: socket.socket = field(init=False)
    _answering: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        """Raises ObserveError where the kernel has no such queue, or another listener has it."""
        self._asking = _listen(nflog.bind(QUESTION_GROUP, copy_range=512, sequence=1))
        if self.form is WatchForm.COPY:
            bind = nflog.bind(ANSWER_GROUP, copy_range=65535, sequence=1)
        else:
            bind = nfqueue.bind(QUEUE_NUMBER, copy_range=0, max_length=_MOST_WAITING, sequence=1)
        try:
            self._answering = _listen(bind)
        except ObserveError:
            self._asking.close()
            raise

    def close(self) -> None:
        """Stop watching: what is held is dropped, what comes passes."""
        self._asking.close()
        self._answering.close()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Readable when `read` has something to do."""
        return (self._answering,)

    def read(self, now: float) -> tuple[HeldAnswer, ...]:
        """The answers to permitted names that wait now; all others are released here."""
        shown: list[_Shown] = []
        passing: list[int] = []
        for handle, datagram in self._receive():
            found = self._permitted(handle, datagram)
            if found is not None:
                shown.append(found)
            elif handle:
                passing.append(handle)
        self.release(passing)
        if not shown:
            return ()
        self.read_questions(now)
        held: list[HeldAnswer] = []
        passing = []
        for one in shown:
            found_here = self._answers(one, now)
            held += found_here
            if not found_here and one.handle:
                passing.append(one.handle)
        self.release(passing)
        return tuple(held)

    def release(self, handles: list[int] | tuple[int, ...]) -> None:
        """Let held packets go on, changed where they had to be."""
        if not handles:
            return
        verdicts = [
            nfqueue.verdict(
                QUEUE_NUMBER, handle, nfqueue.ACCEPT, payload=self._replaced.pop(handle, None)
            )
            for handle in handles
        ]
        for some in _joined(verdicts):
            self._answering.send(some)

    # -- questions -----------------------------------------------------------------------------

    def read_questions(self, now: float) -> None:
        """Take in what was asked; to be called now and then, so that not too much waits."""
        while True:
            try:
                size = self._asking.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.tally.questions_lost += 1
                continue
            try:
                for copied in nflog.payloads(bytes(self._buffer[:size])):
                    self._note(copied, now)
            except ValueError:
                self.tally.malformed += 1

    def _note(self, datagram: bytes, now: float) -> None:
        segment = packet.parse(datagram)
        if segment is None:
            return
        for _, payload in self._messages(datagram, segment):
            asked = question(payload)
            if asked is not None and not asked.is_response and self.permits(asked.name):
                self._questions.note(
                    Asked(
                        segment.source,
                        segment.sport,
                        segment.destination,
                        segment.protocol,
                        asked.id,
                        asked.name,
                        asked.type,
                    ),
                    now,
                )

    # -- answers -------------------------------------------------------------------------------

    def _receive(self) -> Iterator[tuple[int, bytes]]:
        """Handle (0: a copy) and packet of what waits, up to a reading's bound."""
        copies = self.form is WatchForm.COPY
        for _ in range(_A_READING):
            try:
                size = self._answering.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue
            datagram = bytes(self._buffer[:size])
            with suppress(ValueError):
                if copies:
                    for copied in nflog.payloads(datagram):
                        yield 0, copied
                else:
                    yield from nfqueue.payloads(datagram)

    def _permitted(self, handle: int, datagram: bytes) -> _Shown | None:
        """The packet, if it ends an answer to a name that may open anything."""
        segment = packet.parse(datagram)
        if segment is None:
            self.tally.malformed += 1
            return None
        found = []
        for offset, payload in self._messages(datagram, segment):
            self.tally.answers += 1
            asked = question(payload)
            if asked is not None and asked.is_response and self.permits(asked.name):
                found.append((offset, payload, asked))
        return _Shown(handle, datagram, segment, found) if found else None

    def _answers(self, shown: _Shown, now: float) -> list[HeldAnswer]:
        handle, datagram, segment, messages = shown
        found = []
        for offset, payload, asked in messages:
            given = self._given(payload, asked, segment, now)
            if given is None:
                continue
            server = _spelled(segment.source)
            found.append(
                HeldAnswer(
                    handle,
                    asked.name,
                    tuple(Answer(ip_address(a), given.ttl, server) for a in given.addresses),
                )
            )
            changed = neutralize(payload, asked) if given.services and handle else None
            fits = 0 <= offset <= segment.end - segment.start - len(payload)
            fits = fits and len(datagram) <= nfqueue.MAX_PAYLOAD
            if changed is not None and fits:
                present = self._replaced.get(handle, datagram)
                self._replaced[handle] = packet.replace(present, segment, offset, changed)
                self.tally.changed += 1
        return found

    def _given(
        self, payload: bytes, asked: Question, segment: packet.Segment, now: float
    ) -> Answers | None:
        """What the answer to a question that was really asked says."""
        was = Asked(
            segment.destination,
            segment.dport,
            segment.source,
            segment.protocol,
            asked.id,
            asked.name,
            asked.type,
        )
        if not self._questions.was_asked(was, now):
            self.tally.unasked += 1
            return None
        given = answers(payload, asked)
        if given is None:
            self.tally.malformed += 1
        return given

    def _messages(self, datagram: bytes, segment: packet.Segment) -> Iterator[tuple[int, bytes]]:
        """The DNS messages that end in this packet, each with its place in the payload.

        Negative for one that began in an earlier packet: it can no longer be changed.
        """
        payload = datagram[segment.start : segment.end]
        if segment.protocol == packet.UDP:
            yield 0, payload
            return
        flow = (segment.source, segment.sport, segment.destination, segment.dport)
        if segment.flags & packet.SYN:
            self._streams.pop(flow, None)
            self._streams[flow] = Reassembler(segment.sequence + 1)
            if len(self._streams) > _MOST_STREAMS:
                del self._streams[next(iter(self._streams))]
        elif (stream := self._streams.get(flow)) is not None:
            for message in stream.feed(segment.sequence, payload):
                behind = (segment.sequence + len(payload) - message.sequence) % _MODULUS
                yield len(payload) - behind, message.payload
        if segment.flags & (packet.FIN | packet.RST):
            self._streams.pop(flow, None)


def _listen(bind: bytes) -> socket.socket:
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        listener.bind((0, 0))
        with suppress(PermissionError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE)
        listener.settimeout(5)
        listener.send(bind)
        failed = next((n for _, n in errors(listener.recv(_DATAGRAM)) if n), 0)
        listener.setblocking(False)  # noqa: FBT003 - the socket module's own form
    except OSError as error:
        failed = error.errno or errno.EIO
    if failed:
        listener.close()
        # The kernel says EPERM where another socket has the number; the right itself we have.
        taken = failed in (errno.EBUSY, errno.EPERM)
        why = "another program listens" if taken else os.strerror(failed)
        raise ObserveError(f"DNS answers cannot be watched: {why}")
    return listener


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
