"""What refused clients hear, and how soon: what several stories check alike."""

from __future__ import annotations

from tests.lab.addresses import HUB
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.space import Namespace, Outcome

SOON = 1.0
"""Seconds within which a person knows; a container's command takes docker some more to start."""
A_SYN_LATER = 2.0
"""Seconds: TCP sends its SYN again after one, and is answered soon after that."""
NOT_CONNECTED = 7
"""curl's exit code where its connection was refused, or reset."""


def about(name: str, allowed: str = "docker.io") -> str:
    """The message to who wanted this, by a policy of the lab's that permits so much."""
    return (
        f"Access to {name} has been restricted by your administrators (Example Corp). "
        f"Allowed: {allowed}."
    )


MESSAGE = about("ghcr.io")


def ask(where: Host | Container | Namespace, url: str, *options: str) -> Outcome:
    """What curl prints of the answer."""
    return where.run("curl", "-sS", "--max-time", "10", *options, url)


def assert_not_told_but_at_once(host: Host, container: Container, family: str) -> str:
    """A host's firewall keeps containers on docker0 from the explainer: what they meet.

    Whoever comes first waits for a second, nobody after that, whatever the family. Status names the
    interface; what mends it is returned. All others are as before.
    """
    first = ask(container, "https://ghcr.io/v2/", "-k", family)
    assert first.code == NOT_CONNECTED
    assert SOON < first.seconds < A_SYN_LATER
    for each in (family, "-4", "-6"):
        later = ask(container, "https://ghcr.io/v2/", "-k", each)
        assert later.code == NOT_CONNECTED
        assert later.seconds < SOON
    status = host.status()
    assert status["explainer"]["unheard"] == ["docker0"]
    (problem,) = (p for p in status["problems"] if "docker0" in p["what"])
    assert "do not arrive" in problem["what"]
    assert MESSAGE in ask(host, "https://ghcr.io/v2/", "-k", family).output
    assert "UNAUTHORIZED" in ask(container, f"https://{HUB.name}/v2/", family).output
    return str(problem["mend"])
