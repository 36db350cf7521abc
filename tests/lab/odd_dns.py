"""DNS servers that answer oddly, and clients that ask them: for what no real server would do."""

from __future__ import annotations

import re
import sys

from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.sender import PROGRAMS, PYTHON
from tests.lab.space import Outcome, Process

ODD = "198.51.100.54"
ODD_V6 = "2001:db8:53::54"
UNTRUSTED = "198.51.100.55"
"""The same server at an address that the host's resolv.conf does not name."""
CLIENT_PORT = 5555
QUESTION_ID = 4660

IN_CONTAINER = "/lab"
"""Where containers have the lab's programs."""
WITH_PROGRAMS = ("--volume", f"{PROGRAMS}:{IN_CONTAINER}:ro")


def start_odd_dns(internet: Internet, *addresses: str) -> None:
    """Start the server at each address, if it does not run there."""
    for address in addresses:
        if address in internet.namespace.sh("ip -brief address show dev lo"):
            continue
        length = "128 dev lo nodad" if ":" in address else "32 dev lo"
        internet.namespace.sh(f"ip addr add {address}/{length}")
        server = internet.namespace.start(
            sys.executable, "-I", str(PROGRAMS / "odd_dns.py"), address
        )
        server.wait_for("listening")


def ask_command(  # noqa: PLR0913 - all that a question can be, by name
    *questions: str,
    server: str = ODD,
    protocol: str = "udp",
    port: int = 0,
    count: int | None = None,
    seconds: float = 3,
    programs: str = str(PROGRAMS),
) -> tuple[str, ...]:
    """The command that asks; see `servers/ask.py`."""
    wanted = len(questions) if count is None else count
    options = (server, protocol, str(port), str(QUESTION_ID), str(wanted), str(seconds))
    return (PYTHON, "-I", f"{programs}/ask.py", *options, *questions)


def forge_command(
    how: str, server: str, receiver: str, answer: tuple[str, str], programs: str = IN_CONTAINER
) -> tuple[str, ...]:
    """The command that forges the answer (name, address) to a question of `CLIENT_PORT`."""
    more = (str(CLIENT_PORT), str(QUESTION_ID), *answer)
    return (PYTHON, "-I", f"{programs}/forge.py", how, server, receiver, *more)


def received(asked: Outcome | Process) -> list[bytes]:
    """The messages that an asker was given."""
    lines = asked.output.splitlines()
    return [bytes.fromhex(line) for line in lines if re.fullmatch(r"([0-9a-f]{2})+", line)]


def ask_as_engine(host: Host, *questions: str, **options: object) -> list[bytes]:
    """Ask in the engine's cgroup; the messages that came."""
    outcome = host.as_engine(*ask_command(*questions, **options))  # type: ignore[arg-type]
    assert outcome.ok, outcome.output
    return received(outcome)


def ask_in(container: Container, *questions: str, **options: object) -> list[bytes]:
    """Ask in a container; the messages that came."""
    command = ask_command(*questions, programs=IN_CONTAINER, **options)  # type: ignore[arg-type]
    outcome = container.run(*command)
    assert outcome.ok, outcome.output
    return received(outcome)
