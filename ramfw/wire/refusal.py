"""What a refused client is told in its own protocol, as the payload of one packet.

Pure. TLS: the alert `access_denied` (RFC 8446, 6.2). HTTP: 403 with the message, to a client of
the registry API as its error (OCI distribution specification, "Error Codes"), else as text.
"""

from __future__ import annotations

import json

from ramfw.wire.tcp import MAX_ANSWER

TLS_ALERT = bytes((21, 3, 3, 0, 2, 2, 49))
"""A record with the fatal alert `access_denied`."""

MAX_MESSAGE = 600
"""Characters of a message that are sent."""


def http_forbidden(message: str, *, registry_api: bool) -> bytes:
    """A whole response of at most tcp.MAX_ANSWER bytes, after which the connection closes."""
    text = " ".join(message.split())
    while True:
        text = text[:MAX_MESSAGE]
        response = _response(text, registry_api=registry_api)
        if len(response) <= MAX_ANSWER:
            return response
        # Characters of several bytes, or with an escape in JSON.
        text = text[: len(text) * 3 // 4]


def _response(text: str, *, registry_api: bool) -> bytes:
    if registry_api:
        error = {"code": "DENIED", "message": text, "detail": None}
        kind, body = "application/json", json.dumps({"errors": [error]}, ensure_ascii=False)
    else:
        kind, body = "text/plain; charset=utf-8", f"{text}\n"
    data = body.encode("utf-8", "replace")
    head = (
        "HTTP/1.1 403 Forbidden\r\n"
        f"Content-Type: {kind}\r\n"
        f"Content-Length: {len(data)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode() + data
