"""Codec of sock_diag: which cgroup the socket of a connection belongs to.

Pure. The formats are those of linux/inet_diag.h and sock_diag(7). One TCP or UDP socket is asked
for by its addresses and ports; a kernel since 5.9 tells its cgroup's id with the answer.
"""

from __future__ import annotations

import struct

from ramfw.wire.netlink import (
    ATTRIBUTE,
    NLA_TYPE_MASK,
    NLM_F_REQUEST,
    message,
    messages,
)

_SOCK_DIAG_BY_FAMILY = 20
_INET_DIAG_CGROUP_ID = 21
_AF_INET, _AF_INET6 = 2, 10
_ALL_STATES = 0xFFFFFFFF
_NO_COOKIE = 0xFFFFFFFF

# family, protocol, extensions, padding, states; then the socket's id.
_REQUEST = struct.Struct("=BBBxI")
# ports and addresses in network order, the rest in the host's.
_PORTS = struct.Struct("!HH16s16s")
_REST = struct.Struct("=III")
_ANSWER = 72  # sizeof(struct inet_diag_msg)
_CGROUP = struct.Struct("=Q")


def question(  # noqa: PLR0913 - a connection has that many ends
    protocol: int, source: bytes, sport: int, destination: bytes, dport: int, *, sequence: int
) -> bytes:
    """The message that asks for one socket, by packed addresses of 4 or 16 bytes."""
    family = _AF_INET if len(source) == 4 else _AF_INET6  # noqa: PLR2004 - an IPv4 address
    ports = _PORTS.pack(sport, dport, source, destination)
    rest = _REST.pack(0, _NO_COOKIE, _NO_COOKIE)
    request = _REQUEST.pack(family, protocol, 0, _ALL_STATES) + ports + rest
    return message(_SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, sequence, request)


def cgroup_id(buffer: bytes, sequence: int) -> int | None:
    """The id in the answer to a question; None where there is no such socket, or none is told.

    Raises ValueError where the framing is broken.
    """
    for kind, _flags, number, start, end in messages(buffer):
        if kind != _SOCK_DIAG_BY_FAMILY or number != sequence:
            continue
        position = start + _ANSWER
        while end - position >= ATTRIBUTE.size:
            size, attribute = ATTRIBUTE.unpack_from(buffer, position)
            if size < ATTRIBUTE.size or position + size > end:
                raise ValueError(f"netlink attribute of {size} bytes at byte {position}")
            if attribute & NLA_TYPE_MASK == _INET_DIAG_CGROUP_ID and size >= 4 + _CGROUP.size:
                return int(_CGROUP.unpack_from(buffer, position + 4)[0])
            position += (size + 3) & ~3
    return None
