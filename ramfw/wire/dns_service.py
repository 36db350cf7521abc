"""Makes void, in a DNS message, what would hide the name in a connection's first bytes.

Pure. Service bindings (SVCB and HTTPS records, RFC 9460) may tell a client to encrypt the server
name (ECH: RFC 9848, RFC 9849) or to use QUIC (`h3`). Both are overwritten in place: over TCP a
message cannot change its length, and a record whose keys do not strictly ascend is refused whole,
so no key is renamed. Instead an ECHConfig gets a version that nobody speaks (clients must pass
over unknown ones) and an ALPN id another name (clients pass over ids they do not know). Address
hints stay: they open nothing. A DNSSEC signature over a changed record no longer fits.
"""

from __future__ import annotations

import struct

from ramfw.wire.dns_message import (
    HTTPS,
    SVCB,
    MalformedError,
    Question,
    records,
    wire_name,
)

ALPN = 1
ECH = 5

VOID_VERSION = b"\0\0"
"""An ECHConfig version that was never given out."""

VOID_ALPN = b"x"
"""Takes the place of the `h` in `h3` and its drafts (`h3-29`)."""

_PARAMETER = struct.Struct("!HH")


def neutralize(payload: bytes, asked: Question) -> bytes | None:
    """The message with every ECH key and every `h3` made void, of the same length.

    `asked` is `question(payload)`. None where nothing has to change, and for a message that is
    malformed or no response to a standard query, of which nothing counts anyway. Doing it again
    changes nothing.
    """
    if not asked.is_response:
        return None
    changed = bytearray(payload)
    try:
        for record in records(payload, asked.end, wire_name(payload, asked)):
            if record.type in (SVCB, HTTPS):
                _void_record(changed, record.start, record.end)
    except (MalformedError, struct.error, IndexError):
        return None
    return None if changed == payload else bytes(changed)


def _void_record(message: bytearray, start: int, end: int) -> None:
    """Void the parameters of one record, whose frame is right; see RFC 9460, section 2.2."""
    position = start + 2
    while message[position]:  # the target, which is not compressed
        position += message[position] + 1
    position += 1
    while position < end:
        key, length = _PARAMETER.unpack_from(message, position)
        position += _PARAMETER.size
        if key == ALPN:
            _void_alpn(message, position, position + length)
        elif key == ECH:
            _void_ech(message, position, position + length)
        position += length


def _void_alpn(message: bytearray, position: int, end: int) -> None:
    while position < end:
        length = message[position]
        if length >= len(b"h3") and message[position + 1 : position + 3] == b"h3":
            message[position + 1 : position + 2] = VOID_ALPN
        position += length + 1


def _void_ech(message: bytearray, start: int, end: int) -> None:
    """Void each version; the configs of a list that breaks its own frame become zeros."""
    start += 2
    position = start
    while end - position >= _PARAMETER.size:
        _version, length = _PARAMETER.unpack_from(message, position)
        message[position : position + 2] = VOID_VERSION
        position += _PARAMETER.size + length
    if position != end:
        message[start:end] = bytes(max(end - start, 0))
