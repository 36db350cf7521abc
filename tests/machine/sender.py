"""Tries to reach places in turn without ever pausing, from its first moment, and keeps a count.

Arguments: the file of the count, and places, as `tcp/203.0.113.20/443` or `udp/2001:db8:f::20/53`.
Each attempt is one SYN or one datagram. The file says when the first was made (seconds of the
monotonic clock, which all processes share) and how many there were.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import suppress

KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def attempt(protocol: str, address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, KINDS[protocol] | socket.SOCK_NONBLOCK) as client, suppress(OSError):
        client.connect((address, port))
        if protocol == "udp":
            client.send(b"x")


def main() -> None:
    count = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    places = [place.split("/") for place in sys.argv[2:]]
    first, attempts = time.monotonic(), 0
    while True:
        protocol, address, port = places[attempts % len(places)]
        attempt(protocol, address, int(port))
        attempts += 1
        os.pwrite(count, f"{first:.6f} {attempts}\n".encode(), 0)
        # A millisecond, so that two cores are enough for all that is watched.
        time.sleep(0.001)


if __name__ == "__main__":
    main()
