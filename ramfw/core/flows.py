"""The first bytes of each new flow, put together, and when a judgement of them counts.

Pure. Times are seconds on the caller's monotonic clock; sequence numbers are TCP's, modulo 2**32.

**The attack.** Whoever can write raw packets shows this machine a decoy, a hello with a permitted
name that the server never takes (a small TTL, a bad checksum or acknowledgement, an MD5 option, a
number from before the connection), and then sends the server another. Each rule is one answer:

- *The server says where the stream begins.* `opened` takes the number that its SYN-ACK
  acknowledges, never the client's SYN, which may be a decoy too. What lies before was never the
  server's to read and is not looked at; a flow whose beginning was not seen is refused.
- *One stream.* Segments may come in any order, twice, and overlap. Two that differ in a byte of
  what is judged, or may be, end the flow, because the server may have taken either: also after the
  judgement, until it is settled. Urgent data ends it too: receivers take it out of the stream.
- *Each segment passes only with what is judged so far.* While the opening is unfinished no server
  can answer it, so segments pass as they come, and a client that waits for an acknowledgement
  before it goes on is not stuck. The one that finishes it waits for the judgement.
- *A judgement is settled when the server has acknowledged the bytes that were judged.* All copies
  of them that ever passed were the same, so these it took. Until then the flow's packets must come
  by here; afterwards none needs to. An acknowledgement of what never passed is not believed.
  The kernel can be told what will be acknowledged, and then settles it by itself (EXPECTED).
- *The end is an end.* Some servers answer a request that the stream ends in. So a FIN has what
  there is judged, is settled with it, and what comes for a place behind it ends the flow; so does
  an end before what came already, which the server may never have had.
- *Never for ever.* What is exceeded is refused: time, the bytes and segments of a flow, those of
  all flows together (then it is the oldest that loses its place, not the newcomer).

    opened             a first byte        finished           permitted           acknowledged
    ──────▶ SILENT ──────────▶ READING ──────────▶ ASKED ──────────▶ PERMITTED ──────▶ SETTLED
                                  │                  │                   │
                                  ▼                  ▼                   ▼
                                REFUSED: conflict, urgent data, too much, too long, by judgement

A flow that is forgotten before it is settled counts as one that was never seen: it is refused.
The caller tells of the server's SYN-ACK before the client can have it, or a new connection on the
same ports is taken for the old one. Data in a SYN (Fast Open) never passes: a client that gets no
answer to it sends a plain one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum, auto
from typing import NamedTuple

from ramfw.core.assembly import MAX_STREAM, Assembly
from ramfw.core.opening import Opening, Unfinished, judged_end

MAX_SEGMENTS = 512
"""Segments of a flow before it is judged."""

MAX_BYTES = 16 << 20
"""Bytes of all flows together."""

MAX_FLOWS = 1 << 16

LONGEST_SILENCE = 3600.0
"""Seconds from the handshake to the first byte."""

LONGEST_OPENING = 10.0
"""Seconds from the first byte to a whole opening, and from that to its judgement."""

LONGEST_UNSETTLED = 3600.0
"""Seconds from the judgement to the server's acknowledgement, which comes with its answer."""

LONGEST_EXPECTED = 15.0
"""Seconds from the judgement, if the kernel was told what the server will acknowledge; it does not
tell back. Of the latest MOST_EXPECTED more is remembered, for LONGEST_UNSETTLED: should one not
have been settled so, its later packets come by here."""

MOST_EXPECTED = 1024

LONGEST_SETTLED = 5.0
"""Seconds for which packets of a settled flow still pass that were on their way here before."""

LONGEST_REFUSED = 3600.0
"""Seconds for which a refused flow is remembered, with the reason."""


class Reason(StrEnum):
    """Why a flow is refused, whatever it says."""

    UNSEEN = "its beginning was not seen"
    CONFLICT = "it sent different bytes for the same place in its stream"
    URGENT = "it sent urgent data before it was judged"
    TOO_MANY_SEGMENTS = "its first bytes came in too many pieces"
    TOO_LONG = "its first bytes are too many"
    CROWDED = "too many connections did not finish their first bytes"
    TOO_SLOW = "its first bytes were not whole in time"
    NOT_JUDGED = "it was not judged in time"
    NOT_TAKEN = "its server never took what was judged"
    NOT_PERMITTED = "what it asked for is not permitted"


@dataclass(frozen=True, slots=True)
class PassOn:
    """The segment may go to the server."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The segment may not go on now; the client sends it again."""


class Judge(NamedTuple):
    """The segment waits: `permitted` or `refused` must follow, and then it goes on or never."""

    opening: Opening


@dataclass(frozen=True, slots=True)
class Refuse:
    """No segment of the flow goes on any more."""

    reason: Reason


Verdict = PassOn | Drop | Judge | Refuse

PASS_ON = PassOn()
DROP = Drop()


@dataclass(frozen=True, slots=True)
class Flags:
    """What a segment's header says that bears on its payload."""

    syn: bool = False
    fin: bool = False
    urgent: bool = False


NO_FLAGS = Flags()


@dataclass(frozen=True, slots=True)
class Expired:
    """A flow that ran out of time, and is refused or forgotten."""

    key: Hashable
    reason: Reason | None
    """None where the kernel was to settle it, and has long since."""


class _State(IntEnum):
    """In the order in which flows lose their place when there are too many.

    Numbers, because a plain Enum's hash is computed in Python, several times for each flow.
    """

    SETTLED = auto()
    EXPECTED = auto()
    REFUSED = auto()
    SILENT = auto()
    READING = auto()
    PERMITTED = auto()
    ASKED = auto()


_LONGEST = {
    _State.SETTLED: LONGEST_SETTLED,
    _State.EXPECTED: LONGEST_UNSETTLED,
    _State.REFUSED: LONGEST_REFUSED,
    _State.SILENT: LONGEST_SILENCE,
    _State.READING: LONGEST_OPENING,
    _State.PERMITTED: LONGEST_UNSETTLED,
    _State.ASKED: LONGEST_OPENING,
}
_EXPIRY = {
    _State.READING: Reason.TOO_SLOW,
    _State.PERMITTED: Reason.NOT_TAKEN,
    _State.ASKED: Reason.NOT_JUDGED,
}


_UNFINISHED = Unfinished()
_DONE = frozenset({_State.SETTLED, _State.REFUSED})
_UNSETTLED = frozenset({_State.PERMITTED, _State.EXPECTED})


class _Flow(Assembly):
    """One flow, and how far it has come."""

    __slots__ = (
        *("end", "ends", "entered", "passed", "progress"),
        *("reason", "segments", "server", "state"),
    )

    def __init__(self, first: int, now: float, server: int) -> None:
        super().__init__(first)
        self.state = _State.SILENT
        self.server = server  # the number by which its server opened it
        self.entered = now
        self.progress: Unfinished | None = None
        self.segments = 0
        self.passed = 0  # the offset behind all that went on
        self.end = 0  # the offset behind what was judged
        self.ends = False  # whether that was all, and a FIN behind it
        self.reason = Reason.NOT_PERMITTED

    def fits(self, offset: int, payload: bytes) -> bool:
        """Whether it may be the same stream."""
        beyond = self.ends and offset + len(payload) > self.end
        return not beyond and self.agrees(offset, payload)


def _longest(state: _State, count: int) -> float:
    """Seconds that a flow may be in a state, in which so many are."""
    is_crowded = state is _State.EXPECTED and count > MOST_EXPECTED
    return LONGEST_EXPECTED if is_crowded else _LONGEST[state]


def _of_done(flow: _Flow | None) -> Verdict:
    """The verdict on a flow that was never seen, or of which all is known."""
    if flow is None:
        return Refuse(Reason.UNSEEN)
    return PASS_ON if flow.state is _State.SETTLED else Refuse(flow.reason)


class Flows:
    """All flows that are not settled yet. Never raises, whatever clients send.

    `read` and `ended` are those of `wire.first_bytes`: what all bytes so far are, given what was
    said before, and what they are when no more will come. Keys are the caller's: one for each
    flow, the same in both directions.
    """

    def __init__(
        self,
        read: Callable[[bytes, Unfinished | None], Unfinished | Opening],
        ended: Callable[[bytes], Opening],
    ) -> None:
        self._read = read
        self._ended = ended
        self._flows: dict[Hashable, _Flow] = {}
        # Of each state, in the order in which they entered it: the first expires first.
        self._by_state: dict[_State, dict[Hashable, _Flow]] = {state: {} for state in _State}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def held_bytes(self) -> int:
        """Bytes of all flows together."""
        return self._bytes

    def opened(self, key: Hashable, first: int, now: float, server: int = 0) -> bool:
        """The server has opened the flow; `first` is what its SYN-ACK acknowledges.

        It may be told again: then it is False. With another number, or one of the server's own
        (`server`) that is another, it is a new connection in the old one's place: a client may
        choose its number, and so the same one twice.
        """
        known = self._flows.get(key)
        if known is not None:
            if (known.first, known.server) == (first % (1 << 32), server):
                return False
            self._forget(key, known)
        while len(self._flows) >= MAX_FLOWS:
            self._evict(_State)
        flow = _Flow(first, now, server)
        self._flows[key] = self._by_state[_State.SILENT][key] = flow
        return True

    def segment(
        self, key: Hashable, sequence: int, payload: bytes, now: float, flags: Flags = NO_FLAGS
    ) -> Verdict:
        """What may become of a segment of the client: `sequence` is its first byte's.

        Segments without payload need not come by, unless they are urgent or the last.
        """
        flow = self._flows.get(key)
        if flags.syn and payload:
            return DROP
        if flow is None or flow.state in _DONE:
            return _of_done(flow)
        if flow.state is _State.SILENT and flags is NO_FLAGS and sequence == flow.first:
            return self._first(key, flow, payload, now)
        if flags.urgent:
            return self._refuse(key, flow, Reason.URGENT, now)
        offset = flow.offset(sequence)
        if offset < 0:
            payload, offset = payload[-offset:], 0
        if payload and not flow.fits(offset, payload):
            return self._refuse(key, flow, Reason.CONFLICT, now)
        if flags.fin and offset + len(payload) < flow.reach:
            return self._refuse(key, flow, Reason.CONFLICT, now)
        if flow.state in _UNSETTLED:
            return self._behind(key, flow, offset + len(payload) if payload else 0, now)
        return self._undecided(key, flow, offset, payload, now, fin=flags.fin)

    def _behind(self, key: Hashable, flow: _Flow, after: int, now: float) -> Verdict:
        """A segment of a flow that was judged well, up to that offset."""
        flow.passed = max(flow.passed, after)
        if flow.state is _State.EXPECTED:
            # The kernel did not settle it before more came: from now on the copies tell.
            self._enter(key, flow, _State.PERMITTED, now)
        return PASS_ON

    def _first(self, key: Hashable, flow: _Flow, payload: bytes, now: float) -> Verdict:
        """The first bytes of a flow, which nearly always are the whole opening."""
        size = len(payload)
        found = self._read(payload, None) if 0 < size <= MAX_STREAM else _UNFINISHED
        if isinstance(found, Unfinished):
            return self._undecided(key, flow, 0, payload, now, fin=False)
        flow.segments, flow.passed, flow.data = 1, size, payload
        self._bytes += size
        asked = self._ask(key, flow, found, now)
        self._make_room(now)
        return Refuse(flow.reason) if flow.state is _State.REFUSED else asked

    def _undecided(  # noqa: PLR0913 - a segment's fields
        self, key: Hashable, flow: _Flow, offset: int, payload: bytes, now: float, *, fin: bool
    ) -> Verdict:
        """A segment of a flow that is not judged yet, and differs from nothing that is known."""
        if flow.state is _State.ASKED:
            return DROP if payload or fin else PASS_ON
        if fin and offset > len(flow.data):
            return DROP
        verdict = self._more(key, flow, offset, payload, now) if payload else PASS_ON
        if fin and flow.state is _State.READING and verdict == PASS_ON:
            flow.ends = True
            return self._ask(key, flow, self._ended(flow.data), now)
        return verdict

    def _more(self, key: Hashable, flow: _Flow, offset: int, payload: bytes, now: float) -> Verdict:
        """A segment of a flow whose opening is not whole yet."""
        held, before = len(flow.data), flow.size
        if not flow.add(offset, payload):
            return DROP
        if flow.state is _State.SILENT:
            self._enter(key, flow, _State.READING, now)
        self._bytes += flow.size - before
        flow.passed = max(flow.passed, offset + len(payload))
        flow.segments += 1
        if flow.segments > MAX_SEGMENTS:
            return self._refuse(key, flow, Reason.TOO_MANY_SEGMENTS, now)
        self._make_room(now)
        if flow.state is _State.REFUSED:
            return Refuse(flow.reason)
        return self._look(key, flow, now) if len(flow.data) > held else PASS_ON

    def _look(self, key: Hashable, flow: _Flow, now: float) -> Verdict:
        """Whether what is there now is a whole opening."""
        found = self._read(flow.data, flow.progress)
        if isinstance(found, Unfinished):
            flow.progress = found
            if len(flow.data) >= MAX_STREAM:
                return self._refuse(key, flow, Reason.TOO_LONG, now)
            return PASS_ON
        return self._ask(key, flow, found, now)

    def _ask(self, key: Hashable, flow: _Flow, opening: Opening, now: float) -> Judge:
        # Only what was judged is compared from here on; what comes behind it is the client's.
        self._bytes -= flow.size
        flow.end = judged_end(opening, len(flow.data))
        flow.keep(flow.end)
        self._bytes += flow.end
        self._enter(key, flow, _State.ASKED, now)
        return Judge(opening)

    def permitted(self, key: Hashable, now: float) -> bool:
        """The opening was judged well: whether the segment that waits may go on."""
        flow = self._flows.get(key)
        if flow is None or flow.state is not _State.ASKED:
            return False
        self._enter(key, flow, _State.PERMITTED, now)
        return True

    def expected(self, key: Hashable, now: float) -> int:
        """As `permitted`; what the server will acknowledge when it has taken all that was judged.

        0 where it cannot be told, or the flow is not asked about: then nothing has changed.
        """
        flow = self._flows.get(key)
        if flow is None or flow.state is not _State.ASKED or flow.ends:
            return 0
        number = (flow.first + flow.end) % (1 << 32)
        if number:
            self._enter(key, flow, _State.EXPECTED, now)
        return number

    def asked(self, key: Hashable) -> object | None:
        """The flow whose judgement is awaited, as something to tell it by; None where none is."""
        flow = self._flows.get(key)
        return flow if flow is not None and flow.state is _State.ASKED else None

    def refused(self, key: Hashable, now: float, reason: Reason = Reason.NOT_PERMITTED) -> None:
        """The flow was judged badly, or is to end for another reason."""
        flow = self._flows.get(key)
        if flow is not None and flow.state is not _State.REFUSED:
            self._refuse(key, flow, reason, now)

    def acknowledged(self, key: Hashable, ack: int, now: float) -> bool:
        """Whether the server's acknowledgement settles the flow, here and now."""
        flow = self._flows.get(key)
        if flow is None or flow.state not in _UNSETTLED:
            return False
        # A FIN has a number of its own.
        if not flow.end + flow.ends <= flow.offset(ack) <= flow.passed + 1:
            return False
        self._bytes -= flow.size
        flow.keep(0)
        self._enter(key, flow, _State.SETTLED, now)
        return True

    def expire(self, now: float) -> list[Expired]:
        """The flows that ran out of time since; silent, settled and refused ones are forgotten."""
        expired = []
        for state, flows in self._by_state.items():
            for key, flow in self._overdue(state, flows, now):
                reason = _EXPIRY.get(state)
                if reason is None:
                    self._forget(key, flow)
                else:
                    self._refuse(key, flow, reason, now)
                if reason is not None or state is _State.EXPECTED:
                    expired.append(Expired(key, reason))
        return expired

    @staticmethod
    def _overdue(
        state: _State, flows: dict[Hashable, _Flow], now: float
    ) -> list[tuple[Hashable, _Flow]]:
        """The flows of a state that ran out of time."""
        left, overdue = len(flows), []
        for key, flow in flows.items():
            if flow.entered + _longest(state, left) > now:
                break
            overdue.append((key, flow))
            left -= 1
        return overdue

    def next_deadline(self) -> float | None:
        """When `expire` has something to do; None where there is no flow."""
        firsts = (
            (state, next(iter(flows.values()))) for state, flows in self._by_state.items() if flows
        )
        return min(
            (flow.entered + _longest(state, len(self._by_state[state])) for state, flow in firsts),
            default=None,
        )

    def _enter(self, key: Hashable, flow: _Flow, state: _State, now: float) -> None:
        del self._by_state[flow.state][key]
        flow.state, flow.entered = state, now
        self._by_state[state][key] = flow

    def _refuse(self, key: Hashable, flow: _Flow, reason: Reason, now: float) -> Refuse:
        self._bytes -= flow.size
        flow.keep(0)
        flow.reason = reason
        self._enter(key, flow, _State.REFUSED, now)
        return Refuse(reason)

    def _forget(self, key: Hashable, flow: _Flow) -> None:
        self._bytes -= flow.size
        del self._flows[key]
        del self._by_state[flow.state][key]

    def _make_room(self, now: float) -> None:
        """Refuse the oldest flows while there are too many bytes; before, forget settled ones."""
        while self._bytes > MAX_BYTES and self._by_state[_State.EXPECTED]:
            self._evict((_State.EXPECTED,))
        while self._bytes > MAX_BYTES:
            self._refuse_oldest((_State.READING, _State.PERMITTED, _State.ASKED), now)

    def _refuse_oldest(self, states: Iterable[_State], now: float) -> None:
        """Refuse the oldest flow of the first of these states that has one: its bytes go."""
        for state in states:
            for key, flow in self._by_state[state].items():
                self._refuse(key, flow, Reason.CROWDED, now)
                return

    def _evict(self, states: Iterable[_State]) -> None:
        """Forget the oldest flow of the first of these states that has one."""
        for state in states:
            for key, flow in self._by_state[state].items():
                self._forget(key, flow)
                return
