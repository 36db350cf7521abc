"""Sends one TCP segment with nothing but ACK set (RFC 9293), of a connection that nobody opened.

Arguments: source address, destination address, destination port.
"""

from __future__ import annotations

import socket
import struct
import sys

SOURCE_PORT = 40000
ACK = 0x10


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def main() -> None:
    source, destination, port = sys.argv[1:]
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)

    def segment(check: int) -> bytes:
        return struct.pack("!HHIIBBHHH", SOURCE_PORT, int(port), 1, 1, 5 << 4, ACK, 1024, check, 0)

    length = len(segment(0))
    pseudo_header = addresses + struct.pack("!BBH", 0, socket.IPPROTO_TCP, length)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.sendto(segment(checksum(pseudo_header + segment(0))), (destination, 0))


if __name__ == "__main__":
    main()
