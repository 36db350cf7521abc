"""The blob host of a registry: serves the files of its storage over TLS, as slowly as wanted.

Arguments: port, certificate, key, the storage's root, and a file that holds the bytes per second
that each download gets. The file is read again for each piece; without it there is no limit.
"""

from __future__ import annotations

import ssl
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import AF_INET6

PIECE = 16 * 1024


class Handler(BaseHTTPRequestHandler):
    root: Path
    limit: Path

    def do_GET(self) -> None:
        blob = self.root / self.path.split("?")[0].lstrip("/")
        if ".." in self.path or not blob.is_file():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(blob.stat().st_size))
        self.end_headers()
        with blob.open("rb") as pieces:
            while piece := pieces.read(PIECE):
                self.wfile.write(piece)
                self._pause(len(piece))

    def _pause(self, sent: int) -> None:
        """Wait as long as the limit says; a limit that is lifted is noticed at once."""
        until = None
        while self.limit.exists():
            if until is None:
                until = time.monotonic() + sent / float(self.limit.read_text() or "1")
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.05))


class Server(ThreadingHTTPServer):
    address_family = AF_INET6
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that goes away is no news."""


def main() -> None:
    port, certificate, key, root, limit = sys.argv[1:]
    Handler.root, Handler.limit = Path(root), Path(limit)
    server = Server(("::", int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(
        server.socket, server_side=True, do_handshake_on_connect=False
    )
    print("listening", flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
