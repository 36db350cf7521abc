"""What people type after `explain` is an image, a host or an address, as they mean it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.reference import Kind, Reference, parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "host", "port", "repository"),
    [
        ("alpine", "docker.io", None, "library/alpine"),
        ("alpine:3.19", "docker.io", None, "library/alpine"),
        ("ubuntu:22.04", "docker.io", None, "library/ubuntu"),
        ("registry:5000", "docker.io", None, "library/registry"),
        (f"alpine@sha256:{HEX}", "docker.io", None, "library/alpine"),
        ("library/alpine:3", "docker.io", None, "library/alpine"),
        ("org/team/image", "docker.io", None, "org/team/image"),
        ("docker.io/alpine", "docker.io", None, "library/alpine"),
        ("docker.io/org/image:1", "docker.io", None, "org/image"),
        ("index.docker.io/alpine", "docker.io", None, "library/alpine"),
        ("ghcr.io/org/image:1", "ghcr.io", None, "org/image"),
        (f"ghcr.io/org/image:1@sha256:{HEX}", "ghcr.io", None, "org/image"),
        ("GHCR.io/org/image", "ghcr.io", None, "org/image"),
        ("Nexus/image", "nexus", None, "image"),
        ("nexus.corp.example:8443/a__b/c-d.e", "nexus.corp.example", 8443, "a__b/c-d.e"),
        ("localhost/image", "localhost", None, "image"),
        ("localhost:5000/image:2", "localhost", 5000, "image"),
        ("192.0.2.1:5000/image", "192.0.2.1", 5000, "image"),
        ("[2001:db8::1]:5000/image", "2001:db8::1", 5000, "image"),
        ("bücher.example/image", "xn--bcher-kva.example", None, "image"),
        ("my.image:latest", "docker.io", None, "library/my.image"),
    ],
)
def test_an_image_tells_its_registry(
    text: str, host: str, port: int | None, repository: str
) -> None:
    asked = parse(text)
    assert asked.kind is Kind.IMAGE
    assert (asked.host, asked.port, asked.repository) == (host, port, repository)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("ghcr.io", "ghcr.io", None),
        ("GHCR.IO.", "ghcr.io", None),
        ("nexus.corp.example:8443", "nexus.corp.example", 8443),
        ("localhost", "localhost", None),
        ("localhost:5000", "localhost", 5000),
    ],
)
def test_what_looks_like_a_host_is_one(text: str, host: str, port: int | None) -> None:
    assert parse(text) == Reference(Kind.HOST, host, port)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", None),
        ("192.0.2.1:5000", "192.0.2.1", 5000),
        ("2001:db8::1", "2001:db8::1", None),
        ("[2001:db8::1]", "2001:db8::1", None),
        ("[2001:db8:0::1]:443", "2001:db8::1", 443),
        ("::ffff:192.0.2.1", "192.0.2.1", None),
    ],
)
def test_an_address_with_and_without_a_port(text: str, address: str, port: int | None) -> None:
    asked = parse(text)
    assert asked.kind is Kind.ADDRESS
    assert (asked.host, str(asked.address), asked.port) == (address, address, port)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing is named"),
        ("  ", "nothing is named"),
        ("ghcr.io/x y", "spaces"),
        ("ghcr.io/\x1b[31m", "control characters"),
        ("https://ghcr.io/org/image", "write the host or the image alone: `ghcr.io`"),
        ("docker://ghcr.io/org/image:1", "alone: `ghcr.io/org/image:1`"),
        (HEX, "the id of an image"),
        ("ghcr.io/", "is empty"),
        ("/image", "is empty"),
        ("ghcr.io//image", "is empty"),
        ("ghcr.io/Org/image", "lower case: `org`"),
        ("Alpine", "lower case: `alpine`"),
        ("ghcr.io/org/-image", "`-image` cannot be part"),
        ("ghcr.io/org/im$age", "cannot be part"),
        ("ghcr.io/image:", "is not a tag"),
        ("ghcr.io/image:.1", "is not a tag"),
        ("ghcr.io/image:" + "a" * 129, "at most 128"),
        ("ghcr.io/image@sha256:12", "is not a digest"),
        ("ghcr.io/" + "a/" * 128 + "a", "longer than 255"),
        ("ghcr.io:0/image", "a port is a number from 1 to 65535"),
        ("ghcr.io:65536", "a port is a number from 1 to 65535"),
        ("ghcr.io:" + "9" * 5000, "a port is a number from 1 to 65535"),
        ("ghcr.io:http/image", "is not a host and a port"),
        ("[2001:db8::1/image", "is not a host and a port"),
        ("[ghcr.io]:443", "not an IPv6 address"),
        ("bad_host.example", "underscore"),
        ("-bad.example/image", "hyphen"),
        ("192.0.2", "an address in an odd form"),
        ("fe80::1%eth0", "leave out the interface of the address: `fe80::1`"),
    ],
)
def test_what_is_none_of_them_is_told_in_words(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text)
    assert words in str(caught.value)


@given(st.text(max_size=40))
def test_no_text_does_anything_but_parse_or_be_refused_in_printable_words(text: str) -> None:
    asked, refusal = None, ""
    try:
        asked = parse(text)
    except ValueError as error:
        refusal = str(error)
    assert refusal.isprintable()
    assert bool(refusal) == (asked is None)
    if asked is not None:
        assert asked.host
        assert (asked.kind is Kind.IMAGE) == bool(asked.repository)
