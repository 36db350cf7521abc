"""DNS over TCP: from the segments of one direction of one flow to whole messages (RFC 7766).

Pure, bounded, and conservative: where two segments disagree about a byte, or more is missing than
is worth keeping, the stream is broken and yields nothing more. Where the segment that broke it is
dropped, what was yielded is what the receiver reads, whichever copy of a segment reaches it.
"""

from __future__ import annotations

from typing import NamedTuple

MAX_HISTORY = 1 << 16
"""Bytes that are remembered behind the last whole message, to compare what is sent again."""

MAX_WAITING = 1 << 16
"""Bytes that wait for a missing segment before them."""

MAX_WAITING_SEGMENTS = 32

_PREFIX = 2
_MODULUS = 1 << 32
_HALF = 1 << 31


class StreamMessage(NamedTuple):
    """One whole message, and the sequence number of its first byte (after the length)."""

    sequence: int
    payload: bytes


class Reassembler:
    """One direction of one flow, from its first byte on.

    Contract: `feed` takes segments in any order and gives each message once, in order, when its
    last byte is there. It holds at most a message, `MAX_HISTORY` and `MAX_WAITING`. `broken` says
    that it gave up: two copies of a byte differ, a repetition is older than its memory, too much
    waits for a missing segment. A broken stream gives nothing more. Never raises.
    """

    def __init__(self, sequence: int) -> None:
        """`sequence` is the first byte's: the SYN's number plus one."""
        self.broken = self._finished = False
        self._base = sequence % _MODULUS  # the sequence number of _bytes[0]
        self._bytes = bytearray()
        self._done = 0  # bytes of _bytes that were yielded
        self._waiting: dict[int, bytes] = {}  # by sequence number, all beyond a gap

    def continues(self, sequence: int, payload: bytes) -> bool:
        """Whether the segment goes on where the stream was read to, or says the same again.

        One that does not, because something before it is missing or it says another thing, leaves
        no trace if it is dropped instead of fed: its sender sends it again.
        """
        offset, held = self._offset(sequence), len(self._bytes)
        if self.broken or not 0 <= offset <= held:
            return False
        again = self._bytes[offset : offset + len(payload)]
        return again == payload[: len(again)] and not (self._finished and len(again) < len(payload))

    def finish(self) -> None:
        """Take nothing more: the sender has said that this was all."""
        self._finished = True

    @property
    def rest(self) -> StreamMessage | None:
        """The beginning of a message that is not whole yet; None where there is none."""
        start = self._done + _PREFIX
        if len(self._bytes) <= start:
            return None
        return StreamMessage((self._base + start) % _MODULUS, bytes(self._bytes[start:]))

    def feed(self, sequence: int, payload: bytes) -> list[StreamMessage]:
        """The messages that this segment completes; `sequence` is its first byte's."""
        if self.broken or self._finished or not payload:
            return []
        self._take(sequence, payload)
        progress = bool(self._waiting)
        while progress and not self.broken:
            progress = False
            for start in list(self._waiting):
                if self._offset(start) <= len(self._bytes):
                    self._take(start, self._waiting.pop(start))
                    progress = True
        return [] if self.broken else self._messages()

    def _offset(self, sequence: int) -> int:
        """The sequence number's place in _bytes; before it where negative."""
        return (sequence - self._base + _HALF) % _MODULUS - _HALF

    def _take(self, sequence: int, payload: bytes) -> None:
        offset, held = self._offset(sequence), len(self._bytes)
        if offset > held:
            self._wait(sequence, payload)
            return
        again = self._bytes[offset : offset + len(payload)] if offset >= 0 else b""
        if offset < 0 or again != payload[: len(again)]:
            self.broken = True
            return
        self._bytes += payload[len(again) :]

    def _wait(self, sequence: int, payload: bytes) -> None:
        known = self._waiting.get(sequence % _MODULUS, b"")
        short, long = sorted((known, payload), key=len)
        self._waiting[sequence % _MODULUS] = long
        held = sum(map(len, self._waiting.values()))
        too_much = held > MAX_WAITING or len(self._waiting) > MAX_WAITING_SEGMENTS
        self.broken = too_much or not long.startswith(short)

    def _messages(self) -> list[StreamMessage]:
        found = []
        held = self._bytes
        while len(held) - self._done >= _PREFIX:
            start = self._done + _PREFIX
            end = start + int.from_bytes(held[self._done : start], "big")
            if end > len(held):
                break
            found.append(StreamMessage((self._base + start) % _MODULUS, bytes(held[start:end])))
            self._done = end
        if self._done > 2 * MAX_HISTORY:
            forget = self._done - MAX_HISTORY
            del held[:forget]
            self._base = (self._base + forget) % _MODULUS
            self._done -= forget
        return found
