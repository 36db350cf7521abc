"""One message, from one template: it names what was refused, by whom, and where to ask."""

from __future__ import annotations

import pytest

from ramfw.core.catalog import shipped
from ramfw.core.policy import Policy
from ramfw.core.policy_parser import parse
from ramfw.core.refusal_message import (
    LONGEST_ALLOWED,
    LONGEST_MESSAGE,
    as_registry,
    ascii_only,
    refusal_message,
)
from ramfw.errors import PolicyError

ORGANIZATION = """\
[organization]
name = "Example Corp"
contact = "https://it.example.com/registries"
"""
HUB = '[[allow]]\nregistry = "docker.io"\n'


def policy(text: str) -> Policy:
    return parse(f"version = 1\n{text}", "policy.toml", shipped())[0]


def test_it_says_what_was_refused_by_whom_what_is_allowed_and_where_to_ask() -> None:
    proxy = '[[allow]]\nproxy = "proxy.corp.example"\n'
    nexus = '[[allow]]\nhost = "nexus.corp.example"\nports = [8443]\n'
    assert refusal_message(policy(ORGANIZATION + HUB + proxy + nexus), "ghcr.io") == (
        "Access to ghcr.io has been restricted by your administrators (Example Corp). "
        "Allowed: docker.io, nexus.corp.example:8443. See https://it.example.com/registries"
    )


def test_what_the_policy_does_not_tell_is_left_out() -> None:
    assert refusal_message(policy(""), "ghcr.io") == (
        "Access to ghcr.io has been restricted by your administrators. Allowed: none."
    )
    assert refusal_message(None, "ghcr.io") == (
        "Access to ghcr.io has been restricted by your administrators."
    )


def test_the_policy_may_have_words_of_its_own() -> None:
    own = '[explainer]\nmessage = "{host}? {{no}}: {organization}, {allowed}, {contact}"\n'
    assert refusal_message(policy(ORGANIZATION + HUB + own), "ghcr.io") == (
        "ghcr.io? {no}: Example Corp, docker.io, https://it.example.com/registries"
    )


def test_many_registries_are_counted_and_every_message_is_bounded() -> None:
    hosts = "".join(f'[[allow]]\nhost = "registry-{n}.corp.example"\n' for n in range(200))
    text = refusal_message(policy(ORGANIZATION + hosts), "ghcr.io")
    allowed = text.partition("Allowed: ")[2].partition(". See")[0]
    assert allowed.startswith("registry-0.corp.example, ")
    shown = allowed.count(",") + 1
    assert allowed.endswith(f" and {200 - shown} more")
    assert len(allowed) < LONGEST_ALLOWED + 20
    longest = f'[explainer]\nmessage = "{"{allowed}" * 40}{{host}}"\n'
    assert len(refusal_message(policy(hosts + longest), "ghcr.io")) == LONGEST_MESSAGE


def test_where_only_ascii_fits_the_words_stay_readable() -> None:
    assert ascii_only("Müller & Søn, Zürich") == "Muller & S?n, Zurich"
    assert ascii_only("Πόλη\r\nx: y") == "????" + "??x: y"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('message = ""', "the message is empty"),
        ('message = "no registry for you"', "write `{host}`"),
        ('message = "{host} {who}"', "`{who}` cannot be filled in; what can are {host},"),
        ('message = "{host} {contact!r}"', "cannot be filled in"),
        ('message = "{host:>900000000}"', "cannot be filled in"),
        ('message = "{host.__class__}"', "cannot be filled in"),
        ('message = "{host} {"', "a brace by itself"),
        ('message = "{host}\\n"', "control characters"),
        (f'message = "{{host}}{"x" * 400}"', "has 406 characters; 400 are permitted"),
        ("message = 1", "must be a string"),
        ('ca = "ca.pem"\nkey = "/k"', "must be a file's path from the root"),
        ('ca = "/ca.pem"', "`ca` needs `key`"),
        ('key = "/ca.key"', "`key` needs `ca`"),
        ('messages = "x"', "did you mean `message`?"),
    ],
)
def test_a_template_that_cannot_be_filled_in_is_refused_with_what_mends_it(
    table: str, words: str
) -> None:
    with pytest.raises(PolicyError) as refused:
        policy(f"[explainer]\n{table}\n")
    assert words in str(refused.value)


def test_the_authority_is_two_files() -> None:
    explainer = policy(
        '[explainer]\nca = "/etc/ramfw/ca.pem"\nkey = "/etc/ramfw/ca.key"\n'
    ).explainer
    assert (explainer.ca, explainer.key) == ("/etc/ramfw/ca.pem", "/etc/ramfw/ca.key")


@pytest.mark.parametrize(
    ("host", "port", "named"),
    [
        ("ghcr.io", 443, "ghcr.io"),
        ("ghcr.io", 80, "ghcr.io:80"),
        ("ghcr.io", 5000, "ghcr.io:5000"),
        ("2001:db8::1", 443, "2001:db8::1"),
        ("2001:db8::1", 5000, "[2001:db8::1]:5000"),
    ],
)
def test_a_port_is_told_where_it_is_a_part_of_the_registrys_name(
    host: str, port: int, named: str
) -> None:
    assert as_registry(host, port) == named
