"""TLS hellos for tests: made piece by piece, recorded from real clients, and read by OpenSSL."""

from __future__ import annotations

import ssl
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path

HELLOS = Path(__file__).parent / "hellos"
OF_THE_LAB = "lab-"
"""How the names of those files begin that `python -m tests.lab.hellos` records."""
NAME = "registry.example.com"
NAME_IN_LAB = "ghcr.io"


def extension(kind: int, data: bytes = b"") -> bytes:
    return struct.pack("!HH", kind, len(data)) + data


def host_name(name: bytes, kind: int = 0) -> bytes:
    return struct.pack("!BH", kind, len(name)) + name


def server_name(*names: bytes) -> bytes:
    listed = b"".join(host_name(name) for name in names)
    return extension(0, len(listed).to_bytes(2) + listed)


def alpn(*protocols: bytes) -> bytes:
    listed = b"".join(bytes((len(one),)) + one for one in protocols)
    return extension(16, len(listed).to_bytes(2) + listed)


# What OpenSSL asks of a hello before it looks for a name: versions, groups, signatures.
USUAL = (
    extension(43, b"\x04\x03\x04\x03\x03")
    + extension(10, b"\0\x02\0\x1d")
    + extension(13, b"\0\x02\x08\x04")
    + extension(51, b"\0\x24\0\x1d\0\x20" + bytes(range(32)))
)


def message(
    extensions: bytes | None,
    *,
    session: bytes = bytes(32),
    ciphers: bytes = b"\x13\x01\xc0\x2f",
    compression: bytes = b"\0",
    version: int = 0x0303,
) -> bytes:
    """A ClientHello with its header; without `extensions` it ends before them."""
    body = struct.pack("!H", version) + bytes(32) + bytes((len(session),)) + session
    body += len(ciphers).to_bytes(2) + ciphers + bytes((len(compression),)) + compression
    if extensions is not None:
        body += len(extensions).to_bytes(2) + extensions
    return b"\x01" + len(body).to_bytes(3) + body


def records(handshake: bytes, size: int = 1 << 14) -> bytes:
    """The message in records of at most `size` bytes."""
    pieces = (handshake[at : at + size] for at in range(0, len(handshake), size))
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2) + piece for piece in pieces)


def hello(*extensions: bytes, size: int = 1 << 14) -> bytes:
    return records(message(USUAL + b"".join(extensions)), size)


def recorded() -> dict[str, bytes]:
    """The hellos of real clients, by file."""
    return {path.stem: path.read_bytes() for path in sorted(HELLOS.glob("*.bin"))}


def name_asked_by(client: str) -> str:
    """The server that a recorded client wanted, by the client's file."""
    return NAME_IN_LAB if client.startswith(OF_THE_LAB) else NAME


class OpenSsl:
    """A server that is asked which name it reads, and never goes on."""

    def __init__(self) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.sni_callback = self._hears
        self.heard: list[str | None] = []

    def _hears(self, _socket: object, name: str | None, _context: object) -> int:
        self.heard.append(name)
        return ssl.ALERT_DESCRIPTION_ACCESS_DENIED

    def reads(self, stream: bytes) -> tuple[bool, str | None]:
        """Whether it came to a name, or to there being none; and the name."""
        self.heard.clear()
        incoming = ssl.MemoryBIO()
        incoming.write(stream)
        server = self.context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
        with suppress(ssl.SSLError):
            server.do_handshake()
        return bool(self.heard), self.heard[0] if self.heard else None


@cache
def openssl() -> OpenSsl:
    return OpenSsl()


def python_hello(name: str | None, protocols: list[str], version: ssl.TLSVersion) -> bytes:
    """The hello of Python's own client, which is OpenSSL's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.maximum_version = version
    if protocols:
        context.set_alpn_protocols(protocols)
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
