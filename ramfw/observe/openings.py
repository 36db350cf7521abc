"""Reads the packets that the kernel holds until their flow's name is known, and lets them go.

The kernel shows, in a queue, what clients send on flows whose first bytes are awaited, and copies
what their servers say (`core.name_rules`). What becomes of a packet is decided elsewhere.

The queue is read before the copies: what a server said is always copied before its client can
answer it, so then all that the packets follow from is among the copies.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import InitVar, dataclass, field

from ramfw.core.commands import Fate
from ramfw.core.events import Copied, HeldSegment, OpeningsHeld
from ramfw.core.flows import NO_FLAGS, Flags
from ramfw.core.marks import UNSETTLED, MarkLayout
from ramfw.core.name_rules import FIRST_BYTES_QUEUE, LONGEST_COPY, SERVER_GROUP
from ramfw.core.policy import ScopeName
from ramfw.errors import ObserveError
from ramfw.observe.listening import listen
from ramfw.wire import nflog, nfqueue, tcp, tcp_packet
from ramfw.wire.packet import ACK, FIN, RST, SYN

_FAILURE = "first bytes of connections"
_DATAGRAM = 1 << 17
_MOST_WAITING = 16_384
_A_SENDING = 1024  # verdicts
_SYN_ACK = SYN | ACK
_OPENS = SYN | ACK | RST | FIN
_TELLING = SYN | FIN | tcp.URG
_FLAGS = {
    bits: Flags(syn=bool(bits & SYN), fin=bool(bits & FIN), urgent=bool(bits & tcp.URG))
    for bits in range(1, _TELLING + 1)
    if bits & _TELLING == bits
} | {0: NO_FLAGS}

A_READING = 512
"""Packets that are read together; then other things are seen to."""
IN_A_ROW = 0.0003
"""Seconds after a packet within which one that comes is taken for one of many."""


@dataclass(slots=True)
class OpeningsWatch:
    """The queue, and the copies of what servers said."""

    marks: InitVar[MarkLayout]
    malformed: int = 0
    copies_lost: int = 0
    _waiting: dict[int, int] = field(default_factory=dict)
    """The marks of the packets that wait, without what is ramfw's own, where anything is left."""
    _packets: nfqueue.Reader = field(default_factory=nfqueue.Reader)
    _copied: nflog.Reader = field(default_factory=nflog.Reader)
    _verdicts: nfqueue.Verdicts = field(default_factory=lambda: nfqueue.Verdicts(FIRST_BYTES_QUEUE))
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_DATAGRAM)))
    _read_at: float = -IN_A_ROW
    _several: bool = False
    _own: int = field(init=False)
    _others: int = field(init=False)
    _shift: int = field(init=False)
    _scopes: dict[int, ScopeName] = field(init=False)
    _copies: socket.socket = field(init=False)
    _queue: socket.socket = field(init=False)

    def __post_init__(self, marks: MarkLayout) -> None:
        """Raises ObserveError where the kernel has no queue, or another listener has it."""
        self.follow(marks)
        self._copies = listen(
            nflog.bind(SERVER_GROUP, copy_range=LONGEST_COPY, sequence=1), _FAILURE
        )
        bind = nfqueue.bind(FIRST_BYTES_QUEUE, copy_range=0, max_length=_MOST_WAITING, sequence=1)
        try:
            self._queue = listen(bind, _FAILURE)
        except ObserveError:
            self._copies.close()
            raise

    def follow(self, marks: MarkLayout) -> None:
        """Read and write marks of this layout from now on."""
        self._own, self._others, self._shift = marks.mask, marks.others, marks.shift
        self._scopes = {marks.value(ids[0]): scope for scope, ids in UNSETTLED.items()}

    def close(self) -> None:
        """Stop watching: what is held is dropped, and what comes waits or passes, by its scope."""
        self._copies.close()
        self._queue.close()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Readable when `read` has something to do."""
        return (self._queue,)

    def read(self, now: float) -> OpeningsHeld | None:
        """Packets that wait now, and what servers said before; None where there is nothing.

        One goes alone, and no look is taken at what is behind it: its server may wait for this very
        CPU. Those that come in a row are read together.
        """
        together = self._several or now - self._read_at < IN_A_ROW
        segments = self._receive(A_READING if together else 1)
        self._several = len(segments) > 1
        if segments:
            self._read_at = now
        copies, lost = self._read_copies()
        if not segments and not copies and not lost:
            return None
        return OpeningsHeld(tuple(segments), tuple(copies), lost)

    def decide(self, fates: tuple[Fate, ...]) -> None:
        """Let held packets go on, or not."""
        if len(fates) == 1:
            self._queue.send(self._verdict(fates[0]))
        else:
            self._send([self._verdict(fate) for fate in fates])

    # -- reading -------------------------------------------------------------------------------

    def _receive(self, most: int) -> list[HeldSegment]:
        found: list[HeldSegment] = []
        buffer = self._buffer
        for _ in range(most):
            try:
                size = self._queue.recv_into(buffer)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # what did not fit was dropped: its sender repeats it
            for ident, mark, packet in self._packets.marked(buffer, size):
                segment = self._segment(ident, mark, packet)
                if segment is None:
                    self.malformed += 1
                    self._queue.send(nfqueue.verdict(FIRST_BYTES_QUEUE, ident, nfqueue.DROP))
                else:
                    found.append(segment)
        return found

    def _segment(self, ident: int, mark: int, packet: bytes) -> HeldSegment | None:
        scope = self._scopes.get(mark & self._own)
        read = tcp_packet.segment(packet)
        if read is None or scope is None:
            return None
        if others := mark & self._others:
            self._waiting[ident] = others
        key, destination, port, first, flags, payload = read
        told = _FLAGS[flags & _TELLING]
        return HeldSegment(ident, key, scope, destination, port, first, payload, told, packet)

    def _read_copies(self) -> tuple[list[Copied], bool]:
        copies: list[Copied] = []
        lost = False
        buffer = self._buffer
        while True:
            try:
                size = self._copies.recv_into(buffer)
            except BlockingIOError:
                return copies, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.copies_lost += 1
                lost = True
                continue
            for copied in self._copied.payloads(buffer, size):
                read = tcp_packet.headers(copied)
                if read is None:
                    self.malformed += 1
                    continue
                key, acknowledged, flags, number = read
                copies.append(Copied(key, acknowledged, flags & _OPENS == _SYN_ACK, number))

    # -- verdicts ------------------------------------------------------------------------------

    def _verdict(self, fate: Fate) -> bytes:
        others = self._waiting.pop(fate.handle, 0) if self._waiting else 0
        if fate.dropped:
            return nfqueue.verdict(FIRST_BYTES_QUEUE, fate.handle, nfqueue.DROP)
        if fate.expects:
            mark = others | (fate.entry_id or 0) << self._shift
            return self._verdicts.accept_with(fate.handle, mark, fate.expects)
        # Without an id the mark is emptied too: so the kernel tells it from one that nobody read.
        return self._verdicts.accept(fate.handle, others | (fate.entry_id or 0) << self._shift)

    def _send(self, verdicts: list[bytes]) -> None:
        for start in range(0, len(verdicts), _A_SENDING):
            self._queue.send(b"".join(verdicts[start : start + _A_SENDING]))
