"""Answers whoever connects, on one port: enough HTTP for wget, enough of anything for nc."""

from __future__ import annotations

import sys
from contextlib import suppress
from socket import AF_INET6, SHUT_WR
from socketserver import StreamRequestHandler, ThreadingTCPServer

GREETING = b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"


class Handler(StreamRequestHandler):
    def handle(self) -> None:
        with suppress(OSError):
            self.wfile.write(GREETING)
            self.request.shutdown(SHUT_WR)
            # Closing with the request unread would reset what was just said.
            while self.request.recv(4096):
                pass


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
