"""The beginning of one direction of one TCP stream, put together from its segments.

Pure and bounded. Segments come in any order, twice, and overlap; where two differ in a byte, the
caller is told, and decides what that means.
"""

from __future__ import annotations

MAX_STREAM = 1 << 15
"""Bytes of a stream that are put together."""

MAX_GAPS = 32
"""Segments that wait for one before them."""

_MODULUS = 1 << 32
_HALF = 1 << 31


class Assembly:
    """The first bytes of a stream; offsets count from its first, sequence numbers are TCP's."""

    __slots__ = ("data", "first", "waiting")

    def __init__(self, first: int) -> None:
        """`first` is the sequence number of the first byte."""
        self.first = first % _MODULUS
        self.data = b""
        """What is there without a gap, from offset 0."""
        self.waiting: list[tuple[int, bytes]] = []  # beyond a gap

    def offset(self, sequence: int) -> int:
        """The place of a sequence number; before the first byte where negative."""
        return (sequence - self.first + _HALF) % _MODULUS - _HALF

    @property
    def size(self) -> int:
        """Bytes that are held, those that wait twice counted twice."""
        if not self.waiting:
            return len(self.data)
        return len(self.data) + sum(len(piece) for _, piece in self.waiting)

    @property
    def reach(self) -> int:
        """The offset behind the last byte that is held."""
        if not self.waiting:
            return len(self.data)
        return max(len(self.data), *(start + len(piece) for start, piece in self.waiting))

    def agrees(self, offset: int, payload: bytes) -> bool:
        """Whether no byte differs from one that is known for its place."""
        known = self.data[offset : offset + len(payload)]
        if known != payload[: len(known)]:
            return False
        for start, piece in self.waiting:
            low = max(offset, start)
            high = min(offset + len(payload), start + len(piece))
            here, there = payload[low - offset : high - offset], piece[low - start : high - start]
            if low < high and here != there:
                return False
        return True

    def add(self, offset: int, payload: bytes) -> bool:
        """Take a segment in that agrees; False where it is too far ahead to be kept.

        Of a segment that reaches beyond MAX_STREAM, and leaves no gap, the beginning is kept.
        """
        held, after = len(self.data), offset + len(payload)
        if offset > held:
            waits = sum(len(piece) for _, piece in self.waiting) + len(payload)
            if max(after, waits) > MAX_STREAM or len(self.waiting) >= MAX_GAPS:
                return False
            self.waiting.append((offset, payload))
        elif after > held:
            self.data += payload[held - offset : MAX_STREAM - offset]
            self._join()
        return True

    def keep(self, end: int) -> None:
        """Forget all but the first bytes, up to this offset."""
        self.data, self.waiting = self.data[:end], []

    def _join(self) -> None:
        """Add what waits to the data, as far as there is no gap."""
        progress = bool(self.waiting)
        while progress:
            progress = False
            for start, piece in self.waiting:
                if start <= len(self.data):
                    self.waiting.remove((start, piece))
                    self.data += piece[len(self.data) - start :]
                    progress = True
                    break
