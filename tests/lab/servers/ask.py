"""Asks a DNS server as a client would that is no resolver: own port, own id, several at once.

Arguments: the server, `udp` or `tcp`, the client's port (0: any), the first question's id, how
many messages to wait for, for how many seconds at most, and the questions, as `a/name`. The ids
of further questions count on. Over TCP all questions go in one segment. Prints `asked`, then each
message that arrives, in hexadecimal.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Iterator

TYPES = {"a": 1, "aaaa": 28, "https": 65}


def question(number: int, kind: str, name: str) -> bytes:
    """A query message with recursion desired (RFC 1035, section 4.1)."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return (
        struct.pack("!6H", number, 0x0100, 1, 0, 0, 0)
        + labels
        + b"\0"
        + struct.pack("!2H", TYPES[kind], 1)
    )


def datagrams(client: socket.socket) -> Iterator[bytes]:
    while True:
        yield client.recv(65535)


def messages(client: socket.socket) -> Iterator[bytes]:
    """The messages of a stream, each behind its length (RFC 1035, section 4.2.2)."""
    stream = client.makefile("rb")
    while prefix := stream.read(2):
        yield stream.read(int.from_bytes(prefix, "big"))


def main() -> None:
    server, protocol, port, first, count, seconds, *asked = sys.argv[1:]
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    deadline = time.monotonic() + float(seconds)
    questions = [question(int(first) + place, *text.split("/")) for place, text in enumerate(asked)]
    with socket.socket(family, kind) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(("", int(port)))
        client.settimeout(5)
        client.connect((server, 53))
        if protocol == "tcp":
            client.sendall(b"".join(struct.pack("!H", len(one)) + one for one in questions))
        else:
            for one in questions:
                client.send(one)
        print("asked", flush=True)  # noqa: T201
        arriving = messages(client) if protocol == "tcp" else datagrams(client)
        for _ in range(int(count)):
            client.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                print(next(arriving).hex(), flush=True)  # noqa: T201
            except (TimeoutError, StopIteration):
                break


if __name__ == "__main__":
    main()
