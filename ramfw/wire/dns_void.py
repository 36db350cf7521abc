"""Makes void in a TCP stream what would hide a connection's name, as its segments come.

Pure. `dns_service` tells what is made void and why. Over TCP a message may span segments, and what
waits for the rest of a message keeps its server from sending it. So each byte's fate is decided by
those before it: an ECHConfig's version becomes zeros, and of an ALPN id that begins with `h3` the
`3` becomes an `x`. A segment that is sent again, in whatever cuts, is changed in the same way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from ramfw.wire.dns_message import HTTPS, SVCB, Question, question
from ramfw.wire.dns_service import ALPN, ECH
from ramfw.wire.dns_stream import StreamMessage

MOST_PARTS = 256
"""Segments of one message; a message of 64 KiB takes 122 of the smallest usual ones."""
MOST_CHANGES = 4096
"""Bytes of a stream that are remembered as changed, for what is sent again."""

_MODULUS = 1 << 32
_HALF = 1 << 31
_POINTER = 0xC0
_PARAMETER = struct.Struct("!HH")
_RECORD = struct.Struct("!H6xH")
_H, _THREE, _VOID = b"h3x"
_VERSION = 2


class _CutShortError(Exception):
    """The rest has not come yet."""


class Voids:
    """The bytes of one stream, from its server, that are to be changed."""

    def __init__(self, permits: Callable[[str], bool]) -> None:
        """`permits` tells of which names the answers are to be changed."""
        self._permits = permits
        self._changes: dict[int, int] = {}
        self._sequence = -1
        self._position = 0  # of the first record of the message that was not whole yet
        self._parts = 0

    @property
    def is_exhausted(self) -> bool:
        """Whether a message is in more parts than are looked at: then no more of it may pass."""
        return self._parts > MOST_PARTS

    def follow(self, message: StreamMessage) -> None:
        """Look at a message as far as it has come; it begins as it did the last time."""
        if message.sequence != self._sequence:
            self._sequence, self._position, self._parts = message.sequence, 0, 0
        self._parts += 1
        payload = message.payload
        asked = question(payload)
        if asked is None or not asked.is_response or not self._permits(asked.name):
            return
        for position, value in self._places(payload, asked):
            self._changes[(message.sequence + position) % _MODULUS] = value
        while len(self._changes) > MOST_CHANGES:
            del self._changes[next(iter(self._changes))]

    def _places(self, payload: bytes, asked: Question) -> Iterator[tuple[int, int]]:
        """The bytes to be changed in the records that are new, and what they become."""
        position = max(self._position, asked.end)
        while position < len(payload):
            self._position = position
            try:
                header = _after_name(payload, position)
                kind, size = _unpack(_RECORD, payload, header)
                start = header + _RECORD.size
                end = start + size
                if kind in (SVCB, HTTPS):
                    yield from _places_in_record(payload, start, end)
            except _CutShortError:
                return
            position = end

    def applied(self, sequence: int, payload: bytes) -> bytes | None:
        """The segment's payload, changed; None where nothing in it is."""
        changed = None
        for place, value in self._changes.items():
            offset = (place - sequence + _HALF) % _MODULUS - _HALF
            if 0 <= offset < len(payload) and payload[offset] != value:
                changed = changed or bytearray(payload)
                changed[offset] = value
        return bytes(changed) if changed is not None else None


def _byte(payload: bytes, position: int) -> int:
    if position >= len(payload):
        raise _CutShortError
    return payload[position]


def _unpack(form: struct.Struct, payload: bytes, position: int) -> tuple[int, int]:
    if position + form.size > len(payload):
        raise _CutShortError
    first, second = form.unpack_from(payload, position)
    return first, second


def _after_name(payload: bytes, position: int) -> int:
    while length := _byte(payload, position):
        if length >= _POINTER:
            return position + 2
        position += length + 1
    return position + 1


def _places_in_record(payload: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    position = _after_name(payload, start + 2)
    while position < end:
        key, length = _unpack(_PARAMETER, payload, position)
        position += _PARAMETER.size
        if key == ALPN:
            yield from _places_in_alpn(payload, position, min(position + length, end))
        elif key == ECH:
            yield from _places_in_ech(payload, position, min(position + length, end))
        position += length


def _places_in_alpn(payload: bytes, position: int, end: int) -> Iterator[tuple[int, int]]:
    while position < end:
        length = _byte(payload, position)
        name = position + 1
        if length > 1 and _byte(payload, name) == _H and _byte(payload, name + 1) == _THREE:
            yield name + 1, _VOID
        position = name + length


def _places_in_ech(payload: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    position = start + 2
    while end - position >= _PARAMETER.size:
        for place in range(position, position + _VERSION):
            if place < len(payload):
                yield place, 0
        _, length = _unpack(_PARAMETER, payload, position)
        position += _PARAMETER.size + length
