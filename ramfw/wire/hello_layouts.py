"""ClientHellos of a client whose hellos are laid out like one before: read in one step.

A client sends the same extensions, of the same sizes, each time; what differs is random numbers,
keys, and the name. So of a hello whose every length and type stands where it stood in one that
`tls_hello` has read through, all is known but the name. Pure but for what it was taught.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ramfw.core.opening import Hello
from ramfw.wire.tls_hello import (
    ALPN,
    CLIENT_HELLO,
    EXTENSION,
    MESSAGE_HEADER,
    RANDOM,
    RECORD_HEADER,
    SERVER_NAME,
    visible_name,
)

MOST_LAYOUTS = 64
"""Layouts that are remembered, one of each size; then it begins anew."""

# Record and message, version, random; what follows counts from here.
_HEAD = f"!BBxHIBx{RANDOM}x"
_HEAD_SIZE = struct.calcsize(_HEAD)
_NAME_LIST = 5  # the bytes before the name in its extension


@dataclass(frozen=True, slots=True)
class _Layout:
    headers: struct.Struct
    expected: tuple[int | bytes, ...]
    """All that `headers` finds: lengths and types, and the protocols that are offered."""
    name: slice
    encrypted: bool
    alpn: tuple[bytes, ...]


class HelloLayouts:
    """What was taught: the layouts of hellos, by their size."""

    def __init__(self) -> None:
        self._known: dict[int, _Layout] = {}

    def find(self, stream: bytes) -> Hello | None:
        """The hello that the whole stream is; None where it is to be read through."""
        size = len(stream)
        layout = self._known.get(size)
        if layout is None:
            return None
        if layout.headers.unpack_from(stream) != layout.expected:
            # Not taught again at once: some clients have another layout each time.
            del self._known[size]
            return None
        name = visible_name(stream[layout.name])
        return None if name is None else Hello(name, layout.encrypted, layout.alpn, size)

    def teach(self, stream: bytes, hello: Hello) -> None:
        """Remember how a hello is laid out that was read, and found good, in this stream."""
        if hello.end != len(stream) or hello.server_name is None:
            return
        layout = _layout(stream, hello)
        if layout is None:
            return
        if len(self._known) >= MOST_LAYOUTS:
            self._known.clear()
        self._known[len(stream)] = layout


def _layout(stream: bytes, hello: Hello) -> _Layout | None:
    """How it is laid out; None for a hello that is not one record."""
    position, form, name = _HEAD_SIZE, _HEAD, slice(0)
    # The session id and the compression methods have one byte for their length, suites have two.
    for width in (1, 2, 1):
        length = int.from_bytes(stream[position : position + width], "big")
        form += f"{' BH'[width]}{length}x"
        position += width + length
    form += "H"
    position += 2
    while position + EXTENSION.size <= len(stream):
        kind, length = EXTENSION.unpack_from(stream, position)
        position += EXTENSION.size
        if kind == SERVER_NAME:
            name = slice(position + _NAME_LIST, position + length)
            form += f"HHHBH{length - _NAME_LIST}x"
        elif kind == ALPN:
            form += f"HH{length}s"
        else:
            form += f"HH{length}x"
        position += length
    headers = struct.Struct(form)
    if headers.size != len(stream):
        return None
    expected = headers.unpack(stream)
    length = len(stream) - RECORD_HEADER
    if expected[2:4] != (length, CLIENT_HELLO << 24 | length - MESSAGE_HEADER):
        return None
    return _Layout(headers, expected, name, hello.encrypted, hello.alpn)
