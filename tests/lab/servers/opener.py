"""A client that sends its first bytes in steps of the test's.

Argument: a JSON object: `to` an address and port, `steps` a list of pairs. `send` text in Latin-1;
`pieces` the same, each byte in a segment of its own; `urgent` a byte that is; `fast` text in the
SYN (TCP Fast Open), in the place of a handshake; `hear` bytes, until so many have come; `end` to
say that no more comes; `patience` seconds for each step after it; `await` SIGUSR1; `taken` to go
on once the server has acknowledged all. Prints what was heard, as JSON, and the error that ended
it, or an empty one; `connected` when the handshake is done.
"""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import struct
import sys
import termios
import time
from typing import Any

PATIENCE = 8.0


class Client:
    """One connection."""

    def __init__(self, address: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.place = (address, port)
        self.heard = b""
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connect(self) -> None:
        self.socket.connect(self.place)
        print("connected", flush=True)  # noqa: T201

    def take(self, step: str, what: Any) -> None:  # noqa: ANN401, C901 - a case each
        data = what.encode("latin-1") if isinstance(what, str) else b""
        match step:
            case "send":
                self.socket.sendall(data)
            case "pieces":
                for byte in data:
                    self.socket.sendall(bytes((byte,)))
            case "urgent":
                self.socket.send(data, socket.MSG_OOB)
            case "fast":
                self.socket.sendto(data, socket.MSG_FASTOPEN, self.place)
            case "end":
                self.socket.shutdown(socket.SHUT_WR)
            case "taken":
                # No event tells it: the kernel is asked how much is still on its way (SIOCOUTQ).
                while struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]:
                    time.sleep(0.001)
            case "patience":
                self.socket.settimeout(what)
            case "await":
                signal.sigwait({signal.SIGUSR1})
            case "hear":
                wanted = len(self.heard) + what
                while len(self.heard) < wanted and (got := self.socket.recv(65536)):
                    self.heard += got


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    asked = json.loads(sys.argv[1])
    client = Client(*asked["to"])
    error = ""
    try:
        if asked["steps"][0][0] != "fast":
            client.connect()
        for step, what in asked["steps"]:
            client.take(step, what)
    except OSError as failed:
        error = type(failed).__name__
    print(json.dumps([client.heard.decode("latin-1"), error]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
