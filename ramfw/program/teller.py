"""Tells clients that are refused by name why, in their servers' place.

The connection has its server by then. So the packet that is refused goes no further, and an answer
to it, in the client's own protocol, arrives by a device of ramfw's own as from the server; NAT, and
whatever else follows the connection, takes it for that. The order is fail-closed: an answer is made
while the packet waits, and where that fails in any way the kernel resets the connection. It is sent
when the kernel has refused the flow, and then a client that it does not reach sends its bytes
again, and is reset.

Where NAT has chosen the server, the kernel does not know the flow by the packet that waits: it is
asked by the answer that its server would send, and tells whether that is this client's.

Whether answers arrive is found by trying: the kernel shows those that got through the host's own
filters. Where several in a row did not, nobody is told for a while, and all are reset at once.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ramfw.core.commands import Decide, Fate, Told
from ramfw.core.events import Copied
from ramfw.core.marks import ANSWERED
from ramfw.errors import KernelError
from ramfw.program.lock import NETLINK_NETFILTER
from ramfw.program.tun import Tun
from ramfw.wire import nfnetlink, refusal, tcp, tcp_packet

HEARD_WITHIN = 0.1
"""Seconds in which an answer has got through, if it does."""
MOST_UNHEARD = 3
"""Answers in a row; then nobody is told for a while."""
NOT_TOLD_FOR = 60.0
"""Seconds until it is tried again."""
MOST_AWAITED = 1024
_DATAGRAM = 1 << 16
_MODULUS = 1 << 32
_IPV4_SIZE = 4
_ANY_PORT = 9

Way = tuple[int, str]
"""By which an answer goes: the version of IP, and the scope."""


@dataclass(slots=True)
class _Ready:
    """An answer that is to be sent, and how it is known when it is seen."""

    packet: bytes
    seen_as: tuple[bytes, int]
    way: Way


@dataclass(slots=True)
class Teller:
    """The device, and what was told by it. Never raises."""

    problem: str = ""
    told: int = 0
    heard: int = 0
    _device: Tun | None = None
    _flows: socket.socket | None = None
    _sequence: int = 0
    _again_at: float = 0.0
    _ready: list[_Ready] = field(default_factory=list)
    _awaited: dict[tuple[bytes, int], tuple[float, Way]] = field(default_factory=dict)
    _unheard: Counter[Way] = field(default_factory=Counter)
    _quiet_until: dict[Way, float] = field(default_factory=dict)

    def open(self, now: float) -> None:
        """Make the device; where that fails, `problem` says why, and it is tried again later."""
        self._again_at = now + NOT_TOLD_FOR
        try:
            self._device = Tun()
            self._flows = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
            self._flows.setblocking(False)  # noqa: FBT003 - the socket module's own form
        except (KernelError, OSError) as error:
            self.close()
            self.problem = str(error)
        else:
            self.problem = ""

    def close(self) -> None:
        """Take the device away."""
        for opened in (self._device, self._flows):
            if opened is not None:
                opened.close()
        self._device = self._flows = None

    # -- before and after the verdict ----------------------------------------------------------

    def prepare(self, decision: Decide, now: float) -> tuple[Fate, ...]:
        """The fates, with ANSWERED for what can be told: `tell` follows when they are sent."""
        if not decision.told:
            return decision.fates
        self._count_unheard(now)
        answered = {
            told.handle for told in decision.told if self._may_tell(told, now) and self._make(told)
        }
        return tuple(
            Fate(fate.handle, ANSWERED) if fate.handle in answered else fate
            for fate in decision.fates
        )

    def tell(self, now: float) -> None:
        """Send the answers that were made."""
        ready, self._ready = self._ready, []
        for one in ready:
            if self._device is None:
                return
            try:
                self._device.write(one.packet)
            except OSError as error:
                self._lose(str(error), now)
                return
            self.told += 1
            self._awaited[one.seen_as] = now, one.way
            if len(self._awaited) > MOST_AWAITED:
                del self._awaited[next(iter(self._awaited))]

    def saw(self, copies: Iterable[Copied], *, lost: bool) -> None:
        """Take in what the kernel has shown; `lost` tells that some of it did not come."""
        if not self._awaited:
            return
        for copy in copies:
            # To the engine a key is any value; `tcp_packet` made it.
            client = tcp_packet.source_of(copy.key) if isinstance(copy.key, bytes) else b""
            if (found := self._awaited.pop((client, copy.acknowledged), None)) is not None:
                self.heard += 1
                self._unheard.pop(found[1], None)
        if lost:
            self._awaited.clear()

    def unheard_ways(self, now: float) -> tuple[str, ...]:
        """Where answers do not arrive: the scope and the IP version of each."""
        return tuple(
            f"{scope} (IPv{version})"
            for (version, scope), until in sorted(self._quiet_until.items())
            if now < until
        )

    def try_again(self) -> None:
        """Tell everybody again: what kept answers from arriving may be gone."""
        self._unheard.clear()
        self._quiet_until.clear()

    # -- how -----------------------------------------------------------------------------------

    def _may_tell(self, told: Told, now: float) -> bool:
        if self._device is None and now >= self._again_at:
            self.open(now)
        if self._device is None:
            return False
        if not self._device.is_up():
            self._lose("its device was taken away", now)
            return False
        return now >= self._quiet_until.get(_way(told), 0.0)

    def _make(self, told: Told) -> bool:
        """Whether there is an answer now that can be sent."""
        payload = refusal.payload(told.opening, told.host, told.message)
        segment = tcp.read(told.packet)
        if payload is None or segment is None:
            return False
        try:
            reply = self._reply(segment.key)
            if reply is None:
                return False
            packet = tcp.answer(told.packet, segment, payload, reply)
        except (OSError, ValueError):
            return False
        # Not by its server: on this host NAT has written the one that the client knows by then.
        seen_as = tcp_packet.source_of(tcp_packet.key(segment.key)), segment.after
        self._ready.append(_Ready(packet, seen_as, _way(told)))
        return True

    def _reply(self, flow: tcp.FlowKey) -> tcp.FlowKey | None:
        """How the server's packets come; None where that is not known."""
        if (known := self._flow(flow)) is not None:
            return known[1]
        # NAT has chosen the server. Whether the client's address is written anew is tried; where
        # its port was, too, this is not found.
        client = flow.source, flow.sport
        for address in (flow.source, own_address(flow.destination)):
            reply = flow.reverse._replace(destination=address)
            known = self._flow(reply)
            if known is not None and known[1] == reply:
                original = known[0]
                if (original.source, original.sport) == client:
                    return reply
        return None

    def _flow(self, either: tcp.FlowKey) -> tuple[tcp.FlowKey, tcp.FlowKey] | None:
        """The flow to which packets belong that come so: its client's, and its server's."""
        if self._flows is None:
            return None
        self._sequence = (self._sequence + 1) % _MODULUS
        self._flows.send(nfnetlink.flow_request(either, self._sequence))
        # The kernel answers within the sending of the question.
        answer = self._flows.recv(_DATAGRAM)
        for message in nfnetlink.messages(answer):
            if nfnetlink.is_flow(message) and message.sequence == self._sequence:
                original = nfnetlink.original_of(answer, message)
                reply = nfnetlink.reply_of(answer, message)
                return None if original is None or reply is None else (original, reply)
        return None

    def _lose(self, problem: str, now: float) -> None:
        self.close()
        self.problem, self._again_at = problem, now + NOT_TOLD_FOR

    def _count_unheard(self, now: float) -> None:
        for seen_as, (when, way) in list(self._awaited.items()):
            if when + HEARD_WITHIN > now:
                return
            del self._awaited[seen_as]
            self._unheard[way] += 1
            if self._unheard[way] >= MOST_UNHEARD:
                # One that fails is enough when it is tried again.
                self._unheard[way] -= 1
                self._quiet_until[way] = now + NOT_TOLD_FOR


def own_address(server: bytes) -> bytes:
    """This host's own address on the way to a server. Raises OSError where there is no way."""
    family = socket.AF_INET if len(server) == _IPV4_SIZE else socket.AF_INET6
    # Nothing is sent: a datagram socket that is connected only has its way looked up (udp(7)).
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((socket.inet_ntop(family, server), _ANY_PORT))
        return socket.inet_pton(family, probe.getsockname()[0])


def _way(told: Told) -> Way:
    return told.packet[0] >> 4, told.scope
