"""Codec of a TUN device: the request that makes one, and the messages that set it up.

Pure. A packet that is written to the device's file arrives in the kernel as from a network.
Formats: linux/if_tun.h, linux/if_link.h, linux/if_addr.h, rtnetlink(7).
"""

from __future__ import annotations

import struct

from ramfw.wire.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, attribute, message, nested

SET_NAME = 0x400454CA
GET_FLAGS = 0x8913
"""Requests of ioctl(2): TUNSETIFF on the device's file, SIOCGIFFLAGS on any IP socket."""
UP = 1

_IFREQ = struct.Struct("=16sH22x")
_TUN, _NO_PACKET_INFORMATION = 0x0001, 0x1000

_NEW_LINK, _NEW_ADDRESS = 16, 20
# family, type, index, flags, which of them to change.
_LINK = struct.Struct("=BxHiII")
# family, length of the prefix, flags, scope, index.
_ADDRESS = struct.Struct("=BBBBI")
_NUMBER = struct.Struct("=I")
_AF_UNSPEC, _AF_INET, _AF_INET6 = 0, 2, 10
_AF_SPEC = 26
_INET_CONF = 1
_FORWARDING, _RP_FILTER = 1, 8
_LOOSE = 2
_ADDR_GEN_MODE, _NO_ADDRESS = 8, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SCOPE_HOST = 254


def name_request(pattern: str) -> bytes:
    """The argument of SET_NAME: a device of whole IP packets; `%d` becomes a free number."""
    return _IFREQ.pack(pattern.encode(), _TUN | _NO_PACKET_INFORMATION)


def flags_request(name: str) -> bytes:
    """The argument of GET_FLAGS."""
    return _IFREQ.pack(name.encode(), 0)


def read_request(answer: bytes) -> tuple[str, int]:
    """The name and the flags in what the kernel made of an argument."""
    name, flags = _IFREQ.unpack(answer)
    return name.rstrip(b"\0").decode("ascii", "replace"), flags


def source_check(index: int, sequence: int) -> bytes:
    """Have IPv4 take from the device what any device leads back to, and forward it.

    A device's own value outdoes a stricter one of all devices (ip-sysctl, rp_filter).
    """
    values = (_FORWARDING, 1), (_RP_FILTER, _LOOSE)
    conf = (attribute(kind, _NUMBER.pack(value)) for kind, value in values)
    return _change(index, sequence, nested(_AF_INET, nested(_INET_CONF, *conf)))


def no_own_address(index: int, sequence: int) -> bytes:
    """Have IPv6 make no address for the device, and so ask for no router."""
    mode = attribute(_ADDR_GEN_MODE, bytes((_NO_ADDRESS,)))
    return _change(index, sequence, nested(_AF_INET6, mode))


def address(index: int, packed: bytes, sequence: int) -> bytes:
    """Give the device an IPv4 address that is good on this host alone."""
    head = _ADDRESS.pack(_AF_INET, 32, 0, _SCOPE_HOST, index)
    body = head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    return message(_NEW_ADDRESS, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE, sequence, body)


def up(index: int, sequence: int) -> bytes:
    """Let the device work."""
    body = _LINK.pack(_AF_UNSPEC, 0, index, UP, UP)
    return message(_NEW_LINK, NLM_F_REQUEST | NLM_F_ACK, sequence, body)


def _change(index: int, sequence: int, of_family: bytes) -> bytes:
    body = _LINK.pack(_AF_UNSPEC, 0, index, 0, 0) + nested(_AF_SPEC, of_family)
    return message(_NEW_LINK, NLM_F_REQUEST | NLM_F_ACK, sequence, body)
