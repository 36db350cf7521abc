"""The codec of sock_diag. That the kernel understands it is shown in tests/lab/test_refusal_log.py
and here, for a socket of the test's own."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.wire import netlink, sock_diag

CGROUP = netlink.attribute(21, struct.pack("=Q", 4711))


def answer(*attributes: bytes, kind: int = 20, sequence: int = 1) -> bytes:
    return netlink.message(kind, 0, sequence, bytes(72) + b"".join(attributes))


def test_the_id_is_found_among_other_attributes() -> None:
    assert sock_diag.cgroup_id(answer(netlink.attribute(8, b"x"), CGROUP), 1) == 4711


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        answer(),
        answer(netlink.attribute(21, b"\0" * 4)),
        answer(CGROUP, sequence=2),
        answer(CGROUP, kind=netlink.NLMSG_ERROR),
    ],
)
def test_where_none_is_told_there_is_none(buffer: bytes) -> None:
    assert sock_diag.cgroup_id(buffer, 1) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_kernel_tells_the_cgroup_of_a_socket(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with (
        socket.create_server((address, 0), family=family) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel,
    ):
        (_, sport, *_), (_, dport, *_) = client.getsockname(), client.getpeername()
        packed = socket.inet_pton(family, address)
        for port, is_there in ((sport, True), (1, False)):
            kernel.send(sock_diag.question(6, packed, port, packed, dport, sequence=3))
            assert (sock_diag.cgroup_id(kernel.recv(4096), 3) is not None) == is_there
    assert "0::" in Path("/proc/self/cgroup").read_text()


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_error_at_worst(attributes: bytes) -> None:
    for buffer in (attributes, answer(attributes)):
        try:
            found = sock_diag.cgroup_id(buffer, 1)
        except ValueError:
            continue
        assert found is None or found >= 0
