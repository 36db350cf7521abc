"""The sockets that a service manager passed on (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket

FIRST = 3


def passed_sockets() -> list[socket.socket]:
    """The listening sockets meant for this process, without blocking; none if there are none.

    The variables are removed: no child takes them for its own.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isascii() or not count.isdigit():
        return []
    found = []
    for descriptor in range(FIRST, FIRST + int(count)):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the os module's own form
        listener = socket.socket(fileno=descriptor)
        listener.setblocking(False)  # noqa: FBT003 - the same
        found.append(listener)
    return found
