"""Senders on a machine that never pause, and what of theirs arrives on the other side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.addresses import GHCR, LOGS, NEXUS, Site
from tests.lab.space import wait_until
from tests.machine.machine import Machine

PROGRAM = (Path(__file__).parent / "sender.py").read_text()
PLACE = "/srv/sender.py"

FORBIDDEN_TO_ENGINE = GHCR
"""Where the engine's sender sends to; no policy of these tests permits it."""

FORBIDDEN_TO_CONTAINER = NEXUS
"""The same for the container's sender; two places, so that arrivals can be told apart."""

OF_HOST = LOGS
"""Where a sender outside all scopes sends to: what it sends arrives, from its first moment."""


@dataclass(frozen=True, slots=True)
class Sender:
    """A sender on a machine, by the file in which it counts."""

    machine: Machine
    count: str
    place: Site

    def _said(self) -> list[str]:
        path = self.machine.root / self.count[1:]
        return path.read_text().split() if path.exists() else []

    @property
    def attempts(self) -> int:
        said = self._said()
        return int(said[1]) if said else 0

    @property
    def first(self) -> float:
        """When it began, in seconds of the monotonic clock."""
        return float(self._said()[0])

    @property
    def arrived(self) -> int:
        """How many packets came out of the machine for its place."""
        return self.machine.rack.internet.packets(self.place)

    @property
    def let_through(self) -> dict[tuple[str, str, int], int]:
        """The same by address, protocol and port; empty where nothing came out."""
        return self.machine.rack.internet.seen(self.place)

    def wait_for(self, more: int) -> None:
        """Wait until it has made so many more attempts."""
        until = self.attempts + more
        wait_until(lambda: self.attempts >= until, 30, f"{self.count}: {until} attempts")

    def assert_nothing_more(self) -> None:
        """Nothing gets through from now on, of what did before neither.

        The servers' part in that is ended: what they send again is answered by nobody's reset.
        """
        self.machine.rack.internet.end_connections()
        before = self.let_through
        self.wait_for(100)
        assert self.let_through == before, "nothing gets through any more"


def _places(site: Site) -> list[str]:
    """One SYN by each IP version and one datagram: what any client could send."""
    return [f"tcp/{site.v4}/443", f"tcp/{site.v6}/443", f"udp/{site.v4}/443"]


def at_boot(machine: Machine, name: str, site: Site, in_slice: str = "") -> Sender:
    """A sender that systemd starts as early as it starts anything, at each boot.

    It waits for nothing: without default dependencies and before all targets. The machine is off.
    """
    count = f"/run/sender-{name}"
    machine.write(PLACE, PROGRAM)
    machine.write(
        f"/etc/systemd/system/sender-{name}.service",
        f"""\
[Unit]
DefaultDependencies=no

[Service]
ExecStart=/usr/bin/python3 -I {PLACE} {count} {" ".join(_places(site))}
{f"Slice={in_slice}" if in_slice else ""}
""",
    )
    wanted = machine.disk.at("/etc/systemd/system/sysinit.target.wants")
    wanted.mkdir(parents=True, exist_ok=True)
    (wanted / f"sender-{name}.service").symlink_to(f"../sender-{name}.service")
    return Sender(machine, count, site)


def engine_at_boot(machine: Machine) -> Sender:
    return at_boot(machine, "engine", FORBIDDEN_TO_ENGINE, "engines.slice")


def host_at_boot(machine: Machine) -> Sender:
    return at_boot(machine, "host", OF_HOST)


def in_container(machine: Machine) -> Sender:
    """A sender in a container that the engine starts whenever it starts itself."""
    machine.write(PLACE, PROGRAM)
    machine.run("docker", "load", "--input", "/srv/tools.tar", check=True)
    machine.run(
        *("docker", "run", "--detach", "--restart=always", "--name=sender"),
        "--stop-signal=KILL",
        *("--volume=/usr:/usr:ro", "--volume=/srv:/srv", "--volume=/run:/counts", "tools:1"),
        *("/usr/bin/python3", "-I", PLACE, "/counts/sender-container"),
        *_places(FORBIDDEN_TO_CONTAINER),
        check=True,
    )
    return Sender(machine, "/run/sender-container", FORBIDDEN_TO_CONTAINER)


@contextmanager
def from_engine(machine: Machine, name: str = "now") -> Iterator[Sender]:
    """A sender in the engines' slice that runs for the length of a context."""
    machine.write(PLACE, PROGRAM)
    unit, count = f"sender-{name}.service", f"/run/sender-{name}"
    places = _places(FORBIDDEN_TO_ENGINE)
    machine.run(
        *("systemd-run", "--quiet", "--collect", "--slice=engines.slice", f"--unit={unit}"),
        *("/usr/bin/python3", "-I", PLACE, count, *places),
        check=True,
    )
    sender = Sender(machine, count, FORBIDDEN_TO_ENGINE)
    try:
        sender.wait_for(10)
        yield sender
        sender.wait_for(10)
    finally:
        machine.run("systemctl", "stop", unit)
        machine.run("rm", "-f", count)
