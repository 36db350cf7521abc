"""Reads the copies of refused connections' first packets that the kernel sends (NFLOG)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Hashable, Iterable, Iterator
from ipaddress import ip_address

from ramfw.core.events import Address, Reason, Refusal
from ramfw.core.policy import ScopeName
from ramfw.core.refusals import LONGEST_COPY, REFUSAL_GROUP, REVOKED, Word
from ramfw.observe.given_names import Known
from ramfw.observe.listening import DATAGRAM, listen
from ramfw.wire import nflog, packet, sock_diag

_A_READING = 64
"""Datagrams; then the loop sees to other things."""
_QUIC_PORT = 443
_NETLINK_SOCK_DIAG = 4
_MODULUS = 1 << 32
_BEGINNING = packet.FIN | packet.SYN | packet.RST | packet.ACK
_PROTOCOLS = {packet.TCP: "tcp", packet.UDP: "udp"}

Ask = Callable[[Address, Address, bool], Known]
"""What was asked for around a connection to an address, from one, of a socket on this host."""


class RefusalLog:
    """The group's listener. Readable when `read` has something to do."""

    def __init__(self, ask: Ask) -> None:
        """Raises ObserveError where the kernel has no NFLOG, or another listener has the group."""
        bind = nflog.bind(REFUSAL_GROUP, copy_range=LONGEST_COPY, sequence=1)
        self.socket = listen(bind, "refusals cannot be logged")
        self.lost = 0
        """Times that refusals came faster than they were read."""
        self._ask = ask
        self._sockets = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        self._sockets.setblocking(False)  # noqa: FBT003 - the socket module's own form
        self._sequence = 0
        self._foreseen: dict[tuple[Hashable, ...], int | None] = {}

    def close(self) -> None:
        self.socket.close()
        self._sockets.close()

    def foresee(self, packets: Iterable[bytes]) -> None:
        """Look whose these packets are, which are about to be refused, while their clients wait.

        Once a client was told why, its socket may be gone before `read` can ask for it.
        """
        for held in packets:
            if (found := packet.headers(held)) is not None:
                self._foreseen[_ends(found)] = self._cgroup(found)

    def read(self) -> tuple[Refusal, ...]:
        """What waits now."""
        refusals = tuple(
            refusal
            for datagram in self._datagrams()
            for logged in _packets(datagram)
            if (refusal := self._refusal(logged)) is not None
        )
        self._foreseen.clear()
        return refusals

    def _datagrams(self) -> Iterator[bytes]:
        for _ in range(_A_READING):
            try:
                yield self.socket.recv(DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.lost += 1

    def _refusal(self, logged: nflog.Logged) -> Refusal | None:
        found = packet.headers(logged.payload)
        who, _, word = logged.prefix.decode("ascii", "replace").partition(" ")
        if found is None or word not in set(Word):
            return None
        if who != REVOKED and who not in set(ScopeName):
            return None
        source, destination = ip_address(found.source), ip_address(found.destination)
        known = self._ask(destination, source, logged.uid >= 0)
        return Refusal(
            scope=None if who == REVOKED else ScopeName(who),
            reason=Reason.REVOKED if who == REVOKED else _reason(found),
            audited=word == Word.AUDITED,
            source=source,
            source_port=found.sport,
            destination=destination,
            port=found.dport,
            protocol=_PROTOCOLS.get(found.protocol, str(found.protocol)),
            uid=None if logged.uid < 0 else logged.uid,
            cgroup=self._cgroup_of(found) if logged.uid >= 0 else None,
            names=known.names,
            after=known.after,
        )

    def _cgroup_of(self, found: packet.Headers) -> int | None:
        ends = _ends(found)
        return self._foreseen[ends] if ends in self._foreseen else self._cgroup(found)

    def _cgroup(self, found: packet.Headers) -> int | None:
        """The cgroup of the socket, if it is still there: one that was turned is."""
        if found.protocol not in _PROTOCOLS:
            return None
        self._sequence = (self._sequence + 1) % _MODULUS
        ends = (found.source, found.sport, found.destination, found.dport)
        try:
            self._sockets.send(sock_diag.question(found.protocol, *ends, sequence=self._sequence))
            # The kernel answers within the sending of the question.
            return sock_diag.cgroup_id(self._sockets.recv(DATAGRAM), self._sequence)
        except (OSError, ValueError):
            return None


def _ends(found: packet.Headers) -> tuple[Hashable, ...]:
    return found.protocol, found.source, found.sport, found.destination, found.dport


def _packets(datagram: bytes) -> list[nflog.Logged]:
    try:
        return nflog.packets(datagram)
    except ValueError:
        return []


def _reason(found: packet.Headers) -> Reason:
    if found.protocol == packet.UDP and found.dport == _QUIC_PORT:
        return Reason.QUIC
    if found.protocol == packet.TCP and found.flags & _BEGINNING != packet.SYN:
        return Reason.NOT_A_BEGINNING
    return Reason.NOT_PERMITTED
