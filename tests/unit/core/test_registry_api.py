"""Nothing that a registry says is trusted: what fits is a value, what does not is a sentence."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.registry_api import (
    LONGEST_CHALLENGE,
    LONGEST_TOKEN,
    LONGEST_URL,
    Challenge,
    Place,
    blob_path,
    challenge,
    layers,
    manifest_path,
    place,
    platform_manifest,
    token,
    token_target,
)

HOME = Place("https", "registry.example", 443, "/v2/")
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def body(**keys: object) -> bytes:
    return json.dumps(keys).encode()


def answer(key: str, value: object) -> bytes:
    return json.dumps({key: value}).encode()


# -- URLs --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Auth.Docker.io/token", Place("https", "auth.docker.io", 443, "/token")),
        ("https://a.example", Place("https", "a.example", 443, "/")),
        ("http://a.example:5000/x?y=1#z", Place("http", "a.example", 5000, "/x?y=1")),
        ("https://[2001:db8::1]:8443/x", Place("https", "2001:db8::1", 8443, "/x")),
        ("https://192.0.2.1/x", Place("https", "192.0.2.1", 443, "/x")),
        ("/v2/x", Place("https", "registry.example", 443, "/v2/x")),
    ],
)
def test_a_url_is_a_place(url: str, expected: Place) -> None:
    assert place(url, HOME) == expected


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "a relative URL"),
        ("v2/x", "a relative URL"),
        ("ftp://a.example/x", "neither http nor https"),
        ("file:///etc/passwd", "neither http nor https"),
        ("https://user:secret@a.example/", "a user name in it"),
        ("https://a.example/x\r\nHost: b", "control characters"),
        ("https://a.example/a b", "spaces"),
        ("https://a.example:99999/", "a URL that is none"),
        ("https://a.example:x/", "a URL that is none"),
        ("https://[::1/", "a URL that is none"),
        ("https://a_b.example/", "underscore"),
        ("https://0x7f000001/", "an address in an odd form"),
        ("https://*.example/", "a wildcard"),
        ("https://a.example/" + "x" * LONGEST_URL, "characters"),
        ("https://bücher.example/", "control characters"),
    ],
)
def test_a_url_that_is_not_followed(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        place(url, HOME)


# -- the challenge -----------------------------------------------------------------------------


def test_a_bearer_challenge_has_its_realm_service_and_scope() -> None:
    found = challenge(
        'Bearer realm="https://auth.docker.io/token",service="registry.docker.io", '
        'scope="repository:library/hello-world:pull,push"'
    )
    assert found == Challenge(
        "bearer",
        "https://auth.docker.io/token",
        "registry.docker.io",
        "repository:library/hello-world:pull,push",
    )
    assert challenge("bearer realm=https://a.example/t").realm == "https://a.example/t"
    assert challenge('Basic realm="Sonatype Nexus"') == Challenge("basic")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        'Bearer service="x"',
        'Bearer realm=""',
        "Negotiate abc",
        'Bearer realm="a" nonsense',
        'Bearer realm="unterminated',
        "Bearer " + 'a="b",' * LONGEST_CHALLENGE,
    ],
)
def test_a_challenge_that_cannot_be_read(header: str) -> None:
    with pytest.raises(ValueError, match="a challenge"):
        challenge(header)


def test_the_realm_is_asked_for_a_pull_and_nothing_more() -> None:
    realm = Place("https", "auth.example", 443, "/token?a=1")
    asked = Challenge("bearer", "", "registry.example", "")
    assert token_target(realm, asked, "org/app").target == (
        "/token?a=1&service=registry.example&scope=repository%3Aorg%2Fapp%3Apull"
    )
    assert token_target(realm, Challenge("bearer"), "").target == "/token?a=1"


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b"9" * 10_000,
        answer("token", 5),
        answer("token", ""),
        answer("token", "a\r\nHost: b"),
        answer("token", "ä"),
        answer("token", "x" * (LONGEST_TOKEN + 1)),
    ],
)
def test_an_answer_without_a_token_that_could_be_sent(given: bytes) -> None:
    with pytest.raises(ValueError, match=r"token|JSON"):
        token(given)


def test_a_token_by_either_of_its_names() -> None:
    assert token(answer("token", "abc")) == "abc"
    assert token(answer("access_token", "abc")) == "abc"


# -- manifests ---------------------------------------------------------------------------------


def test_of_an_index_the_usual_platform_is_taken_and_no_attestation() -> None:
    def of(os: str, architecture: str, digest: str) -> dict[str, object]:
        return {"digest": digest, "platform": {"os": os, "architecture": architecture}}

    attestation = of("unknown", "unknown", "sha256:" + "c" * 64)
    both = [attestation, of("linux", "arm64", OTHER), of("linux", "amd64", DIGEST)]
    assert platform_manifest(body(manifests=both)) == DIGEST
    assert platform_manifest(body(manifests=both[:2])) == OTHER
    assert platform_manifest(body(manifests=[{"digest": DIGEST}])) == DIGEST
    assert platform_manifest(body(layers=[])) is None
    with pytest.raises(ValueError, match="an index without a manifest"):
        platform_manifest(body(manifests=[attestation, 5, {"digest": "../../etc"}]))


def test_the_first_layer_that_the_registry_holds_and_where_foreign_ones_are() -> None:
    foreign = {"digest": OTHER, "urls": ["https://layers.example/x", 5]}
    found = layers(body(layers=[foreign, {"digest": DIGEST}, {"digest": OTHER}]))
    assert (found.digest, found.foreign) == (DIGEST, ("https://layers.example/x",))
    assert layers(body(layers=[], config={"digest": DIGEST})).digest == DIGEST
    assert layers(body(layers=[foreign], config={"digest": DIGEST})).digest == DIGEST


@pytest.mark.parametrize(
    "manifest",
    [
        body(fsLayers=[]),
        body(layers=5),
        body(layers=[]),
        body(layers=[{"digest": "sha256:short"}]),
        body(layers=[{"digest": DIGEST + "/../x"}]),
        body(layers=[{"digest": 5}], config=5),
    ],
)
def test_a_manifest_without_a_layer(manifest: bytes) -> None:
    with pytest.raises(ValueError, match="a manifest without"):
        layers(manifest)


def test_paths_are_those_of_the_api() -> None:
    assert manifest_path("org/app", "1.0") == "/v2/org/app/manifests/1.0"
    assert manifest_path("org/app", DIGEST) == f"/v2/org/app/manifests/{DIGEST}"
    assert blob_path("org/app", DIGEST) == f"/v2/org/app/blobs/{DIGEST}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(
            ["manifests", "layers", "digest", "platform", "urls", "config", "token", "os"]
        ),
        inner,
    ),
)  # fmt: skip


@given(JSON)
def test_no_json_does_more_than_be_refused(data: object) -> None:
    text = json.dumps(data).encode()
    for reader in (token, platform_manifest, layers):
        with suppress(ValueError):
            reader(text)


@given(st.text(max_size=60))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for reader in (challenge, place):
        with suppress(ValueError):
            reader(text)
