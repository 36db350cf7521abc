"""First bytes that the kernel holds are read and let go: alone, or together where many come.

What the kernel itself does with queue and copies is shown in the lab.
"""

from __future__ import annotations

import errno
import struct

import pytest

from ramfw.core.commands import Fate
from ramfw.core.events import Copied, OpeningsHeld
from ramfw.core.marks import EXPECTED, UNSETTLED, MarkLayout
from ramfw.core.name_rules import FIRST_BYTES_QUEUE
from ramfw.core.policy import ScopeName
from ramfw.observe.openings import IN_A_ROW, OpeningsWatch
from ramfw.wire import netlink, nfqueue
from ramfw.wire.packet import ACK, FIN, RST, SYN
from ramfw.wire.tcp import URG, FlowKey
from ramfw.wire.tcp_packet import key
from tests.unit.wire.test_tcp import FOUR, SIX, packet

MARKS = MarkLayout(0x00FFFF00)
OTHERS = 0x7F000001
ENGINES = MARKS.value(UNSETTLED[ScopeName.ENGINES][0])


class Kernel:
    """Both sockets: what waits in each, and the verdicts that were sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.copies, self.queue = Socket(), Socket()
        sockets = iter((self.copies, self.queue))
        monkeypatch.setattr("ramfw.observe.openings.listen", lambda *_: next(sockets))

    def hold(self, ident: int, data: bytes, mark: int = ENGINES) -> None:
        attributes = (
            netlink.attribute(1, struct.pack("!IHB", ident, 0x0800, 3)),
            netlink.u32(6, 2),
            netlink.u32(3, mark),
            netlink.attribute(10, data),
        )
        self.queue.waiting.append(message(3 << 8, *attributes))

    def copy(self, data: bytes) -> None:
        header = netlink.attribute(1, struct.pack("!HBx", 0x0800, 1))
        self.copies.waiting.append(message(4 << 8, header, netlink.attribute(9, data)))


class Socket:
    """A socket of the kernel's, without blocking."""

    def __init__(self) -> None:
        self.waiting: list[bytes | int] = []
        self.sent: list[bytes] = []

    def recv_into(self, room: memoryview) -> int:
        if not self.waiting:
            raise BlockingIOError
        first = self.waiting.pop(0)
        if isinstance(first, int):
            raise OSError(first, "")
        room[: len(first)] = first
        return len(first)

    def send(self, data: bytes) -> None:
        self.sent.append(data)


def message(kind: int, *attributes: bytes) -> bytes:
    return netlink.message(kind, 0, 0, struct.pack("!BBH", 2, 0, 5443) + b"".join(attributes))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


@pytest.fixture
def watch(kernel: Kernel) -> OpeningsWatch:
    assert kernel is not None
    return OpeningsWatch(MARKS)


def handles(event: OpeningsHeld | None) -> list[int]:
    return [one.handle for one in event.segments] if event else []


@pytest.mark.parametrize("there", [FOUR, SIX], ids=["v4", "v6"])
def test_a_packet_is_read_with_what_its_server_said(
    kernel: Kernel, watch: OpeningsWatch, there: FlowKey
) -> None:
    kernel.copy(packet(there.reverse, flags=SYN | ACK, sequence=7000, ack=1000))
    kernel.copy(packet(there.reverse, b"more", ack=1005))
    kernel.copy(packet(there.reverse, flags=SYN | ACK | RST, ack=7))
    kernel.hold(5, packet(there, b"GET /"))

    event = watch.read(1.0)

    assert event is not None
    (held,) = event.segments
    assert (held.handle, held.key, held.scope) == (5, key(there), ScopeName.ENGINES)
    assert (held.destination, held.port) == (there.destination, 443)
    assert (held.sequence, held.payload) == (1000, b"GET /")
    assert event.copies == (
        Copied(held.key, 1000, opens=True, number=7000),
        Copied(held.key, 1005, opens=False, number=1000),
        Copied(held.key, 7, opens=False, number=1000),
    )
    assert not event.lost


@pytest.mark.parametrize("bits", [SYN, FIN, URG, SYN | FIN | URG, ACK])
def test_what_its_header_says_of_the_payload_is_told(
    kernel: Kernel, watch: OpeningsWatch, bits: int
) -> None:
    kernel.hold(5, packet(FOUR, b"data", flags=bits))

    event = watch.read(1.0)

    assert event is not None
    flags = event.segments[0].flags
    assert (flags.syn, flags.fin, flags.urgent) == (
        bool(bits & SYN),
        bool(bits & FIN),
        bool(bits & URG),
    )


def test_one_that_comes_alone_goes_alone_and_those_in_a_row_go_together(
    kernel: Kernel, watch: OpeningsWatch
) -> None:
    for ident in range(1, 6):
        kernel.hold(ident, packet(FOUR, b"data"))

    assert handles(watch.read(1.0)) == [1], "its server may wait for this CPU"
    assert handles(watch.read(1.0 + IN_A_ROW / 2)) == [2, 3, 4, 5]

    for ident in range(6, 9):
        kernel.hold(ident, packet(FOUR, b"data"))
    assert handles(watch.read(2.0)) == [6, 7, 8], "many came before, and took their time"

    kernel.hold(9, packet(FOUR, b"data"))
    assert handles(watch.read(3.0)) == [9]
    kernel.hold(10, packet(FOUR, b"data"))
    kernel.hold(11, packet(FOUR, b"data"))
    assert handles(watch.read(4.0)) == [10]


def test_verdicts_keep_the_marks_that_are_not_ours(kernel: Kernel, watch: OpeningsWatch) -> None:
    for ident, mark in ((1, ENGINES | OTHERS), (2, ENGINES), (3, ENGINES | OTHERS)):
        kernel.hold(ident, packet(FOUR, b"data"), mark)
        watch.read(float(ident))

    watch.decide((Fate(1, 20),))
    watch.decide((Fate(2), Fate(3, dropped=True)))

    def accept(ident: int, mark: int) -> bytes:
        return nfqueue.verdict(FIRST_BYTES_QUEUE, ident, nfqueue.ACCEPT, mark=mark)

    drop = nfqueue.verdict(FIRST_BYTES_QUEUE, 3, nfqueue.DROP)
    assert kernel.queue.sent == [accept(1, MARKS.value(20) | OTHERS), accept(2, 0) + drop]


def test_a_verdict_brings_what_the_server_will_acknowledge(
    kernel: Kernel, watch: OpeningsWatch
) -> None:
    kernel.hold(1, packet(FOUR, b"data"), ENGINES | OTHERS)
    watch.read(1.0)

    watch.decide((Fate(1, EXPECTED | 20, expects=1004),))

    mark = MARKS.value(EXPECTED | 20) | OTHERS
    assert kernel.queue.sent == [nfqueue.Verdicts(FIRST_BYTES_QUEUE).accept_with(1, mark, 1004)]


def test_what_cannot_be_read_is_dropped_at_once(kernel: Kernel, watch: OpeningsWatch) -> None:
    kernel.hold(1, b"no packet")
    kernel.hold(2, packet(FOUR, b"data"), MARKS.value(20))
    kernel.copy(b"no packet")

    assert watch.read(1.0) is None
    assert watch.read(2.0) is None

    drops = [nfqueue.verdict(FIRST_BYTES_QUEUE, ident, nfqueue.DROP) for ident in (1, 2)]
    assert kernel.queue.sent == drops
    assert watch.malformed == 3


def test_copies_that_were_lost_are_told(kernel: Kernel, watch: OpeningsWatch) -> None:
    kernel.copies.waiting.append(errno.ENOBUFS)
    kernel.queue.waiting.append(errno.ENOBUFS)
    kernel.hold(1, packet(FOUR, b"data"))

    first, second = watch.read(1.0), watch.read(1.0)

    assert first is not None
    assert (first.lost, handles(first)) == (True, [])
    assert handles(second) == [1]
    assert watch.copies_lost == 1


def test_another_layout_of_marks_is_followed(kernel: Kernel, watch: OpeningsWatch) -> None:
    layout = MarkLayout(0xFFFF)
    watch.follow(layout)
    kernel.hold(1, packet(FOUR, b"data"), layout.value(UNSETTLED[ScopeName.HOST][0]))

    event = watch.read(1.0)

    assert event is not None
    assert event.segments[0].scope is ScopeName.HOST
