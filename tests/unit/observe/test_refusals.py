"""Copies of refused packets become refusals; what is no such copy becomes nothing."""

from __future__ import annotations

import errno
import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.events import Address, Reason, Refusal
from ramfw.core.policy import ScopeName
from ramfw.core.refusals import LONGEST_COPY
from ramfw.observe import refusals
from ramfw.observe.given_names import Known
from ramfw.observe.refusals import Ask, RefusalLog
from ramfw.wire import netlink, packet
from tests.unit.observe.test_dnswatch import ip
from tests.unit.observe.waiting import WaitingSocket

HOST, HOST6, GHCR, GHCR6 = "192.0.2.2", "2001:db8::2", "203.0.113.20", "2001:db8:f::20"


def tcp(source: str, destination: str, port: int = 443, flags: int = packet.SYN) -> bytes:
    header = struct.pack("!HHIIBBHHH", 40_000, port, 1, 0, 5 << 4, flags, 0, 0, 0)
    return ip(source, destination, packet.TCP, header)


def udp(source: str, destination: str, port: int, size: int = 1200) -> bytes:
    header = struct.pack("!HHHH", 40_000, port, 8 + size, 0)
    return ip(source, destination, packet.UDP, header + bytes(size))


def copy(payload: bytes, prefix: bytes = b"engines refused", uid: int | None = 0) -> bytes:
    attributes = [netlink.attribute(10, prefix + b"\0")]
    if uid is not None:
        attributes.append(netlink.u32(11, uid))
    attributes.append(netlink.attribute(9, payload[:LONGEST_COPY]))
    return netlink.message(0x400, 0, 0, struct.pack("!BBH", 2, 0, 7) + b"".join(attributes))


class FakeSocket(WaitingSocket):
    def __init__(self, waiting: list[bytes | OSError]) -> None:
        super().__init__(waiting)
        self.is_open = True

    def setblocking(self, flag: bool) -> None:  # noqa: FBT001 - the socket module's own form
        assert not flag

    def send(self, question: bytes) -> None:
        """To the kernel's sockets: none of these is one of this machine's."""

    def close(self) -> None:
        self.is_open = False


def told(cgroup: int, sequence: int) -> bytes:
    """What the kernel says of a socket."""
    body = bytes(72) + netlink.attribute(21, struct.pack("=Q", cgroup))
    return netlink.message(20, 0, sequence, body)


def nobody(*_: object) -> Known:
    return Known()


def listening(
    monkeypatch: pytest.MonkeyPatch,
    *waiting: bytes | OSError,
    ask: Ask = nobody,
    cgroup: int = 0,
) -> RefusalLog:
    monkeypatch.setattr(refusals, "listen", lambda *_: FakeSocket(list(waiting)))
    sockets = FakeSocket([told(cgroup, sequence) for sequence in range(1, 3) if cgroup])
    monkeypatch.setattr("ramfw.observe.refusals.socket.socket", lambda *_: sockets)
    return RefusalLog(ask)


def test_a_refused_connection_is_told_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(address: Address, client: Address, here: bool) -> Known:  # noqa: FBT001
        is_it = (str(address), str(client), here) == (GHCR, HOST, True)
        return Known(("ghcr.io",), "hub.example") if is_it else Known()

    log = listening(monkeypatch, copy(tcp(HOST, GHCR), uid=1000), ask=ask, cgroup=77)
    assert log.read() == (
        Refusal(
            scope=ScopeName.ENGINES,
            reason=Reason.NOT_PERMITTED,
            audited=False,
            source=ip_address(HOST),
            source_port=40_000,
            destination=ip_address(GHCR),
            port=443,
            protocol="tcp",
            uid=1000,
            cgroup=77,
            names=("ghcr.io",),
            after="hub.example",
        ),
    )
    assert log.read() == ()
    log.close()


def test_whose_connection_it_is_was_asked_while_its_client_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kernel knows of the socket once: when its client was told why, it is gone."""
    refused = tcp(HOST, GHCR, flags=packet.ACK)
    log = listening(monkeypatch, copy(refused, uid=1000), copy(refused, uid=1000), cgroup=77)
    log.foresee([refused])
    monkeypatch.setattr(log, "_cgroup", lambda _: None)

    assert [refusal.cgroup for refusal in log.read()] == [77, 77]
    # What was foreseen does not outlast it: the ports may be another's by then.
    log._datagrams = lambda: iter([copy(refused, uid=1000)])  # type: ignore[method-assign]
    assert [refusal.cgroup for refusal in log.read()] == [None]


@pytest.mark.parametrize(
    ("payload", "prefix", "told"),
    [
        (tcp(HOST6, GHCR6), b"host refused", (ScopeName.HOST, Reason.NOT_PERMITTED, "tcp", 443)),
        (
            udp(HOST, GHCR, 443),
            b"containers audited",
            (ScopeName.CONTAINERS, Reason.QUIC, "udp", 443),
        ),
        (
            udp(HOST6, GHCR6, 5000),
            b"engines refused",
            (ScopeName.ENGINES, Reason.NOT_PERMITTED, "udp", 5000),
        ),
        (
            tcp(HOST, GHCR, flags=packet.ACK),
            b"engines refused",
            (ScopeName.ENGINES, Reason.NOT_A_BEGINNING, "tcp", 443),
        ),
        (
            tcp(HOST, GHCR, flags=packet.ACK),
            b"revoked refused",
            (None, Reason.REVOKED, "tcp", 443),
        ),
        (
            ip(HOST, GHCR, 132, bytes(40)),
            b"engines refused",
            (ScopeName.ENGINES, Reason.NOT_PERMITTED, "132", 0),
        ),
    ],
)
def test_scope_and_reason_come_from_the_rule_and_the_packet(
    payload: bytes,
    prefix: bytes,
    told: tuple[ScopeName | None, Reason, str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (refusal,) = listening(monkeypatch, copy(payload, prefix, uid=None)).read()
    assert (refusal.scope, refusal.reason, refusal.protocol, refusal.port) == told
    assert refusal.uid is None
    assert refusal.audited == (b"audited" in prefix)


def test_what_is_no_copy_of_ours_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    log = listening(
        monkeypatch,
        copy(tcp(HOST, GHCR), b"other words"),
        copy(tcp(HOST, GHCR), b"engines\xff refused"),
        copy(tcp(HOST, GHCR), b""),
        copy(b""),
        copy(b"\x45" * 10),
        b"\xff" * 40,
        OSError(errno.ENOBUFS, "full"),
        copy(tcp(HOST, GHCR)),
    )
    assert len(log.read()) == 1
    assert log.lost == 1


def test_a_socket_that_is_gone_has_no_cgroup(monkeypatch: pytest.MonkeyPatch) -> None:
    (refusal,) = listening(monkeypatch, copy(tcp(HOST, GHCR))).read()
    assert (refusal.uid, refusal.cgroup) == (0, None)


def test_another_error_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    log = listening(monkeypatch, OSError(errno.EBADF, "closed"))
    with pytest.raises(OSError, match="closed"):
        log.read()


@given(st.binary(max_size=200), st.binary(max_size=LONGEST_COPY))
def test_any_bytes_are_taken(datagram: bytes, payload: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        log = listening(patch, datagram, copy(payload))
        for refusal in log.read():
            assert refusal.scope is not None
