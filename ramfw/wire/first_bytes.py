"""What a client's first bytes are: the one place that tells TLS, HTTP and the rest apart.

Pure, and never raises, for whatever bytes. `read` takes all bytes of the stream so far, from its
first on. While it says Unfinished no server can answer what it was sent: no hello and no request
is whole, and no line of a protocol is whose client speaks first.
"""

from __future__ import annotations

from ramfw.core.opening import BrokenHello, Hello, Opening, Other, Unfinished
from ramfw.wire import http_request, tls_hello
from ramfw.wire.hello_layouts import HelloLayouts

MAX_BYTES = http_request.MAX_HEAD
"""Bytes of a stream after which nothing is Unfinished any more."""

_SSH = b"SSH-"
_TLS = b"\x16\x03"


def read(stream: bytes, before: Unfinished | None = None) -> Unfinished | Opening:
    """What the bytes are; `before` is what was said of a shorter part of the same stream."""
    progress = before.progress if before else None
    tls = tls_hello.read(stream, progress if isinstance(progress, tls_hello.Incomplete) else None)
    if isinstance(tls, tls_hello.Incomplete):
        return Unfinished(tls)
    if not isinstance(tls, tls_hello.NotTls):
        return tls
    http = http_request.read(stream)
    if isinstance(http, http_request.IncompleteHead):
        return Unfinished()
    if not isinstance(http, http_request.NotHttp):
        return http
    return Other("SSH" if stream.startswith(_SSH) else "")


class Reader:
    """Reads streams as `read` does, and what is like one before in less time."""

    def __init__(self) -> None:
        self._hellos = HelloLayouts()

    def read(self, stream: bytes, before: Unfinished | None = None) -> Unfinished | Opening:
        """What `read` says of them."""
        found: Unfinished | Opening | None = self._hellos.find(stream)
        if found is None:
            found = read(stream, before)
            if isinstance(found, Hello):
                self._hellos.teach(stream, found)
        return found


def ended(stream: bytes) -> Opening:
    """What the bytes are when no more will come."""
    found = read(stream)
    if not isinstance(found, Unfinished):
        return found
    if stream.startswith(_TLS):
        return BrokenHello("a ClientHello that is not whole")
    request = http_request.ended(stream)
    return Other("") if isinstance(request, http_request.NotHttp) else request
