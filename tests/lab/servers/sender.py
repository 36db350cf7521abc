"""Tries to reach places without ever pausing, until SIGTERM.

Arguments: places, as `tcp/203.0.113.20/443` or `udp/2001:db8:f::20/443`. Each attempt is a new
connection or one datagram. Prints `sending` when it has begun, and in the end how many attempts
it made by TCP and how many of them were answered.
"""

from __future__ import annotations

import signal
import socket
import sys
import time
from contextlib import suppress

PATIENCE = 1.0
"""Seconds until a connection that is neither made nor refused has failed."""


class Stopped(Exception):  # noqa: N818
    """SIGTERM came."""


def stop(*_: object) -> None:
    raise Stopped


def connects(address: str, port: int) -> bool:
    """One SYN, and whether a connection came of it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tcp:
        tcp.settimeout(PATIENCE)
        try:
            tcp.connect((address, port))
        except OSError:
            return False
        return True


def send(address: str, port: int) -> None:
    """One datagram; that it is refused is no news."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as udp, suppress(OSError):
        udp.sendto(b"x", (address, port))


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    places = [place.split("/") for place in sys.argv[1:]]
    attempts = answered = 0
    print("sending", flush=True)  # noqa: T201
    try:
        while True:
            for protocol, address, port in places:
                if protocol == "udp":
                    send(address, int(port))
                else:
                    answered += connects(address, int(port))
                    attempts += 1
            # A millisecond, so that two cores are enough for all that is watched.
            time.sleep(0.001)
    except Stopped:
        print(f"attempts {attempts} answered {answered}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
