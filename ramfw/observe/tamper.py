"""Sees when somebody else changes ramfw's table, or other rules, from nf_tables' own events.

A change of ours is known by the port of the socket that made it: the events of our sockets, and of
the processes that change the table for us, are dropped in the kernel, by a filter; those of a
socket that was made since are compared with the sockets that this process has. Needs CAP_NET_ADMIN
in the network namespace.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import itertools
import os
import socket
import struct
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from pathlib import Path

from ramfw.core.events import OtherRulesChanged, TableTouched
from ramfw.errors import ObserveError
from ramfw.wire.nft_events import GROUP, PORT_OFFSET, Generation, TableChanged, changes

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_ADD_MEMBERSHIP = 1
_SO_ATTACH_FILTER = 26
_SO_RCVBUFFORCE = 33
_RECEIVE = 4 << 20  # bytes: others' largest commits fit
_DATAGRAM = 1 << 17
_A_READING = 64
"""Datagrams; then the loop sees to other things."""
_LONGEST_UNTOLD = 1.0
"""Seconds for which it is read on before a loss is told."""

_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALL = 0xFFFFFFFF


def own_ports() -> frozenset[int]:
    """The ports of all netfilter sockets that this process has."""
    ports = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError, ValueError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as found:
                if found.family == socket.AF_NETLINK and found.proto == _NETLINK_NETFILTER:
                    ports.add(int(found.getsockname()[0]))
    # One that has sent nothing yet has none; 0 is the kernel's own.
    return frozenset(ports - {0})


class TamperWatch:
    """Listens from its making on, so that nothing is missed before `changes` is asked."""

    def __init__(self) -> None:
        """Raises ObserveError where events cannot be had."""
        self._known = own_ports()
        self._touched: set[int] = set()
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            self._socket.bind((0, 0))
            with suppress(PermissionError):  # in a user namespace of one's own
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE)
            _drop_from(self._socket, self._known)
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, GROUP)
            self._socket.settimeout(0)
        except OSError as error:
            raise ObserveError(
                f"changes of the rules by others cannot be seen: {error.strerror or error}"
            ) from error

    def ignore(self, ports: frozenset[int]) -> None:
        """From now on drop what these ports do, too, and no longer what those before them did.

        The kernel tells of a commit before it is done with it: once a process has ended, nothing
        of it is still to come. May be called from any thread.
        """
        with suppress(OSError):  # closed, or else its events are read, and looked into
            _drop_from(self._socket, self._known | ports)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    async def changes(self) -> AsyncGenerator[TableTouched | OtherRulesChanged, None]:
        """Each commit of somebody else, and whether it touched the table, until closed.

        Of what the kernel could not keep nothing is known: somebody unknown may have touched the
        table. From the first event that it drops it drops all until everything was read, and says
        so once. So that is told when nothing is left, and once a second while it goes on.
        """
        loop = asyncio.get_running_loop()
        tell_at: float | None = None
        """When it is told at the latest that something was lost."""
        for number in itertools.count(1):
            if number % _A_READING == 0:
                await asyncio.sleep(0)  # others have their turn, however much comes
            try:
                if tell_at is None:
                    datagram = await loop.sock_recv(self._socket, _DATAGRAM)
                else:
                    datagram = self._socket.recv(_DATAGRAM)
            except BlockingIOError:
                tell_at = None
                yield TableTouched(0, "")
                continue
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise ObserveError(f"nf_tables' events: {error.strerror}") from error
                tell_at = loop.time() + _LONGEST_UNTOLD if tell_at is None else tell_at
                self._touched.clear()  # whose commits these were may be among the lost
                continue
            for event in self._read(datagram):
                yield event
            if tell_at is not None and tell_at <= loop.time():
                tell_at = loop.time() + _LONGEST_UNTOLD
                yield TableTouched(0, "")

    def _read(self, datagram: bytes) -> Iterable[TableTouched | OtherRulesChanged]:
        for change in changes(datagram):
            match change:
                case TableChanged(port):
                    self._touched.add(port)
                case Generation(port, pid, program) if port in self._touched:
                    self._touched.discard(port)
                    if port not in own_ports():
                        yield TableTouched(pid, program)
                case Generation(port) if port not in own_ports():
                    yield OtherRulesChanged()


def _drop_from(listener: socket.socket, ports: Iterable[int]) -> None:
    """Let the kernel drop what these ports did: large commits of ours are not even copied.

    A classic BPF program (linux/filter.h); it reads in network order what the header has in the
    host's.
    """
    swapped = [struct.unpack("!I", struct.pack("=I", port))[0] for port in ports]
    program = [(_LOAD_WORD, 0, 0, PORT_OFFSET)]
    for index, port in enumerate(swapped):
        program.append((_JUMP_EQUAL, len(swapped) - index, 0, port))
    program += [(_RETURN, 0, 0, _ALL), (_RETURN, 0, 0, 0)]
    code = b"".join(struct.pack("=HBBI", *step) for step in program)
    buffer = ctypes.create_string_buffer(code)
    listener.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("@HP", len(program), ctypes.addressof(buffer)),
    )
