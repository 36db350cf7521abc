"""Each step of a pull, against a registry that behaves, and against ones that do not."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from ramfw.core.discovery import Pull, Step
from ramfw.core.registry_api import Place
from ramfw.observe.pull import follow
from ramfw.observe.web import Web
from tests.unit.observe.registry_server import (
    DIGEST,
    MANIFEST,
    PLATFORM,
    Registry,
    Server,
    reply,
    serving,
)


def pulled(server: Server, repository: str = "org/app", host: str = "127.0.0.1") -> Pull:
    return follow(Web(10), Place("http", host, server.port, "/"), repository, "1")


def steps(pull: Pull) -> list[tuple[str, Step]]:
    return [(met.host, met.step) for met in pull.met]


def test_a_registry_that_hands_out_its_layers_itself() -> None:
    with serving(Registry()) as server:
        pull = pulled(server)
    assert (pull.stopped, pull.is_registry) == ("", True)
    assert steps(pull) == [("127.0.0.1", Step.ASKED), ("127.0.0.1", Step.BLOB_HERE)]
    assert server.lines() == [
        "GET /v2/",
        "GET /v2/org/app/manifests/1",
        f"GET /v2/org/app/manifests/{PLATFORM}",
        f"HEAD /v2/org/app/blobs/{DIGEST}",
    ], "the layer itself is not fetched"


def test_without_an_image_it_goes_as_far_as_the_realm() -> None:
    registry = Registry()
    with serving(registry) as server:
        realm = f"http://127.0.0.1:{server.port}/token"
        registry.routes["GET /v2/"] = reply(401, WWW_Authenticate=f'Bearer realm="{realm}"')
        pull = pulled(server, repository="")
    assert [step for _, step in steps(pull)] == [Step.ASKED, Step.REALM]
    assert "no image was named" in pull.stopped


def test_the_token_goes_to_the_registry_and_to_nobody_else() -> None:
    """The realm, and the host that a layer is redirected to, are on other ports: strangers."""
    seen: list[Mapping[str, str]] = []

    def storage(_: str, headers: Mapping[str, str]) -> bytes:
        seen.append(headers)
        return reply(206, b"x")

    def asked(headers: Mapping[str, str]) -> bytes:
        if headers.get("authorization") == "Bearer secret":
            return reply(200, MANIFEST)
        return reply(401)

    registry = Registry()
    with serving(registry) as server:
        home = f"http://127.0.0.1:{server.port}"
        registry.routes |= {
            "GET /v2/": reply(401, WWW_Authenticate=f'Bearer realm="{home}/token",service="s"'),
            "GET /token": reply(200, b'{"token": "secret"}'),
            "GET /v2/org/app/manifests/1": asked,
        }
        pull = pulled(server)
        assert pull.stopped == ""
        question = next(line for line in server.lines() if "/token" in line)
        assert question == "GET /token?service=s&scope=repository%3Aorg%2Fapp%3Apull"
        with serving(storage) as other:
            where = f"http://127.0.0.1:{other.port}/layer?signature=1"
            registry.routes[f"HEAD /v2/org/app/blobs/{DIGEST}"] = reply(307, Location=where)
            pull = pulled(server)
        # A stranger on loopback is named, and not asked.
        assert seen == []
        assert pull.met[-1].step is Step.BLOB
        assert pull.met[-1].port == other.port
        assert "a loopback address: it was not asked" in pull.met[-1].problem


def test_a_challenge_that_comes_with_the_manifest_is_followed() -> None:
    registry = Registry()
    with serving(registry) as server:
        home = f"http://127.0.0.1:{server.port}"

        def manifest(headers: Mapping[str, str]) -> bytes:
            if "authorization" in headers:
                return reply(200, MANIFEST)
            return reply(401, WWW_Authenticate=f'Bearer realm="{home}/token",scope="s"')

        registry.routes |= {
            "GET /v2/org/app/manifests/1": manifest,
            "GET /token": reply(200, b'{"access_token": "t"}'),
        }
        pull = pulled(server)
    assert pull.stopped == ""
    assert [step for _, step in steps(pull)] == [Step.ASKED, Step.REALM, Step.BLOB_HERE]
    assert any("scope=s" in line for line in server.lines())


def test_a_registry_that_refuses_head_is_asked_for_one_byte() -> None:
    registry = Registry()
    registry.routes |= {
        f"HEAD /v2/org/app/blobs/{DIGEST}": reply(405),
        f"GET /v2/org/app/blobs/{DIGEST}": reply(206, b"x"),
    }
    with serving(registry) as server:
        assert pulled(server).stopped == ""
    assert server.asked[-1][1]["range"] == "bytes=0-0"


def test_a_foreign_layers_place_is_named_and_not_asked() -> None:
    foreign = {"digest": PLATFORM, "urls": ["https://layers.example/x"]}
    manifest = json.dumps({"layers": [foreign, {"digest": DIGEST}]}).encode()
    registry = Registry()
    registry.routes["GET /v2/org/app/manifests/1"] = reply(200, manifest)
    with serving(registry) as server:
        pull = pulled(server)
    assert ("layers.example", Step.FOREIGN) in steps(pull)


@pytest.mark.parametrize(
    ("realm", "words"),
    [
        ("https://169.254.169.254/latest/meta-data", "a cloud metadata service address"),
        ("http://[::1]:1/token", "a loopback address: it was not asked"),
        ("ftp://evil.example/", "neither http nor https"),
        ("https://a:b@evil.example/", "a user name in it"),
        ("https://127.1/", "an address in an odd form"),
    ],
)
def test_a_hostile_realm_is_named_if_it_can_be_and_not_followed(realm: str, words: str) -> None:
    registry = Registry()
    registry.routes["GET /v2/"] = reply(401, WWW_Authenticate=f'Bearer realm="{realm}"')
    with serving(registry) as server:
        pull = pulled(server)
    assert words in pull.stopped
    assert len(server.asked) == 1


def test_redirects_without_an_end_are_given_up() -> None:
    registry = Registry()
    registry.routes |= {
        f"HEAD /v2/org/app/blobs/{DIGEST}": reply(307, Location="/again"),
        "GET /again": reply(307, Location="/again"),
    }
    with serving(registry) as server:
        pull = pulled(server)
    assert pull.stopped == "more than 5 redirects"
    assert server.lines().count("GET /again") == 5


def test_a_manifest_that_is_redirected_is_read_where_it_is() -> None:
    registry = Registry()
    registry.routes |= {
        "GET /v2/org/app/manifests/1": reply(307, Location="/elsewhere"),
        "GET /elsewhere": reply(200, MANIFEST),
    }
    with serving(registry) as server:
        pull = pulled(server)
    assert [step for _, step in steps(pull)] == [Step.ASKED, Step.MANIFEST, Step.BLOB_HERE]


@pytest.mark.parametrize(
    ("request_line", "answer", "words"),
    [
        ("GET /v2/", reply(404), "is no registry: it answers GET /v2/ with 404"),
        ("GET /v2/", reply(301, Location="https://www.example/"), "is no registry"),
        ("GET /v2/", reply(401), "a challenge that is neither"),
        ("GET /v2/", reply(401, WWW_Authenticate='Basic realm="x"'), "a user name and a password"),
        ("GET /v2/org/app/manifests/1", reply(404), "there is no org/app, 1"),
        ("GET /v2/org/app/manifests/1", reply(403), "without an account (status 403)"),
        ("GET /v2/org/app/manifests/1", reply(200, b"<html>"), "not JSON"),
        ("GET /v2/org/app/manifests/1", reply(200, b"[" * 100_000), "not JSON"),
        ("GET /v2/org/app/manifests/1", reply(200, b'{"fsLayers": []}'), "the old schema 1"),
        ("GET /v2/org/app/manifests/1", reply(307), "a redirect cannot be followed"),
        (f"HEAD /v2/org/app/blobs/{DIGEST}", reply(500), "no layer was shown"),
        (f"HEAD /v2/org/app/blobs/{DIGEST}", reply(307, Location="gopher://x"), "neither http"),
    ],
)
def test_where_it_does_not_go_on_it_says_why(request_line: str, answer: bytes, words: str) -> None:
    registry = Registry()
    registry.routes[request_line] = answer
    with serving(registry) as server:
        pull = pulled(server)
    assert words in pull.stopped


def test_a_realm_without_tokens_for_strangers_is_named_all_the_same() -> None:
    registry = Registry()
    with serving(registry) as server:
        realm = f"http://127.0.0.1:{server.port}/token"
        registry.routes |= {
            "GET /v2/": reply(401, WWW_Authenticate=f'Bearer realm="{realm}"'),
            "GET /token": reply(401),
        }
        pull = pulled(server)
    assert pull.met[-1].step is Step.REALM
    assert "gives no token without an account (status 401)" in pull.stopped
