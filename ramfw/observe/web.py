"""One bounded HTTP request to one host, as a client of a registry makes it.

Everything about the answer is bounded: how long it may take in all, how long its header and its
body are. A body is read only where it is asked for. The address is looked up once and the very
same is connected to; one that the caller did not mean (loopback, link-local, metadata) is refused
by `RefusedAddressError`, before anything is sent.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from ramfw.core.addresses import special_use
from ramfw.core.registry_api import Place
from ramfw.errors import ObserveError

AGENT = "ramfw-discover"
ONE_REQUEST = 10.0
"""Seconds that one request may take, from the question to the DNS to the last byte."""
LONGEST_BODY = 4 << 20
"""Bytes; the largest manifest that registries must take (OCI distribution specification)."""


class RefusedAddressError(ObserveError):
    """The host's name leads to an address that nothing the registry says may lead to."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; header names are in lower case, and the first of each counts."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    address: str


class Web:
    """Makes requests until the time for all of them is over."""

    def __init__(self, seconds: float, ca: Path | None = None) -> None:
        """`ca` is a file of certificates to trust beside the system's. Raises ObserveError."""
        self._end = time.monotonic() + seconds
        self._context = ssl.create_default_context()
        # Engines do not ask certificates to be this strict, and companies' authorities are not.
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if ca is not None:
            try:
                self._context.load_verify_locations(ca)
            except (OSError, ssl.SSLError) as error:
                raise ObserveError(f"{ca}: {error.strerror or error}") from error

    def ask(
        self,
        place: Place,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        *,
        with_body: bool = False,
        any_address: bool = False,
    ) -> Reply:
        """One request; no redirect is followed. `any_address` is for what the caller named.

        Raises ObserveError, in words, where there is no answer.
        """
        where = f"{place.host}:{place.port}"
        seconds = min(ONE_REQUEST, self._end - time.monotonic())
        if seconds <= 0:
            raise ObserveError("the time for all requests is over")
        try:
            with self._connected(place, seconds, any_address=any_address) as (sock, address):
                return _exchange(sock, place, method, headers or {}, address, with_body=with_body)
        except ssl.SSLCertVerificationError as error:
            raise ObserveError(
                f"{where}: its certificate is not trusted ({error.verify_message}): name the "
                "authority's file with --ca"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ObserveError(f"{where}: {_words(error)}") from error

    @contextlib.contextmanager
    def _connected(
        self, place: Place, seconds: float, *, any_address: bool
    ) -> Iterator[tuple[socket.socket, str]]:
        end = time.monotonic() + seconds
        raw = _connect(place, seconds, any_address=any_address)
        address = str(raw.getpeername()[0])
        sock = raw
        if place.scheme == "https":
            sock = self._context.wrap_socket(
                raw, server_hostname=place.host, do_handshake_on_connect=False
            )
        # A timeout of a socket counts from each byte; this one counts for all.
        timer = threading.Timer(max(0.0, end - time.monotonic()), _hang_up, (sock,))
        timer.daemon = True
        timer.start()
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            yield sock, address
        except (OSError, http.client.HTTPException) as error:
            if time.monotonic() >= end:
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
            sock.close()


def _connect(place: Place, seconds: float, *, any_address: bool) -> socket.socket:
    found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    end = time.monotonic() + seconds
    problem: OSError = ConnectionError("no address")
    for family, kind, protocol, _, address in found:
        reason = special_use(ip_address(str(address[0]).partition("%")[0]))
        if reason and not any_address:
            raise RefusedAddressError(
                f"{place.host} is {address[0]}, a {reason} address: it was not asked"
            )
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(max(0.1, end - time.monotonic()))
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            problem = error
        else:
            return sock
    raise problem


def _exchange(  # noqa: PLR0913 - what one request is
    sock: socket.socket,
    place: Place,
    method: str,
    headers: Mapping[str, str],
    address: str,
    *,
    with_body: bool,
) -> Reply:
    connection = http.client.HTTPConnection(place.host, place.port)
    connection.sock = sock
    default = {"https": 443, "http": 80}[place.scheme]
    host = f"[{place.host}]" if ":" in place.host else place.host
    named = host if place.port == default else f"{host}:{place.port}"
    connection.putrequest(method, place.target, skip_host=True, skip_accept_encoding=True)
    for key, value in {
        "Host": named,
        "User-Agent": AGENT,
        "Connection": "close",
        **headers,
    }.items():
        connection.putheader(key, value)
    connection.endheaders()
    response = connection.getresponse()
    body = b""
    if with_body:
        body = response.read(LONGEST_BODY + 1)
        if len(body) > LONGEST_BODY:
            raise ValueError(f"an answer of more than {LONGEST_BODY} bytes")
    found: dict[str, str] = {}
    for key, value in response.getheaders():
        found.setdefault(key.lower(), value)
    return Reply(response.status, found, body, address)


def _hang_up(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        # Not the TLS socket's own: it is another thread's.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _words(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.reason or error}"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"not an HTTP answer: {error or type(error).__name__}"
