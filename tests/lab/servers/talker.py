"""A server that speaks first, or never. Arguments: its port, and what it says first.

With something to say it greets, and gives back each line that it is sent, as a database answers
its client; with nothing it only reads, as a log server does.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from socket import AF_INET6
from socketserver import StreamRequestHandler, ThreadingTCPServer


class Handler(StreamRequestHandler):
    def handle(self) -> None:
        greeting = sys.argv[2].encode()
        with suppress(OSError):
            self.wfile.write(greeting)
            for line in self.rfile:
                if greeting:
                    self.wfile.write(line)
                else:
                    print(f"read {line.decode('latin-1').strip()}", flush=True)  # noqa: T201


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
