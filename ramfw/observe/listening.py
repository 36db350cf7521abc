"""A netlink socket that the kernel shows packets to: a queue of NFQUEUE, or a group of NFLOG."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress

from ramfw.errors import ObserveError
from ramfw.wire.netlink import errors

_NETLINK_NETFILTER = 12
_SO_RCVBUFFORCE = 33
_RECEIVE = 16 << 20  # bytes that may wait for the daemon
_DATAGRAM = 1 << 17
_PATIENCE = 5.0


def listen(bind: bytes, what: str) -> socket.socket:
    """A socket without blocking, bound by this message of `wire.nfqueue` or `wire.nflog`.

    Raises ObserveError, in words that begin with `what`, where the kernel cannot, or where another
    program listens.
    """
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        listener.bind((0, 0))
        with suppress(PermissionError):
            listener.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE)
        listener.settimeout(_PATIENCE)
        listener.send(bind)
        failed = next((n for _, n in errors(listener.recv(_DATAGRAM)) if n), 0)
        listener.setblocking(False)  # noqa: FBT003 - the socket module's own form
    except OSError as error:
        failed = error.errno or errno.EIO
    if failed:
        listener.close()
        # The kernel says EPERM where another socket has the number; the right itself we have.
        taken = failed in (errno.EBUSY, errno.EPERM)
        why = "another program listens" if taken else os.strerror(failed)
        raise ObserveError(f"{what} cannot be watched: {why}")
    return listener
