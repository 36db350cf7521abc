"""Sockets on which the kernel shows packets: queues (NFQUEUE) and copies (NFLOG)."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from ramfw.errors import ObserveError
from ramfw.wire.netlink import errors

DATAGRAM = 1 << 17
"""Bytes of the longest datagram."""
_NETLINK_NETFILTER = 12
_SO_RCVBUFFORCE = 33
_RECEIVE = 16 << 20  # bytes that may wait for the daemon
_PATIENCE = 5


def listen(bind: bytes, failure: str, *, room: int = _RECEIVE) -> socket.socket:
    """The socket, bound by this message, not blocking; `room` is how many bytes may wait in it.

    Raises ObserveError, beginning with `failure`, where it is not to be had.
    """
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        listener.bind((0, 0))
        with suppress(PermissionError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, room)
        listener.settimeout(_PATIENCE)
        listener.send(bind)
        failed = next((n for _, n in errors(listener.recv(DATAGRAM)) if n), 0)
        listener.setblocking(False)  # noqa: FBT003 - the socket module's own form
    except OSError as error:
        failed = error.errno or errno.EIO
    if failed:
        listener.close()
        # The kernel says EPERM where another socket has the number; the right itself we have.
        taken = failed in (errno.EBUSY, errno.EPERM)
        why = "another program listens" if taken else os.strerror(failed)
        raise ObserveError(f"{failure}: {why}")
    return listener
