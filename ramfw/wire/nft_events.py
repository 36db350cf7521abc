"""What nf_tables tells its listeners of each commit (group NFNLGRP_NFTABLES): who, and where.

Pure: bytes in, values out, no socket. Bytes that break the rules raise ValueError and nothing
else, and every walk ends. The kernel tells each change of a commit, and last the new generation,
with the process that made it. Format: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ramfw.core.ruleset import TABLE
from ramfw.wire.netlink import ATTRIBUTE, NFGEN, NLA_TYPE_MASK, U32, Message, align, messages

GROUP = 7
"""NFNLGRP_NFTABLES."""

PORT_OFFSET = 12
"""Where a message's header has the port of the socket that asked."""

_SUBSYSTEM = 10
_NFPROTO_INET = 1
_NEW_GENERATION = 15
_OWN = TABLE.encode()
_OBJECT_TABLE = 1  # the table's name, in every object's attributes
_GENERATION_PID, _GENERATION_NAME = 2, 3
_PORT = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class TableChanged:
    """Something of ramfw's table was made, changed or deleted, by the socket with this port."""

    port: int


@dataclass(frozen=True, slots=True)
class Generation:
    """A commit is done. `pid` counts as the kernel does, outside of any PID namespace."""

    port: int
    pid: int
    program: str


def changes(datagram: bytes) -> Iterator[TableChanged | Generation]:
    """What the datagram tells of ramfw's table, and the ends of commits, in order."""
    for message in messages(datagram):
        if message.kind >> 8 != _SUBSYSTEM or message.end - message.start < NFGEN.size:
            continue
        port = _PORT.unpack_from(datagram, message.start - _PORT.size)[0]
        family = datagram[message.start]
        if message.kind & 0xFF == _NEW_GENERATION:
            found = dict(_attributes(datagram, message))
            pid = found.get(_GENERATION_PID, b"")
            name = found.get(_GENERATION_NAME, b"").rstrip(b"\0").decode(errors="replace")
            yield Generation(port, U32.unpack(pid)[0] if len(pid) == U32.size else 0, name)
        elif family == _NFPROTO_INET and _is_own(datagram, message):
            yield TableChanged(port)


def _is_own(datagram: bytes, message: Message) -> bool:
    return any(
        kind == _OBJECT_TABLE and value.rstrip(b"\0") == _OWN
        for kind, value in _attributes(datagram, message)
    )


def _attributes(datagram: bytes, message: Message) -> Iterator[tuple[int, bytes]]:
    position, end = message.start + NFGEN.size, message.end
    while position < end:
        if end - position < ATTRIBUTE.size:
            raise ValueError(f"netlink attribute cut short at byte {position}")
        length, kind = ATTRIBUTE.unpack_from(datagram, position)
        if length < ATTRIBUTE.size or position + length > end:
            raise ValueError(f"netlink attribute of {length} bytes at byte {position}")
        yield kind & NLA_TYPE_MASK, datagram[position + ATTRIBUTE.size : position + length]
        position += align(length)
