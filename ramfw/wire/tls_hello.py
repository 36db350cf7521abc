"""The client's first bytes as a TLS ClientHello: the server name in it, or what is wrong with it.

Pure, and never raises, for whatever bytes. Strict, so that no server finds another name than is
read here: every length fits, nothing stands twice, and a hello that breaks a rule has no name.
Formats: RFC 8446 (records 5.1, ClientHello 4.1.2, extensions 4.2), RFC 5246 (7.4.1.2, a hello
without extensions, and E.2, the hello of SSL 2.0), RFC 6066 (3, the server name), RFC 7301 (ALPN).

What becomes of a name: upper case is folded (RFC 4343); any other visible ASCII stays as it was
sent, a dot at the end or an address too, and is the reader's to judge; a byte that is none (NUL,
space, control, 8 bits), no name or more than one in the list, and every other type of name than a
host's make the hello broken. OpenSSL and Go take the same view of lists.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

from ramfw.core.opening import BrokenHello, Hello, Ssl2Hello

MAX_HELLO = 1 << 14
"""Bytes of a hello, with its header: what one record may hold (RFC 8446, 5.1).

Go's is 1,540, and with session tickets none is known beyond a few thousand.
"""

MAX_STREAM = MAX_HELLO + (1 << 12)
"""Bytes of records that are looked through: a hello of 3,400 bytes in records of one byte each."""

MAX_SERVER_NAME = 255
"""Bytes of a server name: more than any DNS name has; OpenSSL's bound too."""

RECORD_HEADER = 5
_MAJOR = 3  # of SSL 3.0 and every TLS
_MAX_RECORD = 1 << 14
_HANDSHAKE = 22
# What some servers read past before the hello: change_cipher_spec and alerts, of these lengths.
_SKIPPED = {20: 1, 21: 2}
CLIENT_HELLO = 1
MESSAGE_HEADER = 4
RANDOM = 32
_MAX_SESSION = 32
SERVER_NAME = 0
ALPN = 16
# Encrypted ClientHello (RFC 9849) and its drafts' numbers; 0xffce is the encrypted name before it.
_ENCRYPTED = frozenset({0xFE08, 0xFE09, 0xFE0A, 0xFE0B, 0xFE0C, 0xFE0D, 0xFFCE})

_RECORD = struct.Struct("!BBBH")
_RECORD_AND_MESSAGE = struct.Struct("!BBxHI")
EXTENSION = struct.Struct("!HH")
_NAME_LIST = struct.Struct("!HBH")
_SHORT = struct.Struct("!H")
_VISIBLE = re.compile(rb"[!-~]+")


@dataclass(frozen=True, slots=True)
class NotTls:
    """Bytes of another protocol."""


class Incomplete(NamedTuple):
    """More bytes are needed.

    `message` is what was found of the hello in whole records, `position` where the next begins:
    so a stream that comes in many pieces is read through once.
    """

    position: int = 0
    message: bytes = b""


Outcome = Incomplete | Hello | Ssl2Hello | BrokenHello | NotTls


class _BrokenError(Exception):
    """A rule of the format that is broken, in words."""


def read(stream: bytes, before: Incomplete | None = None) -> Outcome:
    """What the client's bytes so far are; `before` is what was found in a shorter part of them.

    All but Incomplete is final: more bytes change nothing.
    """
    position, message = before or (0, b"")
    try:
        early = None if position else _beginning(stream)
        return _message(stream, position, message) if early is None else early
    except _BrokenError as error:
        return BrokenHello(str(error))


def _message(stream: bytes, position: int, message: bytes) -> Incomplete | Hello:
    """The hello in the records of the stream."""
    if not position and len(stream) >= _RECORD_AND_MESSAGE.size:
        kind, major, length, head = _RECORD_AND_MESSAGE.unpack_from(stream)
        end = RECORD_HEADER + length
        # The usual case, quickly: one record, which has one whole hello in it and no more.
        whole = head == CLIENT_HELLO << 24 | length - MESSAGE_HEADER and end <= len(stream)
        if whole and kind == _HANDSHAKE and major == _MAJOR and length <= MAX_HELLO:
            return _hello(stream[RECORD_HEADER:end], end)
    position, message = _records(stream, position, message)
    if len(message) < MESSAGE_HEADER:
        return Incomplete(position, message)
    if message[0] != CLIENT_HELLO:
        raise _BrokenError("the first handshake message is no ClientHello")
    end = _wanted(message)
    if end > MAX_HELLO:
        raise _BrokenError(f"a ClientHello of {end} bytes; {MAX_HELLO} are read")
    if len(message) < end:
        return Incomplete(position, message)
    if len(message) > end:
        raise _BrokenError("another message in the record of the ClientHello")
    return _hello(message, position)


def _beginning(stream: bytes) -> Outcome | None:
    """What the first bytes tell; None for a record of TLS, which is to be read."""
    if not stream:
        return Incomplete()
    first = stream[0]
    if first & 0x80:
        return _ssl2(stream)
    if first != _HANDSHAKE and first not in _SKIPPED:
        return NotTls()
    if len(stream) == 1:
        return Incomplete()
    if stream[1] != _MAJOR:
        return NotTls()
    if first == _HANDSHAKE:
        return None
    if len(stream) < RECORD_HEADER:
        return Incomplete()
    if int.from_bytes(stream[3:5], "big") != _SKIPPED[first]:
        return NotTls()
    raise _BrokenError("TLS that does not begin with a handshake")


def _ssl2(stream: bytes) -> Outcome:
    """Behind a length: type 1, and the version, of SSL 2.0 or 3.0 or beyond."""
    for position, allowed in ((2, (CLIENT_HELLO,)), (3, (0, _MAJOR))):
        if len(stream) <= position:
            return Incomplete()
        if stream[position] not in allowed:
            return NotTls()
    return Ssl2Hello()


def _records(stream: bytes, position: int, message: bytes) -> tuple[int, bytes]:
    """Where the whole records end that the message needs, and the message with their contents."""
    pieces, held, wanted, size = [message], len(message), _wanted(message), len(stream)
    while held < wanted and position + RECORD_HEADER <= size:
        kind, major, _, length = _RECORD.unpack_from(stream, position)
        if kind != _HANDSHAKE or major != _MAJOR:
            raise _BrokenError("a record of another kind within the ClientHello")
        if not 0 < length <= _MAX_RECORD:
            raise _BrokenError(f"a handshake record of {length} bytes")
        start = position + RECORD_HEADER
        if start + length > MAX_STREAM:
            raise _BrokenError(f"a ClientHello in more than {MAX_STREAM} bytes of records")
        if start + length > size:
            break
        position = start + length
        pieces.append(stream[start:position])
        held += length
        if wanted == MESSAGE_HEADER <= held:
            pieces = [b"".join(pieces)]
            wanted = _wanted(pieces[0])
    return position, b"".join(pieces)


def _wanted(message: bytes) -> int:
    """How many bytes the message has in all, as far as that is known."""
    if len(message) < MESSAGE_HEADER:
        return MESSAGE_HEADER
    return MESSAGE_HEADER + int.from_bytes(message[1:4], "big")


def _hello(message: bytes, end: int) -> Hello:
    size = len(message)
    position = MESSAGE_HEADER + 2 + RANDOM
    if position >= size or message[MESSAGE_HEADER] != _MAJOR:
        raise _BrokenError("a ClientHello of an unknown version")
    if message[position] > _MAX_SESSION:
        raise _BrokenError("a session id that is too long")
    position += 1 + message[position]
    ciphers = int.from_bytes(message[position : position + 2], "big")
    position += 2 + ciphers
    if ciphers < 2 or ciphers & 1 or position >= size:  # noqa: PLR2004 - the bytes of a suite
        raise _BrokenError("a list of cipher suites that is none")
    if message[position] == 0:
        raise _BrokenError("no compression method")
    position += 1 + message[position]
    if position == size:
        return Hello(None, encrypted=False, alpn=(), end=end)
    if position + 2 + int.from_bytes(message[position : position + 2], "big") != size:
        raise _BrokenError("extensions that do not end with the ClientHello")
    return _extensions(message, position + 2, size, end)


def _extensions(message: bytes, position: int, size: int, end: int) -> Hello:
    """The hello with what its extensions say; they stand from `position` to `size`."""
    server_name: str | None = None
    alpn: tuple[bytes, ...] = ()
    kinds = []
    unpack = EXTENSION.unpack_from
    last = size - EXTENSION.size
    while position <= last:
        kind, length = unpack(message, position)
        start = position + 4
        position = start + length
        kinds.append(kind)
        if kind == SERVER_NAME and position <= size:
            server_name = _server_name(message, start, length)
        elif kind == ALPN and position <= size:
            alpn = _protocols(message, start, position)
    if position != size:
        raise _BrokenError("an extension that is cut short")
    seen = set(kinds)
    if len(seen) != len(kinds):
        raise _BrokenError("an extension that is there twice")
    return Hello(server_name, not _ENCRYPTED.isdisjoint(seen), alpn, end)


def _server_name(message: bytes, start: int, length: int) -> str:
    """The one host name in the list of the extension (RFC 6066, section 3)."""
    if length < _NAME_LIST.size:
        raise _BrokenError("a list of server names without a name")
    whole, kind, size = _NAME_LIST.unpack_from(message, start)
    if whole != length - 2 or kind != 0 or size != whole - 3:
        raise _BrokenError("a list of server names that is not one host name")
    name = message[start + _NAME_LIST.size : start + length]
    if not 0 < size <= MAX_SERVER_NAME:
        raise _BrokenError(f"a server name of {size} bytes")
    read = visible_name(name)
    if read is None:
        what = "a NUL" if b"\0" in name else "a byte that no name has"
        raise _BrokenError(f"a server name with {what} in it")
    return read


def visible_name(name: bytes) -> str | None:
    """The name in lower case; None where a byte of it is not visible ASCII."""
    return name.lower().decode("ascii") if _VISIBLE.fullmatch(name) else None


def _protocols(message: bytes, start: int, end: int) -> tuple[bytes, ...]:
    """The application protocols that the client offers."""
    position, found = start + 2, []
    if end - start < 4 or _SHORT.unpack_from(message, start)[0] != end - position:  # noqa: PLR2004
        raise _BrokenError("a list of application protocols that is none")
    while position < end:
        length = message[position]
        position += 1 + length
        if length == 0 or position > end:
            raise _BrokenError("an application protocol that is cut short")
        found.append(message[position - length : position])
    return tuple(found)
