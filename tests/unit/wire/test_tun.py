"""A TUN device's messages, byte by byte as the kernel's headers lay them out."""

from __future__ import annotations

import struct

from ramfw.wire import netlink, tun


def test_a_device_of_whole_packets_is_asked_for() -> None:
    request = tun.name_request("ramfw%d")

    assert len(request) == 40
    assert request[:8] == b"ramfw%d\0"
    assert struct.unpack_from("=H", request, 16) == (0x1001,)


def test_the_name_and_the_flags_are_read() -> None:
    answer = b"ramfw0".ljust(16, b"\0") + struct.pack("=H", 0x10D1) + bytes(22)

    assert tun.read_request(answer) == ("ramfw0", 0x10D1)
    assert tun.flags_request("ramfw0") == b"ramfw0".ljust(40, b"\0")


def parts(message: bytes) -> tuple[int, bytes]:
    (one,) = netlink.messages(message)
    assert one.flags & netlink.NLM_F_ACK
    return one.kind, message[one.start : one.end]


def test_its_own_loose_check_and_forwarding_are_set_by_number() -> None:
    kind, body = parts(tun.source_check(7, 1))

    assert kind == 16
    assert struct.unpack_from("=BxHiII", body) == (0, 0, 7, 0, 0)
    values = struct.pack("=HHIHHI", 8, 1, 1, 8, 8, 2)
    conf = struct.pack("=HH", 20, 0x8001) + values
    family = struct.pack("=HH", 24, 0x8002) + conf
    assert body[16:] == struct.pack("=HH", 28, 0x801A) + family


def test_it_makes_no_address_of_its_own() -> None:
    _, body = parts(tun.no_own_address(7, 1))

    assert body[-8:] == struct.pack("=HHB3x", 5, 8, 1)


def test_an_address_is_good_on_this_host_alone() -> None:
    kind, body = parts(tun.address(7, bytes((192, 0, 0, 8)), 1))

    assert kind == 20
    assert struct.unpack_from("=BBBBI", body) == (2, 32, 0, 254, 7)
    assert body.count(bytes((192, 0, 0, 8))) == 2


def test_it_is_put_up() -> None:
    kind, body = parts(tun.up(7, 1))

    assert kind == 16
    assert struct.unpack("=BxHiII", body) == (0, 0, 7, 1, 1)
