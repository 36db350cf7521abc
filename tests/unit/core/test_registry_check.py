"""What answers to `GET /v2/` are a registry's, and which only look so."""

from __future__ import annotations

import json

import pytest

from ramfw.core.registry_check import Evidence, evidence

JSON = b"application/json; charset=utf-8"
VERSION = (b"docker-distribution-api-version", b"registry/2.0")
BASIC = (b"www-authenticate", b'Basic realm="Registry"')


def bearer(parameters: str) -> tuple[bytes, bytes]:
    return b"www-authenticate", f"Bearer {parameters}".encode()


def error(**members: object) -> bytes:
    return json.dumps({"errors": [members]}).encode()


@pytest.mark.parametrize(
    ("status", "headers", "body", "found"),
    [
        # distribution without and with sign-in; Nexus and ECR ask for Basic
        (200, [VERSION], b"{}", Evidence.HEADER),
        (200, [VERSION], b"", Evidence.HEADER),
        (401, [VERSION, BASIC], b"", Evidence.HEADER),
        # another registry on the way may have added its own
        (200, [(VERSION[0], b"registry/2.0 registry/2.1")], b"", Evidence.HEADER),
        # ghcr.io, gitlab.com and zot: no version header is needed
        (
            401,
            [bearer('realm="https://ghcr.io/token",service="ghcr.io",scope="repository:u/i:pull"')],
            b"",
            Evidence.CHALLENGE,
        ),
        (
            401,
            [BASIC, bearer('realm="http://r.example/auth",service="container_registry"')],
            b"",
            Evidence.CHALLENGE,
        ),
        (401, [BASIC], error(code="UNAUTHORIZED", message="sign in", detail=None), Evidence.ERROR),
        (401, [BASIC], error(code="DENIED"), Evidence.ERROR),
        (200, [(b"content-type", JSON)], b"{}\n", Evidence.EMPTY),
    ],
)
def test_registries(
    status: int, headers: list[tuple[bytes, bytes]], body: bytes, found: Evidence
) -> None:
    assert evidence(status, headers, body) is found


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        # web sites
        (200, [(b"content-type", b"text/html")], b"<html></html>"),
        (200, [], b""),
        (404, [(b"content-type", b"text/html")], b"not found"),
        (401, [BASIC], b"<html>sign in</html>"),
        (401, [], b""),
        # a redirect is not followed, and a failure is nobody's, whatever comes with it
        (302, [VERSION, (b"location", b"https://r.example/v2/")], b""),
        (404, [VERSION], b""),
        (403, [VERSION], error(code="DENIED")),
        (429, [VERSION], error(code="TOOMANYREQUESTS")),
        (503, [VERSION], b""),
        # APIs of version 2, with OAuth's challenge (RFC 6750) or none that is known
        (401, [bearer('realm="example", error="invalid_token"')], b""),
        (401, [bearer('realm="https://api.example/oauth"')], b""),
        (401, [bearer('realm="api",service="api"')], b""),
        (401, [bearer("")], b""),
        # errors that are called the same: Square's, JSON:API's, Twitter's
        (401, [BASIC], error(category="AUTHENTICATION_ERROR", code="UNAUTHORIZED", detail="no")),
        (401, [BASIC], error(status="401", code="UNAUTHORIZED", title="no")),
        (401, [BASIC], error(code=32, message="could not authenticate you")),
        (401, [BASIC], error(code="invalid_token", message="no")),
        (401, [BASIC], error(message="no")),
        (401, [BASIC], b'{"errors":[{"code":"UNAUTHORIZED"}],"data":null}'),
        (401, [BASIC], b'{"errors":[]}'),
        (401, [BASIC], b'{"errors":{"code":"UNAUTHORIZED"}}'),
        (401, [BASIC], b'{"errors":["UNAUTHORIZED"]}'),
        (401, [BASIC], b"[" * 100_000),
        # the right error without any challenge, as an API would have it
        (401, [], error(code="UNAUTHORIZED", message="no")),
        # JSON that says something, an empty page, an empty list
        (200, [(b"content-type", JSON)], b'{"version":"2"}'),
        (200, [(b"content-type", JSON)], b"[]"),
        (200, [(b"content-type", JSON)], b""),
        (200, [(b"content-type", b"text/html")], b"{}"),
        (200, [], b"{}"),
        # another version, and the header by another's name
        (200, [(VERSION[0], b"registry/1.0")], b""),
        (200, [(b"x-api-version", b"registry/2.0")], b""),
    ],
)
def test_others(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    assert evidence(status, headers, body) is None
