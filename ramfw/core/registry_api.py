"""What a registry says, as values: its challenge, its token, its manifests.

Pure. Nothing of it is trusted: every text is bounded and checked for form, and what does not fit
raises ValueError with a sentence. Formats: the OCI distribution and image specifications, and the
token authentication of distribution (its docs/spec/auth/token.md).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

from ramfw.core import fqdn
from ramfw.core.reference import address_of

LONGEST_URL = 8192
LONGEST_TOKEN = 32 * 1024
LONGEST_CHALLENGE = 4096
MOST_LAYERS = 1024
ACCEPTED = (
    "application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json"
)
"""The kinds of manifests that are asked for."""

_PARAMETER = re.compile(r'\s*([A-Za-z_]+)\s*=\s*(?:"([^"\\]*)"|([^\s",]+))\s*(?:,|$)')
_DIGEST = re.compile(r"sha(?:256:[0-9a-f]{64}|512:[0-9a-f]{128})")
_PREFERRED = ("linux", "amd64")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a URL leads: scheme, canonical host, port, and the rest of it."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What credentials belong to."""
        return self.scheme, self.host, self.port


@dataclass(frozen=True, slots=True)
class Challenge:
    """A 401's answer to "who are you": `scheme` is `bearer` or `basic`, in lower case."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Layers:
    """A manifest of one platform: the digest of a layer, and URLs of foreign layers."""

    digest: str
    foreign: tuple[str, ...] = ()


def place(url: str, base: Place | None = None) -> Place:
    """Where a URL leads, relative to `base`; ValueError where it is none that is followed."""
    if len(url) > LONGEST_URL:
        raise ValueError(f"a URL of {len(url)} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("a URL with spaces or control characters")
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"a URL that is none ({error})") from None
    if not parts.scheme and not parts.netloc and base is not None:
        if not url.startswith("/"):
            raise ValueError("a relative URL that does not begin with a slash")
        return Place(base.scheme, base.host, base.port, url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"a URL that is neither http nor https ({parts.scheme or 'no scheme'})")
    if parts.username is not None:
        raise ValueError("a URL with a user name in it")
    address = address_of(parts.hostname)
    host = str(address) if address is not None else fqdn.canonical(parts.hostname)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Place(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), target)


def challenge(header: str) -> Challenge:
    """A WWW-Authenticate header (RFC 9110, 11.6.1); ValueError where it cannot be read."""
    if len(header) > LONGEST_CHALLENGE:
        raise ValueError("a challenge that is too long")
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "basic":
        return Challenge("basic")
    if scheme.lower() != "bearer":
        raise ValueError("a challenge that is neither Bearer nor Basic")
    found: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _PARAMETER.match(rest, position)
        if match is None:
            raise ValueError("a challenge that is not a list of parameters")
        found.setdefault(match[1].lower(), match[2] or match[3] or "")
        position = match.end()
    if not found.get("realm"):
        raise ValueError("a challenge without a realm")
    return Challenge("bearer", found["realm"], found.get("service", ""), found.get("scope", ""))


def token_target(realm: Place, asked: Challenge, repository: str) -> Place:
    """The realm's URL with what an anonymous pull asks it."""
    query = {"service": asked.service} if asked.service else {}
    if repository:
        query["scope"] = asked.scope or f"repository:{repository}:pull"
    joint = "&" if "?" in realm.target else "?"
    target = realm.target + (f"{joint}{urlencode(query)}" if query else "")
    return Place(realm.scheme, realm.host, realm.port, target)


def token(body: bytes) -> str:
    """The token in a realm's answer."""
    data = _object(body)
    for key in ("token", "access_token"):
        value = data.get(key)
        if isinstance(value, str) and value:
            if len(value) > LONGEST_TOKEN or not value.isascii() or not value.isprintable():
                raise ValueError("a token that cannot be sent")
            return value
    raise ValueError("an answer without a token")


def platform_manifest(body: bytes) -> str | None:
    """The digest of one platform's manifest, where the body is an index; None where it is not."""
    data = _object(body)
    manifests = data.get("manifests")
    if not isinstance(manifests, list):
        return None
    digests = [
        (_platform(one), digest)
        for one in manifests[:MOST_LAYERS]
        if isinstance(one, dict) and (digest := _digest(one)) is not None
    ]
    real = [one for one in digests if one[0] != ("unknown", "unknown")]
    if not real:
        raise ValueError("an index without a manifest")
    return next((digest for platform, digest in real if platform == _PREFERRED), real[0][1])


def layers(body: bytes) -> Layers:
    """The first layer of a manifest that the registry holds, and where foreign ones are."""
    data = _object(body)
    found = data.get("layers")
    if not isinstance(found, list):
        raise ValueError("a manifest without layers (the old schema 1)")  # noqa: TRY004 - the same
    tables = [one for one in found[:MOST_LAYERS] if isinstance(one, dict)]
    foreign = [url for one in tables for url in _urls(one)]
    own = [digest for one in tables if not _urls(one) and (digest := _digest(one)) is not None]
    config = data.get("config")
    if not own and isinstance(config, dict) and (digest := _digest(config)) is not None:
        own = [digest]
    if not own:
        raise ValueError("a manifest without a blob that the registry holds")
    return Layers(own[0], tuple(dict.fromkeys(foreign)))


def manifest_path(repository: str, reference: str) -> str:
    """The path of a manifest, by tag or digest."""
    return f"/v2/{quote(repository)}/manifests/{quote(reference, safe=':')}"


def blob_path(repository: str, digest: str) -> str:
    """The path of a blob."""
    return f"/v2/{quote(repository)}/blobs/{digest}"


def _object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("an answer that is not JSON") from None
    if not isinstance(data, dict):
        raise ValueError("an answer that is not a JSON object")  # noqa: TRY004 - as all of them
    return data


def _digest(table: dict[str, Any]) -> str | None:
    digest = table.get("digest")
    return digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else None


def _platform(table: dict[str, Any]) -> tuple[object, object]:
    platform = table.get("platform")
    return (platform.get("os"), platform.get("architecture")) if isinstance(platform, dict) else (
        None, None,
    )  # fmt: skip


def _urls(table: dict[str, Any]) -> list[str]:
    urls = table.get("urls")
    return [url for url in urls if isinstance(url, str)] if isinstance(urls, list) else []
