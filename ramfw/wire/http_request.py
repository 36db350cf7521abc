"""The client's first bytes as the head of an HTTP/1 request: which host it names, and for what.

Pure, and never raises, for whatever bytes. Strict where servers differ: what two of them could
read in two ways (line ends, folded fields, two Hosts, ...) is broken. A broken request still says
which hosts it may mean and whether it may ask for a registry, so that whoever lets odd requests
pass can refuse those. Formats: RFC 9112, RFC 9110, RFC 3986; the preface of HTTP/2, RFC 9113.

Only the first request of a connection is read. Servers hear the next ones unread.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from ramfw.core.opening import BrokenRequest, Http2Preface, Request, Target

MAX_HEAD = 1 << 15
"""Bytes of a request's head: what large proxies and servers take; most stop at 8 KiB."""

HTTP_PORT = 80
HTTPS_PORT = 443

_MAX_PORT = 65535
_PREFACE_LINE = b"PRI * HTTP/2.0\r"
_END = b"\r\n\r\n"
# The longest method that is registered has 17 characters (RFC 9110, 16.1).
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,24}")
_NO_TEXT = re.compile(rb"[^\t\r\n -~\x80-\xff]")
_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/(\d\.\d)")
_LIKE_A_REQUEST = re.compile(rb".* HTTP/|GET /|[A-Z]+ (?:/|https?:)", re.DOTALL)
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t -~\x80-\xff]*)")
_AUTHORITY = re.compile(r"(?:([a-z0-9._-]{1,255})|\[([0-9a-f:.]{2,45})\])(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)", re.DOTALL)
_FOLD = re.compile(rb"\r?\n[ \t]+")
_HOST_LINE = re.compile(rb"(?:^|[\r\n])[ \t]*host[ \t]*:([^\r\n]*)", re.IGNORECASE)
_MANY_HOSTS = 16
_PORTS = {b"http": HTTP_PORT, b"https": HTTPS_PORT}
_ODD_IN_PATHS = (b"%", b"\\", b"//", b"/.")


@dataclass(frozen=True, slots=True)
class NotHttp:
    """Bytes of another protocol."""


@dataclass(frozen=True, slots=True)
class IncompleteHead:
    """More bytes are needed."""


Outcome = IncompleteHead | Request | BrokenRequest | Http2Preface | NotHttp


class _BrokenError(Exception):
    """A rule of the format that is broken, in words."""


def read(stream: bytes) -> Outcome:
    """What the client's bytes so far are. All but IncompleteHead is final."""
    begin = len(stream) - len(stream.lstrip(b"\r\n"))
    early = _beginning(stream, begin)
    if early is not None:
        return early
    try:
        return _head(stream, begin)
    except _BrokenError as error:
        return _broken(stream[begin:MAX_HEAD], str(error))


def ended(stream: bytes) -> BrokenRequest | NotHttp:
    """What bytes are, of which `read` says IncompleteHead, when no more will come.

    Some servers answer a head that ends with the stream.
    """
    start = stream.lstrip(b"\r\n")[:MAX_HEAD]
    if not _LIKE_A_REQUEST.match(start):
        return NotHttp()
    return _broken(start, "a request that is not whole")


def _beginning(stream: bytes, begin: int) -> Outcome | None:
    """What the first line tells; None for that of a request, which is whole or over-long."""
    end = stream.find(b"\n", begin, MAX_HEAD)
    whole = end >= 0
    line = stream[begin : end if whole else MAX_HEAD]
    if whole and line == _PREFACE_LINE:
        return Http2Preface()
    method, space, rest = line.partition(b" ")
    if not space and not whole:
        method = method.removesuffix(b"\r")
    if (line and _METHOD.fullmatch(method) is None) or _NO_TEXT.search(rest):
        return NotHttp()
    if not whole and len(stream) < MAX_HEAD:
        return IncompleteHead()
    return None if space and _LIKE_A_REQUEST.match(line) else NotHttp()


def _head(stream: bytes, begin: int) -> IncompleteHead | Request:
    """The request whose first line is whole; each fault is found as soon as it is there."""
    found = stream.find(_END, begin, MAX_HEAD)
    head = stream[:found] if found >= 0 else stream[:MAX_HEAD]
    if begin:
        raise _BrokenError("an empty line before the request")
    _check_bytes(head)
    line, _, fields = head.partition(b"\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    if request is None:
        raise _BrokenError("a request line that is not method, target and version")
    if found >= 0:
        return _request(request, fields, found + len(_END))
    if len(stream) >= MAX_HEAD:
        raise _BrokenError(f"a request whose head has more than {MAX_HEAD} bytes")
    return IncompleteHead()


def _check_bytes(head: bytes) -> None:
    """Refuse what no head has; a CR at its end may be half of a line's end."""
    pairs = head.count(b"\r\n")
    if head.count(b"\n") != pairs:
        raise _BrokenError("a line that ends with LF alone")
    if head.removesuffix(b"\r").count(b"\r") != pairs:
        raise _BrokenError("a CR within a line")
    if b"\0" in head:
        raise _BrokenError("a NUL")


def _request(line: re.Match[bytes], fields: bytes, end: int) -> Request:
    method, asked, version = line.groups()
    if version not in (b"1.0", b"1.1"):
        raise _BrokenError(f"HTTP of version {version.decode()}, which is none")
    if b"#" in asked:
        raise _BrokenError("a fragment in what is asked for")
    host, port = _host(fields, required=version == b"1.1")
    path, form = asked, Target.ORIGIN
    if method == b"CONNECT":
        named, path, form = _authority(asked), b"", Target.AUTHORITY
        if named[1] is None:
            raise _BrokenError("a CONNECT without a port")
        if host not in (None, named[0]) or port not in (None, named[1]):
            raise _BrokenError("a Host that is not the target of the CONNECT")
        host, port = named
    elif asked == b"*" and method == b"OPTIONS":
        form = Target.ASTERISK
    elif not asked.startswith(b"/"):
        absolute = _ABSOLUTE.fullmatch(asked)
        usual = _PORTS.get(absolute[1].lower()) if absolute else None
        if absolute is None or usual is None:
            raise _BrokenError("a target that is neither a path nor a URL of HTTP")
        name, written = _authority(absolute[2])
        if host is not None and (host, port or usual) != (name, written or usual):
            raise _BrokenError("a Host that is not the one of the URL")
        host, port, path, form = name, written or usual, absolute[3], Target.ABSOLUTE
    return Request(method.decode(), host, port, form, is_registry_api(path), end)


def _host(fields: bytes, *, required: bool) -> tuple[str | None, int | None]:
    """The host and port of the one Host field; raises for every field that is none."""
    found = None
    for field in fields.split(b"\r\n") if fields else ():
        match = _FIELD.fullmatch(field)
        if match is None:
            raise _BrokenError(_what_is_wrong(field))
        if match[1].lower() == b"host":
            if found is not None:
                raise _BrokenError("two Host fields")
            found = match[2].strip(b" \t")
    if found is None and required:
        raise _BrokenError("no Host field")
    return _authority(found) if found else (None, None)


def _what_is_wrong(field: bytes) -> str:
    if field[:1] in (b" ", b"\t"):
        return "a folded field"
    name, colon, _ = field.partition(b":")
    if colon and name.rstrip(b" \t") != name:
        return "a space before a field's colon"
    return "a field that is not a name, a colon and a value"


def _authority(text: bytes) -> tuple[str, int | None]:
    """The host and the port, if one is written, of a Host field or a target."""
    match = _AUTHORITY.fullmatch(text.decode("latin-1").lower())
    port = None if match is None or match[3] is None else int(match[3])
    if match is None or (port is not None and not 0 < port <= _MAX_PORT):
        raise _BrokenError("a host that is not a name, or an address, and a port")
    return match[1] or match[2], port


def is_registry_api(path: bytes) -> bool:
    """Whether a path, with its query, is `/v2` or below it.

    As registries and the servers before them read it: percent-encoding is decoded once, dot
    segments are resolved (RFC 3986, 5.2.4), a backslash is a slash, and empty segments count or
    do not: one such reading is enough.
    """
    path = path.partition(b"?")[0]
    if any(odd in path for odd in _ODD_IN_PATHS):
        segments = unquote_to_bytes(path).replace(b"\\", b"/").split(b"/")[1:]
        return any(_first(way) == b"v2" for way in (segments, [s for s in segments if s]))
    return path == b"/v2" or path.startswith(b"/v2/")


def _first(segments: list[bytes]) -> bytes:
    """The first of the segments that is left when dot segments are resolved, and is not empty."""
    kept: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return next(filter(None, kept), b"")


def _broken(head: bytes, reason: str) -> BrokenRequest:
    """All that a lenient server may find in a head that breaks the rules."""
    unfolded = _FOLD.sub(b" ", head)
    words = re.split(rb"[\r\n]", unfolded, maxsplit=1)[0].split()
    asked = words[1] if len(words) > 1 else b""
    absolute = _ABSOLUTE.match(asked)
    path = absolute[3] if absolute else asked
    named = [absolute[2] if absolute else asked if words[0] == b"CONNECT" else b""]
    named += [match[1] for match in _HOST_LINE.finditer(unfolded)][:_MANY_HOSTS]
    hosts = (_loosely(name) for name in named)
    return BrokenRequest(
        reason, tuple(dict.fromkeys(filter(None, hosts))), is_registry_api(path.partition(b"#")[0])
    )


def _loosely(authority: bytes) -> str:
    """The host in what may be an authority, however it is written."""
    host = authority.decode("latin-1").strip().rpartition("@")[2].lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].strip()
