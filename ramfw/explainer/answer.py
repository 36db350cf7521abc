"""What a refused client gets over HTTP: a registry's error, or a page where a browser asks.

Pure. The error is of the distribution specification's form (section Error Codes). The message is
in the status line too: Go clients print that where they read no body (HEAD, CONNECT).
"""

from __future__ import annotations

import html
from dataclasses import dataclass

import h11

from ramfw.core.refusal_message import ascii_only
from ramfw.wire.refusal import registry_error

LONGEST_HEAD = 16 * 1024
"""Bytes of a request's line and headers."""

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 1.1em/1.5 sans-serif; margin: 15vh auto; max-width: 38em; padding: 0 1em }}
</style>
<h1>{title}</h1>
<p>{message}</p>
</html>
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """The part of a request that matters."""

    method: str
    target: str
    host: str
    accepts_page: bool
    agent: str = ""

    @property
    def is_for_registry(self) -> bool:
        """Whether the path is that of a registry's API."""
        path = self.target.partition("?")[0]
        return path == "/v2" or path.startswith("/v2/")

    @property
    def status(self) -> int:
        """403; but 401 where podman and its kin only ask whether a registry is there.

        Up to Debian 12's they print nothing of a first answer but its number. After a 401 they go
        on to what they came for, and print what is said to that.
        """
        asks_only = self.target.partition("?")[0] in ("/v2", "/v2/")
        is_kin = self.agent.lower().startswith(("containers/", "skopeo/", "libpod/", "buildah/"))
        return 401 if asks_only and is_kin else 403


class Conversation:
    """One request on one connection: bytes in, an answer out, and no second request."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LONGEST_HEAD)
        self._line: bytes | None = b""

    def receive(self, data: bytes) -> Asked | None:
        """The request, once its head is whole. Empty data is the end of what the client sends.

        Raises ValueError where no request comes of it.
        """
        self._look_at_line(data)
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise ValueError(str(error)) from None
        if isinstance(event, h11.Request):
            return _asked(event)
        if event is h11.NEED_DATA and data:
            return None
        raise ValueError("the connection ended before a request")

    def _look_at_line(self, data: bytes) -> None:
        """Know another protocol by its first line (SSH), whose client waits for an answer."""
        if self._line is None:
            return
        self._line += data
        first, newline, _ = self._line.partition(b"\n")
        if not first[:1].isalpha() or (newline and b" HTTP/1." not in first):
            raise ValueError("not HTTP")
        if newline:
            self._line = None

    def answer(self, asked: Asked, host: str, message: str) -> bytes:
        """The whole answer, after which the connection is to be closed."""
        if asked.accepts_page and not asked.is_for_registry:
            kind, body = "text/html; charset=utf-8", _page(message)
        else:
            kind, body = "application/json", registry_error(host, message).encode()
        response = h11.Response(
            status_code=asked.status,
            reason=ascii_only(message).encode(),
            headers=[
                ("Content-Type", kind),
                ("Content-Length", str(len(body))),
                ("Docker-Distribution-Api-Version", "registry/2.0"),
                ("Cache-Control", "no-store"),
                ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
                ("X-Content-Type-Options", "nosniff"),
                ("Connection", "close"),
            ],
        )
        sent = self._connection.send(response) or b""
        if asked.method != "HEAD":
            sent += self._connection.send(h11.Data(data=body)) or b""
        return sent


def _asked(request: h11.Request) -> Asked:
    # h11 has checked that there is exactly one Host (but for HTTP/1.0), and lowered the names.
    headers = dict(request.headers)
    method = request.method.decode("ascii")
    target = request.target.decode("ascii", "replace")
    host = headers.get(b"host", b"").decode("ascii", "replace")
    return Asked(
        method,
        target,
        target if method == "CONNECT" else host,
        accepts_page=b"text/html" in headers.get(b"accept", b"").lower(),
        agent=headers.get(b"user-agent", b"").decode("ascii", "replace"),
    )


def _page(message: str) -> bytes:
    page = _PAGE.format(title="This registry cannot be used here", message=html.escape(message))
    return page.encode()
