"""What a refused client is told in its own protocol, as the payload of one packet.

Pure. TLS: the alert `access_denied` (RFC 8446, 6.2). HTTP: 403 with the message in the status
line, and as the error of the registry API (OCI distribution specification, "Error Codes") or as
text. A client whose bytes begin neither is told nothing.
"""

from __future__ import annotations

import json

from ramfw.core.opening import BrokenHello, BrokenRequest, Hello, Opening, Request, Target
from ramfw.core.refusal_message import ascii_only
from ramfw.wire.tcp import MAX_ANSWER

TLS_ALERT = bytes((21, 3, 3, 0, 2, 2, 49))
"""A record with the fatal alert `access_denied`."""


def payload(opening: Opening, host: str, message: str) -> bytes | None:
    """What to answer to a client that opened its connection so; None where there is no way."""
    match opening:
        case Hello() | BrokenHello():
            return TLS_ALERT
        case Request(method="HEAD"):
            return _forbidden("", "", message)
        case Request():
            is_api = opening.registry_api and opening.target is not Target.AUTHORITY
            return http_forbidden(host, message, registry_api=is_api)
        case BrokenRequest():
            return http_forbidden(host, message, registry_api=opening.registry_api)
    return None


def http_forbidden(host: str, message: str, *, registry_api: bool) -> bytes:
    """A whole response of at most tcp.MAX_ANSWER bytes, after which the connection closes."""
    text = " ".join(message.split())
    while True:
        if registry_api:
            response = _forbidden("application/json", registry_error(host, text), text)
        else:
            response = _forbidden("text/plain; charset=utf-8", f"{text}\n", text)
        if len(response) <= MAX_ANSWER:
            return response
        # It is there twice, and has characters of several bytes, or with an escape in JSON.
        text, host = text[: len(text) * 3 // 4], host[: len(text)]


def registry_error(host: str, message: str) -> str:
    """A registry's answer to whom it denies something."""
    error = {"code": "DENIED", "message": message, "detail": {"host": host}}
    return json.dumps({"errors": [error]}) + "\n"


def _forbidden(kind: str, body: str, message: str) -> bytes:
    data = body.encode("utf-8", "replace")
    content = f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n" if kind else ""
    head = f"HTTP/1.1 403 {ascii_only(message)}\r\n{content}Connection: close\r\n\r\n"
    return head.encode() + data
