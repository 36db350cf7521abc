"""What a client opens its connection with, as values: a TLS hello, an HTTP request, or another.

Pure. `wire.first_bytes` makes these from a stream's first bytes, `server_names` judges them.
Names in them are in lower case and otherwise as they were sent: visible ASCII, not yet canonical.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Hello(NamedTuple):
    """A whole TLS ClientHello; it ends at `end` of the stream.

    `server_name` is None where there is none; `encrypted` says that a second, encrypted hello is
    in it (ECH, or what looks like it), whose name only the server learns.
    """

    server_name: str | None
    encrypted: bool
    alpn: tuple[bytes, ...]
    end: int


@dataclass(frozen=True, slots=True)
class Ssl2Hello:
    """The beginning of a hello in the form of SSL 2.0, which has no place for a server name."""


@dataclass(frozen=True, slots=True)
class BrokenHello:
    """Bytes that begin as TLS does and break its rules; `reason` is for people."""

    reason: str


class Target(StrEnum):
    """The forms of what an HTTP request asks for (RFC 9112, section 3.2)."""

    ORIGIN = "origin"
    ABSOLUTE = "absolute"
    AUTHORITY = "authority"
    ASTERISK = "asterisk"


class Request(NamedTuple):
    """The head of an HTTP/1 request, which ends at `end` of the stream.

    `host` is an IPv6 address without brackets, or None where an HTTP/1.0 request or an empty Host
    names none. `port` is the one that is written, or the scheme's of an absolute target, else
    None. `registry_api` says that the path is `/v2` or below it, once decoded.
    """

    method: str
    host: str | None
    port: int | None
    target: Target
    registry_api: bool
    end: int


@dataclass(frozen=True, slots=True)
class BrokenRequest:
    """A request that servers may read in several ways, or not at all; `reason` is for people.

    `hosts` are all that its bytes so far may name; `registry_api` that its path may be the API's.
    """

    reason: str
    hosts: tuple[str, ...]
    registry_api: bool


@dataclass(frozen=True, slots=True)
class Http2Preface:
    """HTTP/2 that the client began without asking (RFC 9113, section 3.3)."""


@dataclass(frozen=True, slots=True)
class Other:
    """Neither TLS nor HTTP; `protocol` is its name where that is certain, else empty."""

    protocol: str


Opening = Hello | Ssl2Hello | BrokenHello | Request | BrokenRequest | Http2Preface | Other
"""What a stream was found to begin with. More bytes change nothing."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """More bytes are needed; `progress` is the reader's own, for its next look."""

    progress: object = None


def judged_end(opening: Opening, size: int) -> int:
    """How many bytes of a stream of this size the opening was read from.

    A judgement of it counts once the server has taken these.
    """
    return opening.end if isinstance(opening, Hello | Request) else size
