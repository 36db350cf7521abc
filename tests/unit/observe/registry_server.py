"""A registry on loopback that says what a test tells it to say, byte for byte if need be."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

Answer = Callable[[str, Mapping[str, str]], bytes]


@dataclass
class Server:
    """`answer` gives the bytes for a request line and its headers; `asked` are the requests."""

    answer: Answer
    port: int = 0
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    sent: int = 0

    def lines(self) -> list[str]:
        return [line for line, _ in self.asked]


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    """An HTTP answer."""
    head = [f"HTTP/1.1 {status} Words", f"Content-Length: {len(body)}"]
    head += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    return "\r\n".join([*head, "", ""]).encode() + body


DIGEST, PLATFORM = "sha256:" + "a" * 64, "sha256:" + "b" * 64
INDEX = json.dumps(
    {"manifests": [{"digest": PLATFORM, "platform": {"os": "linux", "architecture": "amd64"}}]}
).encode()
MANIFEST = json.dumps({"layers": [{"digest": DIGEST}]}).encode()
Route = Callable[[Mapping[str, str]], bytes] | bytes


class Registry:
    """Answers by path; what a test does not say is a 404."""

    def __init__(self, **routes: Route) -> None:
        self.routes: dict[str, Route] = {
            "GET /v2/": reply(200),
            "GET /v2/org/app/manifests/1": reply(200, INDEX),
            f"GET /v2/org/app/manifests/{PLATFORM}": reply(200, MANIFEST),
            f"HEAD /v2/org/app/blobs/{DIGEST}": reply(200),
            **routes,
        }

    def __call__(self, request: str, headers: Mapping[str, str]) -> bytes:
        route = self.routes.get(request.partition("?")[0], reply(404))
        return route if isinstance(route, bytes) else route(headers)


@contextmanager
def serving(
    answer: Answer, certificate: Path | None = None, key: Path | None = None
) -> Iterator[Server]:
    """Serve one connection after the other, by TLS if there is a certificate."""
    server = Server(answer)
    over = threading.Event()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]
        thread = threading.Thread(
            target=_serve, args=(listener, server, over, context), daemon=True
        )
        thread.start()
        try:
            yield server
        finally:
            over.set()
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", server.port), 1).close()
            thread.join(5)


def _serve(
    listener: socket.socket,
    server: Server,
    over: threading.Event,
    context: ssl.SSLContext | None,
) -> None:
    while not over.is_set():
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(5)
                if context is not None:
                    with context.wrap_socket(connection, server_side=True) as secured:
                        _one(secured, server)
                else:
                    _one(connection, server)


def _one(connection: socket.socket, server: Server) -> None:
    with connection.makefile("rb") as stream:
        lines = list(iter(lambda: stream.readline().strip(), b""))
    if not lines:
        return
    pairs = (line.decode().partition(": ") for line in lines[1:])
    headers = {key.lower(): value for key, _, value in pairs}
    request = lines[0].decode().removesuffix(" HTTP/1.1")
    server.asked.append((request, headers))
    answer = server.answer(request, headers)
    while answer:
        count = connection.send(answer)
        server.sent += count
        answer = answer[count:]
