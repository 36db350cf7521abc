"""A TLS server of one way to answer. Arguments: port, certificate, key, and the way.

`page` is a web site that answers any path with a page; `late:SECONDS` is a registry that says
nothing for so long; `drip` sends a header that never ends, a byte at a time; `mute` nothing at all.
Prints each request's first line with its User-Agent, and at the start `listening`.
"""

from __future__ import annotations

import ssl
import sys
import time
from contextlib import suppress
from socket import AF_INET6
from socketserver import StreamRequestHandler, ThreadingTCPServer

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"
REGISTRY = (
    b"HTTP/1.1 200 OK\r\nDocker-Distribution-Api-Version: registry/2.0\r\n"
    b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
)


class Handler(StreamRequestHandler):
    context: ssl.SSLContext
    way = ""

    def handle(self) -> None:
        with suppress(OSError), self.context.wrap_socket(self.request, server_side=True) as client:
            head = b""
            while b"\r\n\r\n" not in head and (got := client.recv(4096)):
                head += got
            lines = head.decode("latin-1").split("\r\n")
            agent = next((line for line in lines if line.lower().startswith("user-agent")), "")
            print(f"{lines[0]} {agent}", flush=True)  # noqa: T201
            way, _, seconds = self.way.partition(":")
            if way == "page":
                client.sendall(PAGE)
            elif way == "late":
                time.sleep(float(seconds))
                client.sendall(REGISTRY)
            elif way == "drip":
                client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while True:
                    client.sendall(b"x")
                    time.sleep(0.2)
            else:
                client.recv(1)


class Server(ThreadingTCPServer):
    address_family = AF_INET6
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024


def main() -> None:
    port, certificate, key, Handler.way = sys.argv[1:]
    Handler.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    Handler.context.load_cert_chain(certificate, key)
    server = Server(("::", int(port)), Handler)
    print("listening", flush=True)  # noqa: T201
    server.serve_forever()


if __name__ == "__main__":
    main()
