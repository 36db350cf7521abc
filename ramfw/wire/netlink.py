"""Netlink's framing: messages of one datagram, and attributes (linux/netlink.h).

Pure: bytes in, values out, no socket. Bytes that break the rules raise ValueError and nothing
else, and every walk ends. Lengths and types are in host order; values of netfilter's attributes
are in network order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3

NLM_F_REQUEST = 0x001
NLM_F_ACK = 0x004
NLM_F_DUMP_INTR = 0x010
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF
"""An attribute's type, without the bits that say how its value is packed."""

MAX_ATTRIBUTE = 0xFFFF
"""The bytes of one attribute, its header included."""

HEADER = struct.Struct("=IHHII")
"""A message's header: length, kind, flags, sequence, port."""

NFGEN = struct.Struct("!BBH")
"""nfnetlink's own header, after the message's: family, version, resource (a queue, a group)."""

ATTRIBUTE = struct.Struct("=HH")
"""An attribute's header: length with this header, type."""

U32 = struct.Struct("!I")
_FIRST_ATTRIBUTE = HEADER.size + NFGEN.size
_MOST_LAYOUTS = 4
_ERRNO = struct.Struct("=i")
_REPLY = struct.Struct("=IHHIIi")


class Message(NamedTuple):
    """One netlink message; its payload is buffer[start:end]."""

    kind: int
    flags: int
    sequence: int
    start: int
    end: int


def align(length: int) -> int:
    """The length with its padding to four bytes."""
    return (length + 3) & ~3


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its padding; raises ValueError where the value is too long for one."""
    length = 4 + len(value)
    if length > MAX_ATTRIBUTE:
        raise ValueError(f"a netlink attribute of {length} bytes; {MAX_ATTRIBUTE} is the most")
    return ATTRIBUTE.pack(length, kind) + value + bytes(-length & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(attributes))


def u32(kind: int, value: int) -> bytes:
    """An attribute of four bytes in network order."""
    return attribute(kind, U32.pack(value))


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """One message from the process; the payload is whole attributes, so it needs no padding."""
    return HEADER.pack(HEADER.size + len(payload), kind, flags, sequence, 0) + payload


def messages(buffer: bytes) -> Iterator[Message]:
    """The messages of one datagram, in order.

    Raises ValueError at a header that is cut short or whose length leaves the buffer.
    """
    position, size = 0, len(buffer)
    while position < size:
        if size - position < HEADER.size:
            raise ValueError(f"netlink header cut short at byte {position}")
        length, kind, flags, sequence, _port = HEADER.unpack_from(buffer, position)
        end = position + length
        if length < HEADER.size or end > size:
            raise ValueError(f"netlink message of {length} bytes at byte {position} of {size}")
        yield Message(kind, flags, sequence, position + HEADER.size, end)
        position += align(length)


def attributes(buffer: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind of each attribute in `buffer[position:end]`, and where its value begins and ends.

    Raises ValueError where one's length breaks the rules.
    """
    while end - position >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(buffer, position)
        if length < ATTRIBUTE.size or position + length > end:
            raise ValueError(f"netlink attribute of {length} bytes at byte {position}")
        yield kind & NLA_TYPE_MASK, position + ATTRIBUTE.size, position + length
        position += align(length)


class Layouts:
    """Finds the last attribute of a message in one step, where one before was laid out alike.

    The kernel writes the same attributes, of the same sizes, before each packet that comes the
    same way. So the place of the packet in a message is known from one that was walked through,
    if all headers on the way to it are the same. Pure but for what it was taught.
    """

    def __init__(self, kind: int, last: int, noted: int = 0) -> None:
        """`kind` is that of the messages, `last` that of the attribute, which ends them.

        `noted` is another attribute, before it, whose place is told too.
        """
        self._kind, self._last, self._noted = kind, last, noted
        self._known: list[tuple[struct.Struct, tuple[int, ...], int]] = []

    def find(
        self, buffer: bytes | bytearray | memoryview, size: int
    ) -> tuple[int, int, int] | None:
        """Where the attribute's value begins and ends, and where that of the noted one begins.

        The last is 0 where the message has none. None where there is more to it: then
        `buffer[:size]` is to be walked through, and may be taught.
        """
        for headers, expected, noted in self._known:
            start = headers.size
            if size < start:
                continue
            found = headers.unpack_from(buffer)
            end = start - ATTRIBUTE.size + found[-2]
            # Nothing but padding follows: neither another attribute nor another message.
            ends = found[0] == size and 0 <= size - end < ATTRIBUTE.size
            if ends and found[-1] == self._last and found[1:-2] == expected:
                return start, end, noted
        return None

    def teach(self, message: bytes) -> None:
        """Remember how a message is laid out, if it is a single one and such an attribute ends it.

        For messages whose framing was checked: a walk through all attributes found no fault.
        """
        form, way, position = f"=IH{HEADER.size - 6 + NFGEN.size}x", [self._kind], _FIRST_ATTRIBUTE
        noted = 0
        while position + ATTRIBUTE.size <= len(message):
            length, kind = ATTRIBUTE.unpack_from(message, position)
            form += "HH"
            if kind == self._last:
                self._known.insert(0, (struct.Struct(form), tuple(way), noted))
                del self._known[_MOST_LAYOUTS:]
                return
            if kind & NLA_TYPE_MASK == self._noted:
                noted = position + ATTRIBUTE.size
            form += f"{align(length) - ATTRIBUTE.size}x"
            way += (length, kind)
            position += align(length)


def error_number(buffer: bytes, message: Message) -> int:
    """The errno in an NLMSG_ERROR or NLMSG_DONE message, positive; 0 is success.

    Raises ValueError where the message has none.
    """
    if message.end - message.start < _ERRNO.size:
        raise ValueError("a netlink error message without an errno")
    return -int(_ERRNO.unpack_from(buffer, message.start)[0])


def is_success(buffer: memoryview, size: int, sequence: int) -> bool:
    """Whether `buffer[:size]` says of message `sequence` that it was done as asked, and no more."""
    if size < _REPLY.size:
        return False
    length, kind, _flags, answered, _port, error = _REPLY.unpack_from(buffer)
    return (kind, length, answered, error) == (NLMSG_ERROR, size, sequence, 0)


def errors(buffer: bytes | memoryview) -> Iterator[tuple[int, int]]:
    """Sequence and errno (0: done as asked) of each answer in one datagram of the kernel's.

    Such an answer repeats the request, however long, unless the socket says NETLINK_CAP_ACK; one
    that a short buffer cut off still tells its errno, and ends the walk. Other messages are
    passed over. Raises ValueError where the framing is broken.
    """
    position, size = 0, len(buffer)
    while position < size:
        if size - position < HEADER.size:
            raise ValueError(f"netlink header cut short at byte {position}")
        length, kind, _flags, sequence, _port = HEADER.unpack_from(buffer, position)
        if length < HEADER.size:
            raise ValueError(f"netlink message of {length} bytes at byte {position} of {size}")
        if kind == NLMSG_ERROR:
            if min(length, size - position) < _REPLY.size:
                raise ValueError("a netlink error message without an errno")
            yield sequence, -int(_REPLY.unpack_from(buffer, position)[-1])
        position += align(length)
