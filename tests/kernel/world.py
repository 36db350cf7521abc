"""A host with ramfw, and a network that it reaches: what the stories on emulated kernels share."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.lab.space import Namespace, Process, Space

HOST, DNS = "192.0.2.1", "192.0.2.53"
HOST6, DNS6 = "2001:db8::1", "2001:db8::53"
SERVERS = {"A": "203.0.113.0/24", "AAAA": "2001:db8:f::/64"}
"""By the kind of question whose answers have them."""
ENGINE = "system.slice/docker.service"
RAMFW = (sys.executable, "-c", "from ramfw.cli import main; main()")


@dataclass(frozen=True, slots=True)
class World:
    """The two networks, joined, with all addresses and routes."""

    host: Namespace
    network: Namespace

    @property
    def _where(self) -> tuple[str, ...]:
        directory = self.host.space.directory
        return ("--policy", f"{directory}/policy.toml", "--control", f"{directory}/control.sock")

    def start_ramfw(self, policy: str) -> Process:
        """Start the daemon, and wait until nothing is left to program."""
        (self.host.space.directory / "policy.toml").write_text(policy)
        daemon = self.host.start(*RAMFW, *self._where, "run", cgroup="system.slice/ramfw.service")
        daemon.wait_for("in force", timeout=60)
        # Links, servers and cgroups as well.
        self.host.run(*RAMFW, *self._where, "status", "--wait", "60", timeout=90, check=True)
        return daemon

    def status(self) -> Any:  # noqa: ANN401 - JSON
        """What `ramfw status --json` tells."""
        told = self.host.run(*RAMFW, *self._where, "status", "--json", check=True)
        return json.loads(told.output)


@contextmanager
def world() -> Iterator[World]:
    """Make both networks; all ends with the context."""
    with closing(Space()) as space:
        space.env["PYTHONPATH"] = ":".join(sys.path)
        made = World(space.first, space.namespace())
        space.link(made.host, made.network)
        made.network.sh(
            f"""
            ip addr add {DNS}/24 dev uplink
            ip addr add {DNS6}/64 dev uplink nodad
            ip link set uplink up
            ip route add local {SERVERS["A"]} dev lo
            ip route add local {SERVERS["AAAA"]} dev lo
            """
        )
        made.host.sh(
            f"""
            ip addr add {HOST}/24 dev uplink
            ip addr add {HOST6}/64 dev uplink nodad
            ip link set uplink up
            ip route add {SERVERS["A"]} via {DNS}
            ip route add {SERVERS["AAAA"]} via {DNS6}
            """
        )
        yield made
