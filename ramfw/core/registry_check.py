"""Whether the answer to `GET /v2/` is a registry's.

Pure. The OCI distribution specification ("Determining Support") has a registry answer 200, or 401
where one must sign in. A bare 200 or 401 is any web site's, so one of these must come with it:

- the header `Docker-Distribution-Api-Version: registry/2.0`, which nearly all registries still
  send, though the specification no longer asks for it (distribution, Docker Hub, ECR, GCR, ACR,
  Quay, Harbor, Nexus, Artifactory, Gitea, GitLab, MCR, registry.k8s.io);
- with 401, a challenge of distribution's token authentication: `WWW-Authenticate: Bearer` with a
  `realm` that is a URL and a `service`. OAuth's own challenge (RFC 6750) has neither;
- with 401 and any challenge, a body of the specification's error codes and nothing else. APIs that
  call their errors the same have other members beside (`category`, `status`, `title`);
- with 200, JSON that is an empty object, as registries without that header answer.

Everything else is none: redirects, 403, 404, pages.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from ramfw.core.registry_api import challenge

OK, UNAUTHORIZED = 200, 401
VERSION_HEADER = b"docker-distribution-api-version"
VERSION = b"registry/2.0"
CODES = frozenset(
    {
        *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID"),
        *("MANIFEST_BLOB_UNKNOWN", "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID"),
        *("NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED", "UNSUPPORTED"),
        "TOOMANYREQUESTS",
    }
)
"""The error codes of the OCI distribution specification."""
_MEMBERS = frozenset({"code", "message", "detail"})

Headers = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


class Evidence(StrEnum):
    """By what a registry was known, as the end of a sentence."""

    HEADER = "its answer has the header Docker-Distribution-Api-Version"
    CHALLENGE = "it sends clients to a registry's token service"
    ERROR = "it refuses with a registry's error"
    EMPTY = "it answers with an empty JSON object"


def evidence(status: int, headers: Headers, body: bytes) -> Evidence | None:
    """By what the answer is a registry's; None where it is not. Never raises."""
    if status not in {OK, UNAUTHORIZED}:
        return None
    if VERSION in {token for value in _all(headers, VERSION_HEADER) for token in value.split()}:
        return Evidence.HEADER
    if status == OK:
        is_json = any(_is_json(value) for value in _all(headers, b"content-type"))
        return Evidence.EMPTY if is_json and _json(body) == {} else None
    challenges = _all(headers, b"www-authenticate")
    if any(_is_token_service(value) for value in challenges):
        return Evidence.CHALLENGE
    return Evidence.ERROR if challenges and _is_error(_json(body)) else None


def _all(headers: Headers, name: bytes) -> list[bytes]:
    return [value.strip() for key, value in headers if key == name]


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == b"application/json"


def _is_token_service(header: bytes) -> bool:
    try:
        asked = challenge(header.decode("latin-1"))
    except ValueError:
        return False
    is_url = asked.realm.lower().startswith(("https://", "http://"))
    return asked.scheme == "bearer" and is_url and bool(asked.service)


def _is_error(body: Any) -> bool:  # noqa: ANN401 - whatever JSON is
    errors = body.get("errors") if isinstance(body, dict) and body.keys() == {"errors"} else None
    return isinstance(errors, list) and bool(errors) and all(map(_is_code, errors))


def _is_code(error: Any) -> bool:  # noqa: ANN401 - the same
    if not isinstance(error, dict) or not error.keys() <= _MEMBERS:
        return False
    code = error.get("code")
    return isinstance(code, str) and code in CODES


def _json(body: bytes) -> Any:  # noqa: ANN401 - the same
    """The body as JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
