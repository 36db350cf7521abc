"""Drives an engine against the fake kernel, with a clock that a test moves.

Reads as a story: `driver.start(policy)`, `driver.answers("ghcr.io", "192.0.2.1")`,
`driver.sleep(30)`, and then what the kernel holds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_network

from ramfw.core.commands import Command, Note, Program, ReadTable, Release, Resolve, Watch
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
    Rejected,
    Resolved,
    ServerReply,
    ServersChanged,
    TableRead,
    Tick,
    WatchChanged,
)
from ramfw.core.name_check import NameCheck
from ramfw.core.policy import Policy, ScopeName
from ramfw.core.transaction import GrantKey
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import KernelError
from ramfw.program.fake import FakeKernel
from ramfw.wire import first_bytes

SERVER = "192.0.2.53"


class Driver:
    """One machine's life."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.kernel = FakeKernel(lambda: self.now)
        self.engine = Engine(lambda: 0.5, NameCheck(first_bytes.read, first_bytes.ended))
        self.asked: list[str] = []
        self.notes: list[str] = []
        self.released: list[int] = []
        self.on_release: Callable[[int], object] = int
        """Called with each handle, at the moment of its release."""
        self._later: list[ReadTable] = []
        self._handle = 0

    # -- what happens --------------------------------------------------------------------------

    def start(self, policy: Policy, held: Iterable[int] = ()) -> None:
        """What the daemon does first, in its order."""
        self.tell(TableRead(self.kernel.read(with_grants=True)))
        self.tell(PolicyLoaded(policy, frozenset(held)))
        self.tell(LinksChanged(frozenset({"docker0"}), frozenset(), frozenset()))
        self.tell(CgroupsChanged(frozenset()))
        self.tell(WatchChanged(WatchForm.COPY))
        self.tell(ServersChanged((ip_address(SERVER),)))

    def restart(self, policy: Policy, held: Iterable[int] = ()) -> None:
        """The daemon was killed; another one begins with the kernel as it is."""
        self.engine = Engine(lambda: 0.5, NameCheck(first_bytes.read, first_bytes.ended))
        self.asked.clear()
        self._later.clear()
        self.start(policy, held)

    def reload(self, policy: Policy, held: Iterable[int] = ()) -> None:
        self.tell(PolicyLoaded(policy, frozenset(held)))

    def answers(self, name: str, *addresses: str, ttl: int = 300) -> None:
        """The trusted server gives these addresses; with none, it fails."""
        found = tuple(Answer(ip_address(a), ttl, SERVER) for a in addresses)
        outcome = "ok" if addresses else "servfail"
        self.tell(Resolved(name, found, (ServerReply(SERVER, outcome),)))

    def hold(
        self, name: str, *addresses: str, ttl: int = 300, server: str = SERVER, handle: int = 0
    ) -> int:
        """Somebody's answer waits in the kernel; its handle."""
        self._handle = handle or self._handle + 1
        found = tuple(ip_address(a).packed for a in addresses)
        self.tell(AnswersHeld((HeldAnswer(self._handle, name, found, ttl, server),)))
        return self._handle

    def cgroups(self, *found: tuple[str, int], scope: ScopeName = ScopeName.ENGINES) -> None:
        """These cgroups exist now, by path and inode."""
        self.tell(CgroupsChanged(frozenset((Cgroup(path, scope), inode) for path, inode in found)))

    def sleep(self, seconds: float) -> None:
        """Let time pass; each deadline gets its tick, at its time."""
        end = self.now + seconds
        while (deadline := self._next()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            due = [read for read in self._later if read.not_before <= self.now]
            self._later = [read for read in self._later if read.not_before > self.now]
            for read in due:
                self._carry_out(deque([read]))
            self.tell(Tick())
        self.now = end

    def _next(self) -> float | None:
        times = [read.not_before for read in self._later]
        if (deadline := self.engine.deadline()) is not None:
            times.append(deadline)
        return min(times, default=None)

    # -- how it is done ------------------------------------------------------------------------

    def tell(self, event: Event, *, more: bool = False) -> None:
        self._carry_out(deque(self.engine.handle(event, self.now, more=more)))

    def _carry_out(self, commands: deque[Command]) -> None:  # noqa: C901 - a case each
        while commands:
            command = commands.popleft()
            match command:
                case Program(transaction, releases):
                    try:
                        self.kernel.run(transaction)
                    except KernelError as error:
                        event: Event = Rejected(str(error))
                    else:
                        event = Committed()
                    self._release(releases)
                    commands.extend(self.engine.handle(event, self.now))
                case ReadTable(with_grants, not_before):
                    if not_before > self.now:
                        self._later.append(command)
                        continue
                    read = TableRead(self.kernel.read(with_grants=with_grants))
                    commands.extend(self.engine.handle(read, self.now))
                case Resolve(name):
                    self.asked.append(name)
                case Release(handles):
                    self._release(handles)
                case Note(_, message):
                    self.notes.append(message)
                case Watch():
                    pass

    def _release(self, handles: tuple[int, ...]) -> None:
        for handle in handles:
            self.on_release(handle)
        self.released += handles

    # -- what is seen --------------------------------------------------------------------------

    def open(self, address: str, port: int = 443, protocol: str = "tcp") -> int | None:
        """The id of the entry that the kernel permits this as, in the map for all scopes."""
        network = ip_network(address)
        key = GrantKey.of(f"permitted{network.version}", network, protocol, port)
        held = self.kernel.grants().get(key)
        return held.entry_id if held and held.entry_id in self.live() else None

    def remaining(self, address: str, port: int = 443) -> float:
        """Seconds that the kernel still permits this."""
        network = ip_network(address)
        key = GrantKey.of(f"permitted{network.version}", network, "tcp", port)
        return self.kernel.grants()[key].remaining

    def live(self) -> set[int]:
        """The ids whose flows pass."""
        state = self.kernel.read(with_grants=False)
        assert state is not None
        live = next(named for named in state.ruleset.sets if named.name == "live")
        return {element for element in live.elements or () if isinstance(element, int)}

    def in_set(self, name: str) -> set[object]:
        """The elements of a set."""
        state = self.kernel.read(with_grants=False)
        assert state is not None
        return set(next(s.elements or () for s in state.ruleset.sets if s.name == name))
