"""Strangers who crowd the explainer, by a thousand connections at once that finish nothing.

What they may cost is words: a person may be refused without them. The filter does not notice.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.lab.addresses import GHCR, HUB
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import DOCKER_IO, STRICT, policy
from tests.lab.refused import MESSAGE, SOON, ask
from tests.lab.sender import PROGRAMS, PYTHON
from tests.lab.space import Process, wait_until

POLICY = policy(DOCKER_IO, host=STRICT)
URL = "https://ghcr.io/v2/"
MANY = 1000
MAY_GROW = 48 * 1024
"""KiB by which the explainer's memory may grow; its service bounds it at 192 MiB in all."""


def memory(process: Process) -> int:
    """The most that it ever held, in KiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1])


def files(process: Process) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


def crowd(client: Host | Container, address: str) -> Process:
    """Strangers on the host, or in a container's network; they are there when it returns."""
    argv = (PYTHON, "-I", str(PROGRAMS / "strangers.py"), address, "443", str(MANY))
    start = client.start if isinstance(client, Container) else client.namespace.start
    strangers = start(*argv)
    strangers.wait_for("^open")
    return strangers


def most_open(strangers: Process) -> int:
    return max(map(int, re.findall(r"^(\d+) are open", strangers.output, re.MULTILINE)))


@pytest.mark.parametrize("address", GHCR.addresses)
@pytest.mark.parametrize("of_container", [True, False], ids=["container", "host"])
def test_a_thousand_at_once_who_finish_nothing_are_bounded_and_the_filter_holds(
    host: Host,
    internet: Internet,
    address: str,
    of_container: bool,  # noqa: FBT001
) -> None:
    host.start_ramfw(POLICY)
    explainer = host.start_explainer()
    inside, other = (host.container(command=("sleep", "90")) for _ in range(2))
    assert MESSAGE in ask(host, URL, "-k").output
    before = memory(explainer)

    strangers = crowd(inside if of_container else host, address)
    for _ in range(3):
        for client in (host, other):
            # Refused at once, in words or without; and what is permitted works as ever.
            refused = ask(client, URL, "-k")
            assert MESSAGE in refused.output or not refused.ok
            assert refused.seconds < 3 * SOON
            permitted = ask(client, f"https://{HUB.name}/v2/", "-k")
            assert "UNAUTHORIZED" in permitted.output
            assert permitted.seconds < 3 * SOON
    assert most_open(strangers) > MANY // 4
    strangers.stop()

    assert memory(explainer) - before < MAY_GROW
    assert explainer.running
    wait_until(lambda: files(explainer) < 32, 10, "all connections are closed")
    # Nothing of what they wanted got out, and the rules are what they were.
    assert internet.packets(GHCR) == 0
    status = host.status()
    assert status["in_force"]
    assert status["kernel"]["mismatches"] == 0
    # Those who crowded it from a container may have to do without words for a minute; the host not.
    if of_container:
        assert MESSAGE in ask(host, URL, "-k").output
    assert host.pull("app:1").ok
