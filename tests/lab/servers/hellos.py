"""Writes down the first record that each client of TLS sends, and refuses it.

Argument: the port. Prints `hello`, and the whole record in hexadecimal; what begins otherwise is
closed without a word.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from socket import AF_INET6
from socketserver import StreamRequestHandler, ThreadingTCPServer

HANDSHAKE = b"\x16\x03"
ACCESS_DENIED = b"\x15\x03\x03\0\2\2\x31"


class Handler(StreamRequestHandler):
    timeout = 5

    def handle(self) -> None:
        with suppress(OSError):
            header = self.rfile.read(5)
            if not header.startswith(HANDSHAKE):
                return
            record = header + self.rfile.read(int.from_bytes(header[3:5]))
            print("hello", record.hex(), flush=True)  # noqa: T201
            self.wfile.write(ACCESS_DENIED)


class Server(ThreadingTCPServer):
    address_family = AF_INET6
    daemon_threads = True
    allow_reuse_address = True


def main() -> None:
    server = Server(("::", int(sys.argv[1])), Handler)
    print("listening", flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
