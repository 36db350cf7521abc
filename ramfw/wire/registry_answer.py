"""The one question to a host, `GET /v2/`, and its answer, as far as it is read.

Pure; h11 reads the bytes, which are a stranger's. The header may have 16 KiB, and of the body no
more than 8 KiB are looked at: no registry says more there.
"""

from __future__ import annotations

from ipaddress import ip_address

import h11

from ramfw.core.registry_check import OK, UNAUTHORIZED, Evidence, evidence

LONGEST_HEAD = 16 * 1024
LONGEST_BODY = 8 * 1024
MOST_INTERIM = 8
"""Interim answers (1xx) before the real one."""
HTTPS_PORT = 443
_HTTP = b"HTTP/"


class RegistryAnswer:
    """One connection's question and answer."""

    def __init__(self, host: str, port: int, agent: str) -> None:
        """`host` is a name or an address. Raises ValueError where it cannot stand in a request."""
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=LONGEST_HEAD)
        headers = [
            ("Host", _authority(host, port)),
            ("User-Agent", agent),
            ("Accept", "application/json"),
            ("Connection", "close"),
        ]
        try:
            asked = h11.Request(method="GET", target="/v2/", headers=headers)
        except h11.LocalProtocolError as error:
            raise ValueError(str(error)) from None
        self.request = self._connection.send(asked) or b""
        self.request += self._connection.send(h11.EndOfMessage()) or b""
        self._response: h11.Response | None = None
        self._body = b""
        self._interim = 0
        self._ended = False
        self._start = b""
        self.is_whole = False
        """Whether nothing that comes could change the finding."""

    def receive(self, data: bytes) -> None:
        """Take in what came; empty bytes are the end of the stream. Never raises.

        Where it ends before an answer began, it never becomes whole.
        """
        if self.is_whole or self._ended:
            return
        self._ended = not data
        self._start = (self._start + data)[: len(_HTTP)]
        if not _HTTP.startswith(self._start):
            self.is_whole = True
            return
        try:
            self._connection.receive_data(data)
            while not self.is_whole and self._take_in(self._connection.next_event()):
                pass
        except h11.RemoteProtocolError:
            # No HTTP; or a body that breaks off, which is what there was of it.
            self.is_whole = bool(data) or self._response is not None

    def _take_in(self, event: object) -> bool:
        """Note what was read; whether there may be more."""
        match event:
            case h11.InformationalResponse():
                self._interim += 1
                self.is_whole = self._interim > MOST_INTERIM
            case h11.Response():
                self._response = event
                is_candidate = event.status_code in {OK, UNAUTHORIZED}
                self.is_whole = not is_candidate or self.evidence is not None
            case h11.Data():
                self._body += event.data
                if len(self._body) > LONGEST_BODY:
                    self._body, self.is_whole = b"", True
            case h11.EndOfMessage():
                self.is_whole = True
            case _:
                return False
        return True

    @property
    def evidence(self) -> Evidence | None:
        """By what it is a registry's answer; None where it is not, or nothing came."""
        if self._response is None:
            return None
        headers = [(bytes(name), bytes(value)) for name, value in self._response.headers]
        return evidence(self._response.status_code, headers, self._body)


def _authority(host: str, port: int) -> str:
    try:
        ip_address(host)
    except ValueError:
        named = host
    else:
        named = f"[{host}]" if ":" in host else host
    return named if port == HTTPS_PORT else f"{named}:{port}"
