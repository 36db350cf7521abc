"""What a person names to `explain`: an image, a host or an address, told apart.

Pure. An image is read by the grammar of distribution/reference (github.com/distribution/reference,
reference.go and normalize.go): its first component is a registry if it has a `.` or a `:` or is
`localhost`, and docker.io stands for none. What docker would read as an image without a registry
although it looks like a host (`ghcr.io`) is taken for a host, which is what people mean by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from ramfw.core import fqdn

DEFAULT_REGISTRY = "docker.io"
HTTPS_PORT = 443
MAX_PORT = 65535
MAX_REPOSITORY = 255

_LEGACY_DEFAULT = "index.docker.io"
_LOCALHOST = "localhost"
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]+))?")


class Kind(StrEnum):
    """What was named."""

    IMAGE = "image"
    HOST = "host"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Reference:
    """A registry's host, or any other, as something to connect to.

    `host` is canonical (`fqdn`), or the text of `address`. `port` is None where none was written.
    `repository` is what is below the registry, and empty unless an image was named.
    """

    kind: Kind
    host: str
    port: int | None = None
    address: IPv4Address | IPv6Address | None = None
    repository: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it is this machine itself, by name."""
        return self.host.split(".")[-1] == _LOCALHOST


def parse(text: str) -> Reference:
    """What a text names. Raises ValueError with one sentence that a person can act on."""
    if not text.strip():
        raise ValueError("nothing is named; name an image, a host or an address")
    if not text.isprintable() or any(character.isspace() for character in text):
        raise ValueError("spaces and control characters cannot be part of an image or a host")
    if scheme := _SCHEME.match(text):
        rest = text[scheme.end() :]
        if scheme[0].lower() in {"http://", "https://"}:
            rest = rest.partition("/")[0]
        raise ValueError(f"this is a URL; write the host or the image alone: `{rest or 'ghcr.io'}`")
    if _IMAGE_ID.fullmatch(text):
        raise ValueError("this is the id of an image, which does not say where it comes from")
    address = address_of(text)
    if address is not None:
        return Reference(Kind.ADDRESS, str(address), address=address)
    if "/" in text:
        return _image(text)
    return _single(text)


def _single(text: str) -> Reference:
    """A text without a slash: a host if it looks like one, else an image of Docker Hub."""
    before, colon, after = text.partition(":")
    is_host = "@" not in text and (
        text.startswith("[")
        or (("." in before or before == _LOCALHOST) and (not colon or after.isdigit()))
    )
    if not is_host:
        return Reference(
            Kind.IMAGE, DEFAULT_REGISTRY, repository=_repository(text, official="library/")
        )
    host, port, address = _host_and_port(text)
    kind = Kind.HOST if address is None else Kind.ADDRESS
    return Reference(kind, host, port, address)


def _image(text: str) -> Reference:
    first, _, rest = text.partition("/")
    # An upper-case letter cannot be in a repository, so it makes the component a host.
    is_registry = "." in first or ":" in first or first == _LOCALHOST or first != first.lower()
    if not is_registry:
        return Reference(Kind.IMAGE, DEFAULT_REGISTRY, repository=_repository(text))
    host, port, address = _host_and_port(first)
    if host in {DEFAULT_REGISTRY, _LEGACY_DEFAULT} and port is None:
        official = "" if "/" in rest else "library/"
        repository = _repository(rest, official=official)
        return Reference(Kind.IMAGE, DEFAULT_REGISTRY, repository=repository)
    return Reference(Kind.IMAGE, host, port, address, _repository(rest))


def _repository(text: str, official: str = "") -> str:
    """The repository, without its tag and digest."""
    name, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"`@{digest}` is not a digest, such as `@sha256:` and 64 hex digits")
    path, slash, last = name.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ValueError(
            f"`:{tag}` is not a tag: at most 128 letters, digits, `_`, `.` and `-`, "
            "of which the first is not `.` or `-`"
        )
    repository = f"{path}{slash}{last}"
    for component in repository.split("/"):
        if not component:
            raise ValueError("a part of the image's name is empty (a slash at an end, or two)")
        if component != component.lower():
            raise ValueError(f"an image's name is in lower case: `{component.lower()}`")
        if not _COMPONENT.fullmatch(component):
            raise ValueError(
                f"`{component}` cannot be part of an image's name: lower-case letters and digits, "
                "with `.`, `_` or `-` between them"
            )
    if len(official + repository) > MAX_REPOSITORY:
        raise ValueError(f"the image's name is longer than {MAX_REPOSITORY} characters")
    return official + repository


def _host_and_port(text: str) -> tuple[str, int | None, IPv4Address | IPv6Address | None]:
    match = _HOST_AND_PORT.fullmatch(text)
    if match is None:
        raise ValueError(f"`{text}` is not a host and a port, such as `registry.example:5000`")
    written, digits = match.groups()
    port = None
    if digits is not None:
        # A number of thousands of digits would be refused by int(), in other words.
        port = int(digits) if len(digits) <= len(str(MAX_PORT)) else 0
        if not 1 <= port <= MAX_PORT:
            raise ValueError(f"a port is a number from 1 to {MAX_PORT}")
    address = address_of(written)
    if address is not None:
        return str(address), port, address
    if written.startswith("["):
        raise ValueError(f"`{written}` is not an IPv6 address in brackets")
    return fqdn.canonical(written), port, None


def tag_or_digest(text: str) -> str:
    """What comes after the name of an image that `parse` took: its digest, its tag, or `latest`."""
    name, at, digest = text.partition("@")
    if at:
        return digest
    return name.rpartition("/")[2].partition(":")[2] or "latest"


def address_of(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is, with or without brackets; ValueError for one with a zone."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        address = ip_address(bare)
    except ValueError:
        return None
    if "%" in bare:
        raise ValueError(f"leave out the interface of the address: `{bare.partition('%')[0]}`")
    # The kernel sends to an IPv4-mapped address by IPv4.
    return getattr(address, "ipv4_mapped", None) or address
