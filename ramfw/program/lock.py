"""The lock on the table: the one netlink socket that owns it.

With the flags `owner, persist` (Linux 6.9) nobody but the socket that made the table, or adopted
it, can change it: others get EPERM, and `nft flush ruleset` passes over it. When the socket is
closed the table stays, until somebody adopts or deletes it. So the socket is to live on: the
service manager keeps it while no daemon lives (FDSTORE, sd_notify(3)), and the next daemon goes on
with the same one. libnftables opens sockets of its own; the lock takes their place in its contexts.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ramfw.errors import KernelError
from ramfw.wire.netlink import HEADER

FLAGS = frozenset({"owner", "persist"})
NETLINK_NETFILTER = 12
_SO_SNDBUFFORCE = 32
_SEND = 4 << 20  # bytes: the largest batches fit
_DATAGRAM = 1 << 17
_TRIES = 3

Context = TypeVar("Context")


def is_locked(line: str) -> bool:
    """Whether this line of a listing (`flags owner,persist`) tells a table that is owned."""
    return _flags(line) == FLAGS


def is_orphan(line: str) -> bool:
    """Whether it tells a table whose owner has gone, which can be adopted (`flags persist`)."""
    return _flags(line) == FLAGS - {"owner"}


def _flags(line: str) -> frozenset[str]:
    word, _, flags = line.partition(" ")
    return frozenset(flag.strip() for flag in flags.split(",")) if word == "flags" else frozenset()


class Lock:
    """A socket that may own the table."""

    def __init__(self, inherited: socket.socket | None = None) -> None:
        """Go on with the socket of an earlier daemon, or make one. Raises KernelError."""
        try:
            self.socket = inherited or _new()
            with suppress(PermissionError):  # in a user namespace of one's own
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND)
        except OSError as error:
            raise KernelError(error.errno or 0, "netlink socket") from error
        # As libnftables has its own, and Python one with a timeout.
        self.socket.setblocking(False)  # noqa: FBT003 - the socket's own form
        self.drain()

    def drain(self) -> None:
        """Read what nobody waits for any more: answers to a daemon that was killed."""
        with suppress(BlockingIOError):
            while len(self.socket.recv(_DATAGRAM)) >= HEADER.size:
                pass

    def shared(self) -> socket.socket:
        """The same socket, to be used and closed by somebody else of this process."""
        return socket.socket(fileno=os.dup(self.socket.fileno()))

    def given_to(self, open_context: Callable[[], Context]) -> Context:
        """A context of libnftables that speaks by this socket. Raises KernelError.

        libnftables binds no socket itself and compares no port, so that it does not notice.
        """
        for _ in range(_TRIES):
            before = _unbound()
            context = open_context()
            if len(opened := _unbound() - before) == 1:
                os.dup2(self.socket.fileno(), opened.pop(), inheritable=False)
                return context
        raise KernelError(0, "the lock", "the socket of libnftables was not found")


def _new() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    made.bind((0, 0))
    return made


def _unbound() -> set[int]:
    """The netfilter sockets of this process that have no port yet."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        number = int(entry.name)
        with suppress(OSError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(number)) as one:
                is_netfilter = (one.family, one.proto) == (socket.AF_NETLINK, NETLINK_NETFILTER)
                if is_netfilter and one.getsockname()[0] == 0:
                    found.add(number)
    return found
