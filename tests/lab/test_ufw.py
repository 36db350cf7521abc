"""A host with ufw, as Debian has it: nobody hangs, it is said, and it ends when ufw lets it in.

ufw's own rules are what matters, so it is ufw that makes them. The host itself is explained to all
along: what it sends to itself over loopback ufw lets in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.addresses import GHCR
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import DOCKER_IO, STRICT, policy
from tests.lab.refused import MESSAGE, NOT_CONNECTED, SOON, ask, assert_not_told_but_at_once
from tests.lab.space import wait_until

POLICY = policy(DOCKER_IO, host=STRICT)
FAMILIES = ("-4", "-6")


URL = "https://ghcr.io/v2/"


def ufw(host: Host, *words: str) -> str:
    said = host.run("ufw", *words)
    assert said.ok, said.output
    return said.output


def is_told(host: Host) -> bool:
    """Whether nothing keeps containers on docker0 from being told."""
    return not host.status()["explainer"]["unheard"]


@pytest.fixture
def guarded(host: Host) -> Iterator[Host]:
    """A host with ufw as it is after `ufw enable`, and ramfw with its explainer."""
    ufw(host, "--force", "enable")
    assert "Status: active" in ufw(host, "status")
    host.start_ramfw(POLICY)
    host.start_explainer()
    yield host
    ufw(host, "--force", "reset")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_container_is_refused_at_once_after_the_first_and_status_says_why_it_is_not_told(
    guarded: Host, internet: Internet, family: str
) -> None:
    container = guarded.container(command=("sleep", "60"))
    assert MESSAGE in ask(guarded, URL, "-k", family).output
    mend = assert_not_told_but_at_once(guarded, container, family)
    assert "ufw allow in on docker0 to any port 307 proto tcp" in mend
    assert internet.packets(GHCR) == 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "mend",
    [
        ("allow", "in", "on", "docker0", "to", "any", "port", "307", "proto", "tcp"),
        ("disable",),
    ],
    ids=lambda words: words[0],
)
def test_when_ufw_lets_it_in_containers_are_told_again(
    guarded: Host, internet: Internet, mend: tuple[str, ...], family: str
) -> None:
    """The line that status gives is enough; the daemon sees that rules changed."""
    container = guarded.container(command=("sleep", "60"))
    assert ask(container, URL, "-k", family).code == NOT_CONNECTED
    assert not is_told(guarded)

    ufw(guarded, *mend)

    wait_until(lambda: is_told(guarded), 10, "turned again")
    told = ask(container, URL, "-k", family)
    (error,) = json.loads(told.output)["errors"]
    assert error["message"] == MESSAGE
    assert told.seconds < SOON
    assert is_told(guarded)
    assert internet.packets(GHCR) == 0


def test_let_in_beforehand_nobody_waits(guarded: Host) -> None:
    ufw(guarded, "allow", "in", "on", "docker0", "to", "any", "port", "307", "proto", "tcp")
    container = guarded.container(command=("sleep", "60"))
    for family in FAMILIES:
        told = ask(container, URL, "-k", family)
        assert MESSAGE in told.output
        assert told.seconds < SOON
    assert is_told(guarded)
