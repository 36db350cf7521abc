"""Reads the packets that the kernel holds until their flow's name is known, and lets them go.

The kernel shows, in a queue, what clients send on flows whose first bytes are awaited, and copies
what their servers say (`core.name_rules`). What becomes of a packet is decided elsewhere.

The queue is read before the copies: what a server said is always copied before its client can
answer it, so then all that the packets follow from is among the copies.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass, field

from ramfw.core.commands import Fate
from ramfw.core.events import Copied, HeldSegment, OpeningsHeld
from ramfw.core.flows import Flags
from ramfw.core.marks import UNSETTLED, MarkLayout
from ramfw.core.name_rules import FIRST_BYTES_QUEUE, LONGEST_COPY, SERVER_GROUP
from ramfw.core.policy import ScopeName
from ramfw.errors import ObserveError
from ramfw.observe.listening import listen
from ramfw.wire import nflog, nfqueue, packet, tcp

_FAILURE = "names cannot be checked"
_DATAGRAM = 1 << 17
_MOST_WAITING = 16_384
_A_SENDING = 1024  # verdicts
_A_READING = 512  # packets; then the loop sees to other things
_SYN_ACK = packet.SYN | packet.ACK


@dataclass(slots=True)
class OpeningsWatch:
    """The queue, and the copies of what servers said."""

    marks: MarkLayout
    malformed: int = 0
    copies_lost: int = 0
    _waiting: dict[int, int] = field(default_factory=dict)
    """The marks of the packets that wait, without what is ramfw's own."""
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_DATAGRAM)))
    _copies: socket.socket = field(init=False)
    _queue: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        """Raises ObserveError where the kernel has no queue, or another listener has it."""
        self._copies = listen(
            nflog.bind(SERVER_GROUP, copy_range=LONGEST_COPY, sequence=1), _FAILURE
        )
        bind = nfqueue.bind(FIRST_BYTES_QUEUE, copy_range=0, max_length=_MOST_WAITING, sequence=1)
        try:
            self._queue = listen(bind, _FAILURE)
        except ObserveError:
            self._copies.close()
            raise

    def close(self) -> None:
        """Stop watching: what is held is dropped, and what comes waits or passes, by its scope."""
        self._copies.close()
        self._queue.close()

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """Readable when `read` has something to do."""
        return (self._queue,)

    def read(self) -> OpeningsHeld | None:
        """The packets that wait now, and what servers said before; None where there is nothing."""
        held = self._receive()
        copies, lost = self._copied()
        segments = []
        for queued in held:
            segment = self._segment(queued)
            if segment is None:
                self.malformed += 1
                self._send([self._verdict(Fate(queued.id, dropped=True))])
            else:
                segments.append(segment)
        if not segments and not copies and not lost:
            return None
        return OpeningsHeld(tuple(segments), tuple(copies), lost)

    def decide(self, fates: tuple[Fate, ...]) -> None:
        """Let held packets go on, or not."""
        self._send([self._verdict(fate) for fate in fates])

    # -- reading -------------------------------------------------------------------------------

    def _receive(self) -> list[nfqueue.Queued]:
        found: list[nfqueue.Queued] = []
        for _ in range(_A_READING):
            try:
                size = self._queue.recv_into(self._buffer)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # what did not fit was dropped: its sender repeats it
            found += nfqueue.packets(bytes(self._buffer[:size]))
        return found

    def _segment(self, queued: nfqueue.Queued) -> HeldSegment | None:
        self._waiting[queued.id] = queued.mark & self.marks.others
        segment = tcp.read(queued.payload)
        scope = _SCOPES.get((queued.mark & self.marks.mask) >> self.marks.shift)
        if not isinstance(segment, tcp.TcpSegment) or scope is None:
            return None
        return HeldSegment(
            queued.id,
            segment.key,
            scope,
            segment.key.destination,
            segment.key.dport,
            segment.first,
            queued.payload[segment.start : segment.end],
            Flags(
                syn=bool(segment.flags & packet.SYN),
                fin=bool(segment.flags & packet.FIN),
                urgent=bool(segment.flags & tcp.URG),
            ),
        )

    def _copied(self) -> tuple[list[Copied], bool]:
        copies: list[Copied] = []
        lost = False
        while True:
            try:
                size = self._copies.recv_into(self._buffer)
            except BlockingIOError:
                return copies, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.copies_lost += 1
                lost = True
                continue
            for copied in nflog.packets(bytes(self._buffer[:size])):
                head = tcp.headers(copied.payload)
                if head is None:
                    self.malformed += 1
                    continue
                opens = head.flags & (_SYN_ACK | packet.RST | packet.FIN) == _SYN_ACK
                copies.append(Copied(head.key.reverse, head.acknowledged, opens))

    # -- verdicts ------------------------------------------------------------------------------

    def _verdict(self, fate: Fate) -> bytes:
        others = self._waiting.pop(fate.handle, 0)
        if fate.dropped:
            return nfqueue.verdict(FIRST_BYTES_QUEUE, fate.handle, nfqueue.DROP)
        # Without an id the mark is emptied too: so the kernel tells it from one that nobody read.
        mark = others | self.marks.value(fate.entry_id or 0)
        return nfqueue.verdict(FIRST_BYTES_QUEUE, fate.handle, nfqueue.ACCEPT, mark=mark)

    def _send(self, verdicts: list[bytes]) -> None:
        for start in range(0, len(verdicts), _A_SENDING):
            self._queue.send(b"".join(verdicts[start : start + _A_SENDING]))


_SCOPES: dict[int, ScopeName] = {ids[0]: scope for scope, ids in UNSETTLED.items()}
