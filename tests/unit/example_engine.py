"""An engine in the middle of its life: some names answered, one failed, one gone silent."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from ramfw.core.catalog import shipped
from ramfw.core.commands import Command, Program, ReadTable
from ramfw.core.engine import Engine
from ramfw.core.events import (
    Answer,
    AnswersHeld,
    Cgroup,
    CgroupsChanged,
    Committed,
    Event,
    HeldAnswer,
    LinksChanged,
    PolicyLoaded,
    Reason,
    Refusal,
    RefusalsSeen,
    Resolved,
    ServerReply,
    ServersChanged,
    TableRead,
    WatchChanged,
)
from ramfw.core.name_check import NameCheck, NameRefusal
from ramfw.core.policy import ScopeName
from ramfw.core.policy_parser import parse
from ramfw.core.probe import Found, Place
from ramfw.core.questions import Tally
from ramfw.core.registry_check import Evidence
from ramfw.core.report import report
from ramfw.core.tablestate import Count, Counts
from ramfw.core.watch_rules import WatchForm
from ramfw.program.fake import FakeKernel
from ramfw.wire import first_bytes

POLICY = """
version = 1

[organization]
name = "Example Corp"
contact = "https://it.example.com/registries"

[[allow]]
registry = "ghcr.io"

[[allow]]
host = "nexus.corp.example"
ports = [8443]

[[allow]]
host = "gone.corp.example"

[[allow]]
host = "*.wild.example"

[[allow]]
address = "198.51.100.0/24"
ports = [514]
protocol = "udp"
scopes = ["engines"]
"""

DNS = "192.0.2.53"
NOW = 1000.0


class Running:
    """An engine whose transactions go into a fake kernel, each done before the next event."""

    def __init__(self, policy: str = POLICY) -> None:
        self.engine = Engine(lambda: 0.5, NameCheck(first_bytes.read, first_bytes.ended))
        self.kernel = FakeKernel(lambda: NOW)
        self.policy, _ = parse(policy, "/etc/ramfw/policy.toml", shipped())
        self.tell(TableRead(None))
        self.tell(PolicyLoaded(self.policy))
        self.tell(LinksChanged(frozenset({"docker0"}), frozenset(), frozenset({"mv0"})))
        docker = Cgroup("system.slice/docker.service", ScopeName.ENGINES)
        self.tell(CgroupsChanged(frozenset({(docker, 42)})))
        self.tell(WatchChanged(WatchForm.NATIVE, names=True, tells_answers=True))
        self.tell(ServersChanged((ip_address(DNS),)))

    def tell(self, event: Event, now: float = NOW) -> None:
        waiting: list[Command] = self.engine.handle(event, now)
        while waiting:
            command = waiting.pop(0)
            if isinstance(command, Program):
                self.kernel.run(command.transaction)
                waiting += self.engine.handle(Committed(), now)
            elif isinstance(command, ReadTable):
                state = self.kernel.read(with_grants=command.with_grants)
                waiting += self.engine.handle(TableRead(state), now)

    def answer(self, name: str, *addresses: str, now: float = NOW) -> None:
        answers = tuple(Answer(ip_address(address), 300, DNS) for address in addresses)
        self.tell(Resolved(name, answers, (ServerReply(DNS, "ok" if answers else "timeout"),)), now)

    def hold(self, name: str, *addresses: str, ago: float, server: str = DNS) -> None:
        packed = tuple(ip_address(address).packed for address in addresses)
        self.tell(AnswersHeld((HeldAnswer(7, name, packed, 300, server),)), NOW - ago)


def example() -> Running:
    """Four addresses of ghcr.io, two of the blobs host; nexus stale; gone never answered.

    Five names under the wildcard, the latest with five addresses.
    """
    running = Running()
    running.answer("ghcr.io", "203.0.113.1", "203.0.113.2", "203.0.113.3", "2001:db8::1")
    running.answer("pkg-containers.githubusercontent.com", "203.0.113.9", "203.0.113.10")
    running.answer("nexus.corp.example", "203.0.113.30", now=NOW - 250)
    running.answer("nexus.corp.example")
    running.answer("gone.corp.example")
    for number, ago in enumerate((200, 70, 12, 100), start=1):
        running.hold(f"r{number}.wild.example", f"203.0.113.4{number}", ago=ago)
    five = (f"203.0.113.5{number}" for number in range(5))
    running.hold("images.eu.wild.example", *five, ago=3, server="192.0.2.54")
    refusal = NameRefusal(
        NOW - 3, ScopeName.ENGINES, "203.0.113.9", 443, "other.example", "the name is not permitted"
    )
    running.engine.name_check.refusals["203.0.113.9", 443, "other.example"] = refusal
    running.engine.name_check.judged.update(permitted=40, passed=7, refused=1)
    place = Place("registry.example", ip_address("2001:db8::30").packed, 443)
    running.engine.name_check.probing.recall([Found(place, Evidence.HEADER, NOW - 60)])
    return running


def example_status() -> dict[str, Any]:
    """What the daemon answers to `status` then, a second after its rules were read back."""
    running = example()
    seen = Refusal(
        scope=ScopeName.CONTAINERS,
        reason=Reason.NOT_PERMITTED,
        audited=False,
        source=ip_address("172.17.0.2"),
        source_port=40_412,
        destination=ip_address("203.0.113.77"),
        port=443,
        protocol="tcp",
        names=("quay.io",),
    )
    running.tell(RefusalsSeen((seen,)), NOW - 65)
    running.tell(RefusalsSeen((seen,)), NOW - 4)
    running.tell(RefusalsSeen((replace(seen, scope=ScopeName.HOST, uid=1000),)), NOW - 2)
    first, *_ = running.engine.numbering.entries
    counts = Counts(
        {
            "engines_refused": Count(12, 720),
            "revoked": Count(3, 180),
        },
        {first: Count(2_000_000, 3_210_000_000)},
        frozenset({"docker0"}),
        {first: Count(1234, 74_040)},
    )
    return {
        "version": "0.1.0",
        "pid": 4242,
        "policy": "/etc/ramfw/policy.toml",
        "uptime": 11_520.0,
        "lock": {"held": True, "problem": ""},
        "state": {"directory": "/var/lib/ramfw", "kept_ago": 60.0, "problem": ""},
        **report(running.engine, counts, Tally(answers=9, unasked=1), NOW + 1),
    }
