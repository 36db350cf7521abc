"""Codec of NFQUEUE: packets that the kernel holds, and what becomes of each.

Pure. The formats are those of linux/netfilter/nfnetlink_queue.h. A queue is bound by one socket,
with `bind`; from then on each packet arrives as one datagram and waits for its verdict.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from ramfw.wire.netlink import (
    ATTRIBUTE,
    HEADER,
    NFGEN,
    NLA_TYPE_MASK,
    NLM_F_ACK,
    NLM_F_REQUEST,
    U32,
    Layouts,
    attribute,
    message,
    messages,
    u32,
)

DROP = 0
ACCEPT = 1

MAX_PAYLOAD = 0xFFFF - ATTRIBUTE.size
"""The bytes of a packet that one attribute has room for."""

_PACKET = 3 << 8
_VERDICT = 3 << 8 | 1
_CONFIG = 3 << 8 | 2
_VERDICT_BATCH = 3 << 8 | 3

_PACKET_HDR, _VERDICT_HDR, _MARK, _INDEV, _OUTDEV, _PAYLOAD, _CAP_LEN = 1, 2, 3, 5, 6, 10, 13
_PRIORITY = 21

_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_BIND, _UNBIND = 1, 2
_COPY_PACKET = 2
_FAIL_OPEN, _GSO = 1, 4

_COMMAND = struct.Struct("!BxH")
_PARAMS = struct.Struct("!IB")
# nfgen, the header of an attribute (in host order), verdict, packet id.
_VERDICT_BODY = struct.Struct("!BBH4sII")
_VERDICT_ATTRIBUTE = ATTRIBUTE.pack(12, _VERDICT_HDR)
_WHAT = struct.Struct("!II")
_MARKED = struct.Struct("!II4sI")
_EXPECTING = struct.Struct("!II4sI4s4s")
_NATIVE = struct.Struct("=I")
_MARK_ATTRIBUTE = ATTRIBUTE.pack(8, _MARK)
_PRIORITY_ATTRIBUTE = ATTRIBUTE.pack(8, _PRIORITY)
_VERDICT_SIZE = HEADER.size + _VERDICT_BODY.size
_IDENT = HEADER.size + NFGEN.size + ATTRIBUTE.size


class Queued(NamedTuple):
    """A packet that waits for its verdict, from its IP header on.

    `length` is the packet's own; `payload` is shorter where the queue's range cut it. `indev` and
    `outdev` are interface indexes, 0 where the hook knows none.
    """

    id: int
    hook: int
    mark: int
    indev: int
    outdev: int
    length: int
    payload: bytes


def bind(queue: int, *, copy_range: int, max_length: int, sequence: int) -> bytes:
    """The message that binds a queue to the socket; the kernel answers it.

    Packets are copied up to `copy_range` bytes (0: all), and what the kernel joined (GSO) arrives
    as one. Of more than `max_length` that wait the rest is dropped, never let through (no
    FAIL_OPEN). EPERM: another socket has the queue.
    """
    return _config(
        queue,
        sequence,
        attribute(_CFG_CMD, _COMMAND.pack(_BIND, 0)),
        attribute(_CFG_PARAMS, _PARAMS.pack(copy_range, _COPY_PACKET)),
        u32(_CFG_MAXLEN, max_length),
        u32(_CFG_FLAGS, _GSO),
        u32(_CFG_MASK, _GSO | _FAIL_OPEN),
    )


def unbind(queue: int, *, sequence: int) -> bytes:
    """The message that gives the queue back; what waits in it is dropped. Answered."""
    return _config(queue, sequence, attribute(_CFG_CMD, _COMMAND.pack(_UNBIND, 0)))


def packets(buffer: bytes) -> list[Queued]:
    """The packets in one datagram; answers to other messages are passed over.

    Raises ValueError where the framing is broken or a packet lacks its header.
    """
    return [
        _packet(buffer, start + NFGEN.size, end)
        for kind, _flags, _sequence, start, end in messages(buffer)
        if kind == _PACKET
    ]


class Reader:
    """Reads id, mark and payload of packets: what `packets` says of them, in less time."""

    def __init__(self) -> None:
        self._layouts = Layouts(_PACKET, _PAYLOAD, _MARK)

    def payloads(self, buffer: memoryview, size: int) -> list[tuple[int, bytes]]:
        """Of each packet in the datagram `buffer[:size]`.

        Raises ValueError where the framing is broken or a packet lacks its header.
        """
        found = self._layouts.find(buffer, size)
        if found is not None:
            start, end, _ = found
            return [(U32.unpack_from(buffer, _IDENT)[0], bytes(buffer[start:end]))]
        return [(queued.id, queued.payload) for queued in self._walk(bytes(buffer[:size]))]

    def marked(self, buffer: memoryview, size: int) -> list[tuple[int, int, bytes]]:
        """The same, with each packet's mark before its payload."""
        found = self._layouts.find(buffer, size)
        if found is not None:
            start, end, noted = found
            mark = U32.unpack_from(buffer, noted)[0] if noted else 0
            return [(U32.unpack_from(buffer, _IDENT)[0], mark, bytes(buffer[start:end]))]
        walked = self._walk(bytes(buffer[:size]))
        return [(queued.id, queued.mark, queued.payload) for queued in walked]

    def _walk(self, datagram: bytes) -> list[Queued]:
        read = packets(datagram)
        # The kernel writes the header first; where it did not, the id is elsewhere.
        if read and ATTRIBUTE.unpack_from(datagram, _IDENT - ATTRIBUTE.size)[1] == _PACKET_HDR:
            self._layouts.teach(datagram)
        return read


def verdict(
    queue: int, packet: int, what: int, *, mark: int | None = None, payload: bytes | None = None
) -> bytes:
    """What becomes of one packet; many, joined, may be sent as one datagram.

    `mark` sets the packet's mark. `payload` replaces the packet, from its IP header on, and must
    bring right checksums; ValueError where it is longer than MAX_PAYLOAD. The kernel answers only
    where it fails (ENOENT: the packet no longer waits).
    """
    more = b"" if mark is None else u32(_MARK, mark)
    if payload is not None:
        more += attribute(_PAYLOAD, payload)
    return _verdict(_VERDICT, queue, packet, what, more)


class Verdicts:
    """Makes the usual verdicts for one queue: what `verdict` makes, in less time."""

    def __init__(self, queue: int) -> None:
        size = HEADER.size + NFGEN.size + ATTRIBUTE.size + _MARKED.size
        header = HEADER.pack(size, _VERDICT, NLM_F_REQUEST, 0, 0)
        self._before = header + NFGEN.pack(0, 0, queue) + _VERDICT_ATTRIBUTE
        size += _EXPECTING.size - _MARKED.size
        header = HEADER.pack(size, _VERDICT, NLM_F_REQUEST, 0, 0)
        self._expecting = header + NFGEN.pack(0, 0, queue) + _VERDICT_ATTRIBUTE
        header = HEADER.pack(_VERDICT_SIZE, _VERDICT, NLM_F_REQUEST, 0, 0)
        self._unmarked = header + NFGEN.pack(0, 0, queue) + _VERDICT_ATTRIBUTE

    def pass_on(self, packet: int) -> bytes:
        """Let the packet go on as it is."""
        return self._unmarked + _WHAT.pack(ACCEPT, packet)

    def accept(self, packet: int, mark: int) -> bytes:
        """Let the packet go on with this mark."""
        return self._before + _MARKED.pack(ACCEPT, packet, _MARK_ATTRIBUTE, mark)

    def accept_with(self, packet: int, mark: int, priority: int) -> bytes:
        """Let the packet go on with this mark and, where the kernel can set it, this priority.

        There its four bytes are in network order, as in the packet that rules compare it with.
        """
        marked = ACCEPT, packet, _MARK_ATTRIBUTE, mark
        return self._expecting + _EXPECTING.pack(
            *marked, _PRIORITY_ATTRIBUTE, _NATIVE.pack(priority)
        )


def verdict_up_to(queue: int, packet: int, what: int) -> bytes:
    """One verdict for this packet and for all that still wait and came before it."""
    return _verdict(_VERDICT_BATCH, queue, packet, what, b"")


def _verdict(kind: int, queue: int, packet: int, what: int, more: bytes) -> bytes:
    header = HEADER.pack(_VERDICT_SIZE + len(more), kind, NLM_F_REQUEST, 0, 0)
    return header + _VERDICT_BODY.pack(0, 0, queue, _VERDICT_ATTRIBUTE, what, packet) + more


def _config(queue: int, sequence: int, *attributes: bytes) -> bytes:
    payload = NFGEN.pack(0, 0, queue) + b"".join(attributes)
    return message(_CONFIG, NLM_F_REQUEST | NLM_F_ACK, sequence, payload)


def _packet(buffer: bytes, position: int, end: int) -> Queued:
    numbers = {_PACKET_HDR: -1, _MARK: 0, _INDEV: 0, _OUTDEV: 0, _CAP_LEN: 0}
    hook, payload = 0, b""
    header, number = ATTRIBUTE.unpack_from, U32.unpack_from
    while end - position >= 4:  # noqa: PLR2004 - an attribute's header
        size, kind = header(buffer, position)
        if size < 4 or position + size > end:  # noqa: PLR2004 - the same
            raise ValueError(f"netlink attribute of {size} bytes at byte {position}")
        kind &= NLA_TYPE_MASK
        if kind in numbers:
            if size < (11 if kind == _PACKET_HDR else 8):
                raise ValueError(f"netlink attribute of {size} bytes at byte {position}")
            (numbers[kind],) = number(buffer, position + 4)
            if kind == _PACKET_HDR:
                hook = buffer[position + 10]
        elif kind == _PAYLOAD:
            payload = bytes(buffer[position + 4 : position + size])
        position += (size + 3) & ~3
    ident, mark, indev, outdev, length = numbers.values()
    if ident < 0:
        raise ValueError("a queued packet without its header")
    return Queued(ident, hook, mark, indev, outdev, length or len(payload), payload)
