"""A TUN device of the daemon's own: what is written to it arrives as from a network.

It has the name `ramfw0` (or the next free number), lives as long as its file is open, and needs
CAP_NET_ADMIN. It has an address, because the kernel's loose check of sources lets nothing in by a
device without one; it is the one that is nobody's (RFC 7600), and good on this host alone.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from contextlib import suppress
from ipaddress import IPv4Address

from ramfw.core.name_rules import TELLING
from ramfw.errors import KernelError
from ramfw.wire import tun
from ramfw.wire.netlink import errors

DEVICE = "/dev/net/tun"
DUMMY = IPv4Address("192.0.0.8")
_DATAGRAM = 1 << 16
_PATIENCE = 2.0


class Tun:
    """The device, up and ready."""

    def __init__(self, path: str = DEVICE) -> None:
        """Raises KernelError where it is not to be had."""
        try:
            self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(error.errno or errno.EIO, f"opening {path}") from error
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            request = tun.name_request(TELLING.replace("*", "%d"))
            made = fcntl.ioctl(self._file, tun.SET_NAME, request)
            self.name, _ = tun.read_request(made)
            _set_up(socket.if_nametoindex(self.name))
        except OSError as error:
            self.close()
            raise KernelError(error.errno or errno.EIO, "making a TUN device") from error

    def close(self) -> None:
        """The device is gone then."""
        os.close(self._file)
        self._socket.close()

    def is_up(self) -> bool:
        """Whether it is still there, and nobody has taken it down."""
        try:
            answer = fcntl.ioctl(self._socket, tun.GET_FLAGS, tun.flags_request(self.name))
        except OSError:
            return False
        return bool(tun.read_request(answer)[1] & tun.UP)

    def write(self, packet: bytes) -> None:
        """Have an IP packet arrive. Raises OSError."""
        os.write(self._file, packet)


def _set_up(index: int) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as route:
        route.settimeout(_PATIENCE)
        with suppress(OSError):  # without IPv6 there is nothing to be told
            _ask(route, tun.no_own_address(index, 1))
        _ask(route, tun.source_check(index, 2))
        _ask(route, tun.address(index, DUMMY.packed, 3))
        _ask(route, tun.up(index, 4))


def _ask(route: socket.socket, message: bytes) -> None:
    route.send(message)
    for _, number in errors(route.recv(_DATAGRAM)):
        if number:
            raise OSError(number, os.strerror(number))
