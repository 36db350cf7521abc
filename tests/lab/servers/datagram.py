"""Sends one UDP datagram and prints, as JSON, what the network says of it.

Usage: datagram.py ADDRESS PORT. Prints null where nothing is said for five seconds; else the ICMP
message: [origin, type, code, seconds until it came] (ip(7), IP_RECVERR).
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from contextlib import suppress

PATIENCE = 5000
"""Milliseconds."""
REPORTS = {
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
"""IP_RECVERR and IPV6_RECVERR, which Python's socket module does not name."""


def told(address: str, port: int) -> tuple[int, int, int, float] | None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.setsockopt(*REPORTS[family], 1)
        client.connect((address, port))
        begun = time.monotonic()
        # A rule that refuses on the way out fails the call as well; the message says why.
        with suppress(PermissionError):
            client.send(b"hello")
        poll = select.poll()
        poll.register(client, 0)  # what waits in the error queue is told without being asked for
        if not poll.poll(PATIENCE):
            return None
        seconds = time.monotonic() - begun
        _, ((_, _, data),), _, _ = client.recvmsg(64, 512, socket.MSG_ERRQUEUE)
        # struct sock_extended_err
        _, origin, kind, code = struct.unpack_from("IBBB", data)
        return origin, kind, code, seconds


if __name__ == "__main__":
    print(json.dumps(told(sys.argv[1], int(sys.argv[2]))))  # noqa: T201
