"""What the daemon answers to those who ask and change nothing: `status`, `log`, `explain` and such.

Who asks is in the arguments: the control socket puts the caller's user id there.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from ramfw import __version__
from ramfw.control_server import CALLER, Arguments
from ramfw.core.engine import Engine
from ramfw.core.explain import explain
from ramfw.core.learning import suggestion
from ramfw.core.names_report import Beside
from ramfw.core.refusals import facts
from ramfw.core.report import report
from ramfw.core.tablestate import Counts
from ramfw.keeper import FoundKeeper, Keeper
from ramfw.lease_keeper import LeaseKeeper
from ramfw.observe.resolver import Resolver
from ramfw.watches import Watches

EXPLAIN_PATIENCE = 3.0
"""Seconds that `explain` waits for DNS servers."""
MOST_TO_RESOLVE = 16
"""Names that one `explain` has asked for."""
NOT_LOCKED = {
    "follows": "root's other programs can change it: it is put right within milliseconds, and who "
    "did it is told; what is sent meanwhile passes",
    "mend": "Debian 13 has both",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiries:
    """Reads the engine, the kernel's counters and the keepers; `look` reads what waits first."""

    engine: Engine
    watches: Watches
    resolver: Resolver
    keepers: tuple[Keeper, FoundKeeper, LeaseKeeper]
    policy_path: Path
    lock_problem: str
    """Why the table is not locked; empty where it is."""
    counts: Callable[[], Awaitable[Counts]]
    beside: Callable[[float], Beside]
    look: Callable[[], None]
    started: float = field(default_factory=time.monotonic)

    async def status(self, arguments: Arguments) -> dict[str, Any]:
        """What is in force, what was counted, and what is wrong."""
        counts = await self.counts()
        self.look()
        now = time.monotonic()
        watches = self.watches
        told = report(
            *(self.engine, counts, watches.tally, now, int(arguments[CALLER])),
            beside=self.beside(now),
            stream=True,
        )
        if self.lock_problem:
            what = f"the table is not locked: {self.lock_problem}"
            told["problems"].append({"what": what, **NOT_LOCKED})
        problems = dict.fromkeys((*(keeper.problem for keeper in self.keepers), watches.blind))
        told["alarms"] += filter(None, problems)
        return {
            "version": __version__,
            "pid": os.getpid(),
            "policy": str(self.policy_path),
            "uptime": now - self.started,
            "state": self.keepers[0].report(),
            "lock": {"held": not self.lock_problem, "problem": self.lock_problem},
            **told,
        }

    async def log(self, arguments: Arguments) -> dict[str, Any]:
        """What was refused after the record of a number, as far as the caller may know."""
        now = time.monotonic()
        refusals = self.engine.refusals
        records = refusals.since(int(arguments.get("after", 0)), int(arguments[CALLER]))
        return {
            "refusals": [facts(record, now) for record in records],
            "latest": refusals.latest,
            "untold": refusals.untold,
            "lost": self.watches.lost_refusals,
        }

    async def refused(self, arguments: Arguments) -> dict[str, Any]:
        """Whether a connection to a name was refused just now, also one that is not read yet."""
        self.look()
        name = str(arguments.get("name", ""))
        return {"refused": self.engine.refusals.was_refused(name, time.monotonic())}

    async def explain(self, arguments: Arguments) -> dict[str, Any]:
        """What a pull of an image would touch, or what is known of a name or an address."""
        explanation: dict[str, Any] = explain(
            self.engine,
            str(arguments.get("query", "")),
            time.monotonic(),
            int(arguments[CALLER]),
        )
        # What is not permitted is not followed either: it is asked for now, and opens nothing.
        unknown = [host for host in explanation["hosts"] if not host["resolves_to"]]
        names = {host["host"] for host in unknown[:MOST_TO_RESOLVE] if _is_name(host["host"])}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EXPLAIN_PATIENCE), asyncio.TaskGroup() as group:
                for name in names:
                    group.create_task(self._resolve_for(name, unknown))
        return explanation

    async def _resolve_for(self, name: str, hosts: list[dict[str, Any]]) -> None:
        resolved = await self.resolver.resolve(name)
        for host in hosts:
            if host["host"] == name:
                host["resolves_to"] = sorted(str(answer.address) for answer in resolved.answers)

    async def suggest(self, _: Arguments) -> dict[str, Any]:
        """A policy for what audit mode has gathered. Raises ValueError without a policy."""
        if self.engine.policy is None:
            raise ValueError("no policy was loaded")
        return suggestion(self.engine.learning, self.engine.policy, time.monotonic())


def _is_name(host: str) -> bool:
    """Whether it can be asked for: neither a wildcard nor an address."""
    return "*" not in host and not _is_address(host)


def _is_address(host: str) -> bool:
    try:
        ip_network(host)
    except ValueError:
        return False
    return True
