"""The service manager: telling it how things stand, and having it keep a descriptor.

sd_notify(3) over its datagram socket; what it kept comes back as sd_listen_fds(3) says.
"""

from __future__ import annotations

import os
import socket
from array import array
from contextlib import suppress

FIRST = 3
"""The first descriptor that a service manager hands over."""


def notify(state: str) -> None:
    """Send a state (`READY=1`, `STATUS=…`) where NOTIFY_SOCKET names somebody to hear it."""
    _send(state, [])


def keep(name: str, descriptor: int) -> None:
    """Have the descriptor kept while the service does not live, for the next `kept`."""
    _send(f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", [descriptor])


def kept(name: str) -> int | None:
    """The descriptor that was kept under this name; others that were are closed. Once only."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return None
    found = None
    for offset in range(int(count)):
        descriptor = FIRST + offset
        if found is None and names[offset : offset + 1] == [name]:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - its only argument
            found = descriptor
        else:
            with suppress(OSError):
                os.close(descriptor)
    return found


def _send(state: str, descriptors: list[int]) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        # Without connect(2), which a service may not have the right to.
        manager.sendmsg([state.encode()], rights if descriptors else [], 0, address)
