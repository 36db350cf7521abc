"""The daemon's own work: wiring, signals and the control socket, around a fake kernel.

Observers are short generators, and names are answered from a table: nothing leaves the process
but what goes over the control socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ramfw import daemon, policyfile, watches
from ramfw.control import RefusedError, request
from ramfw.core import engine, ledger, names
from ramfw.core.events import (
    Address,
    Answer,
    CgroupsChanged,
    Event,
    HeldAnswer,
    LinksChanged,
    OtherRulesChanged,
    Reason,
    Refusal,
    Resolved,
    ServerReply,
    TableRead,
)
from ramfw.core.marks import FIRST_ENTRY_ID
from ramfw.core.policy import ScopeName
from ramfw.core.questions import Tally
from ramfw.core.ruleset import ACCEPT, Chain, Ruleset
from ramfw.core.tablestate import TableState
from ramfw.core.transaction import AddGrant, DeleteGrant, DeleteTable, Transaction
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import KernelError, MissingError, ObserveError
from ramfw.observe import following
from ramfw.observe.cgroups import CgroupRoot
from ramfw.observe.dnswatch import A_READING
from ramfw.observe.refusals import Ask
from ramfw.program.ahead import Ahead
from ramfw.program.fake import FakeKernel
from ramfw.state import LastGood, State

HUB, GHCR = "hub.example", "ghcr.example"
SERVER = "192.0.2.53"
ANSWERS = {HUB: "192.0.2.10", GHCR: "192.0.2.11"}
PATIENCE = 10.0
ALIVE = b"WATCHDOG=1"


def policy_text(*hosts: str) -> str:
    entries = "".join(f'[[allow]]\nhost = "{host}"\n' for host in hosts)
    return f'version = 1\n{entries}[dns]\nservers = ["{SERVER}"]\n'


class FakeResolver:
    """Answers from the table, as the servers it was given."""

    def __init__(self, failures: dict[str, int]) -> None:
        self.servers: tuple[Address, ...] = ()
        self.failures = failures

    def set_servers(self, servers: tuple[Address, ...]) -> None:
        self.servers = servers

    async def resolve(self, name: str, early: Callable[[Resolved], None]) -> Resolved:
        del early
        server = str(self.servers[0])
        if self.failures.get(name, 0) > 0:
            self.failures[name] -= 1
            return Resolved(name, (), (ServerReply(server, "timeout"),))
        answer = Answer(ip_address(ANSWERS[name]), 300, server)
        return Resolved(name, (answer,), (ServerReply(server, "ok"),))


class Kernel(FakeKernel):
    """Fails to be read back as often as it is told, and tells of the table's end."""

    def __init__(self) -> None:
        super().__init__(time.monotonic)
        self.unreadable = 0
        self.on_delete: Callable[[], object] = int
        self.forgets = threading.Event()
        self.unforgetting: KernelError | None = None
        self.form = (WatchForm.NATIVE, "")
        self.free, self.busy = threading.Event(), threading.Event()
        self.free.set()

    def run(self, transaction: Transaction) -> None:
        self.busy.set()
        assert self.free.wait(PATIENCE)
        super().run(transaction)
        if transaction == (DeleteTable(),):
            self.on_delete()

    def forget_unheard(self) -> bool:
        self.forgets.set()
        if self.unforgetting is not None:
            raise self.unforgetting
        return super().forget_unheard()

    def watch_form(self) -> tuple[WatchForm, str]:
        return self.form

    def read(self, *, with_grants: bool, known: Ruleset | None = None) -> TableState | None:
        if self.unreadable > 0:
            self.unreadable -= 1
            raise KernelError(0, "nft list", "Interrupted system call")
        return super().read(with_grants=with_grants, known=known)


class Batches:
    """Puts grants into the kernel at once."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.is_open = True

    def grant(self, grants: list[AddGrant | DeleteGrant], then: Callable[[], None]) -> None:
        try:
            self.kernel.run(tuple(grants))
        finally:
            then()

    def close(self) -> None:
        self.is_open = False


class DnsWatch:
    """Holds the answers that a test puts there; readable while there are some."""

    def __init__(self, permits: Callable[[str], bool]) -> None:
        self.permits = permits
        self.tally = Tally()
        self.held: list[HeldAnswer] = []
        self.passed: list[HeldAnswer] = []
        self.tells_problem = ""
        self.released: asyncio.Queue[int] = asyncio.Queue()
        self.on_release: Callable[[], object] = int
        self._bell, self._button = socket.socketpair()
        self.sockets = (self._bell,)

    def hold(self, *answers: HeldAnswer) -> None:
        self.held += answers
        self._button.send(b".")

    def read(self, now: float, most: int) -> tuple[HeldAnswer, ...] | None:
        del now
        if not self.held:
            return None
        held, self.held = tuple(self.held[:most]), self.held[most:]
        if not self.held:
            self._bell.recv(1)
        return held

    def read_passed(self, now: float) -> tuple[HeldAnswer, ...]:
        del now
        passed, self.passed = tuple(self.passed), []
        return passed

    def release(self, handles: tuple[int, ...]) -> None:
        self.on_release()
        for handle in handles:
            self.released.put_nowait(handle)

    def close(self) -> None:
        self._bell.close()
        self._button.close()


class RefusalLog:
    """Shows the refusals that a test puts there."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.seen: list[Refusal] = []
        self.lost = 0
        self.socket, self._button = socket.socketpair()
        self.socket.setblocking(False)  # noqa: FBT003 - the socket's own form

    def show(self, *refusals: Refusal) -> None:
        self.seen += refusals
        self._button.send(b".")

    def read(self) -> tuple[Refusal, ...]:
        with contextlib.suppress(BlockingIOError):
            self.socket.recv(1)
        seen, self.seen = tuple(self.seen), []
        return seen

    def close(self) -> None:
        self.socket.close()
        self._button.close()


@dataclass
class Machine:
    """What the daemon runs on."""

    directory: Path
    state: State | None = None
    kernel: Kernel = field(default_factory=Kernel)
    watches: list[DnsWatch] = field(default_factory=list)
    watch_refusal: ObserveError | None = None
    refusal_logs: list[RefusalLog] = field(default_factory=list)
    log_refusal: ObserveError | None = None
    signs_of_life: asyncio.Queue[float] = field(default_factory=asyncio.Queue)
    links: asyncio.Queue[Event | Exception] = field(default_factory=asyncio.Queue)
    resolver_failures: dict[str, int] = field(default_factory=dict)
    watched: list[str] = field(default_factory=list)
    service_manager: socket.socket = field(
        default_factory=lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    )

    def __post_init__(self) -> None:
        self.batches = Batches(self.kernel)

    def open_dns_watch(self, form: WatchForm, permits: Callable[[str], bool]) -> DnsWatch:
        assert form in {self.kernel.form[0], WatchForm.COPY}
        if self.watch_refusal:
            raise self.watch_refusal
        self.watches.append(DnsWatch(permits))
        return self.watches[-1]

    def open_refusal_log(self, ask: Ask) -> RefusalLog:
        if self.log_refusal:
            raise self.log_refusal
        self.refusal_logs.append(RefusalLog(ask))
        return self.refusal_logs[-1]

    @property
    def policy(self) -> Path:
        return self.directory / "policy.toml"

    @property
    def control(self) -> Path:
        return self.directory / "control.sock"

    def write(self, *hosts: str) -> None:
        self.policy.write_text(policy_text(*hosts))

    async def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        return await asyncio.to_thread(request, self.control, command, arguments)

    async def heard(self) -> str:
        """The next thing that the service manager was told, signs of life apart."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while (told := await loop.sock_recv(self.service_manager, 100)) == ALIVE:
                pass
        return told.decode()

    def nothing_more_was_heard(self) -> bool:
        try:
            while self.service_manager.recv(100) == ALIVE:
                pass
        except BlockingIOError:
            return True
        return False

    async def changes(self, patterns: tuple[str, ...]) -> AsyncIterator[Event]:
        """The links, as they are put there; an exception is raised."""
        self.watched.append(f"follows {', '.join(patterns)}")
        yield LinksChanged(frozenset({"docker0"}), frozenset(), frozenset())
        try:
            while True:
                event = await self.links.get()
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.watched.append("ends")

    def open_addresses(self) -> set[str]:
        grants = self.kernel.grants() if self.kernel.read(with_grants=False) else {}
        return {str(key.network.network_address) for key in grants if key.port == 443}


def no_openings(_: object) -> None:
    raise ObserveError("first bytes of connections: there is no kernel here")


async def cgroups() -> AsyncIterator[CgroupsChanged]:
    yield CgroupsChanged(frozenset())


class Watching:
    """An observer of which only `changes` counts."""

    def __init__(self, changes: Callable[[], AsyncIterator[Event]]) -> None:
        self.changes = changes


@contextmanager
def _machine(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(directory)
    machine.write(HUB)
    monkeypatch.setattr(daemon, "Batches", lambda: machine.batches)
    monkeypatch.setattr(watches, "DnsWatch", machine.open_dns_watch)
    monkeypatch.setattr(watches, "RefusalLog", machine.open_refusal_log)
    monkeypatch.setattr(watches, "OpeningsWatch", no_openings)
    monkeypatch.setattr(daemon, "Resolver", lambda: FakeResolver(machine.resolver_failures))
    monkeypatch.setattr(following, "LinkWatch", lambda p: Watching(partial(machine.changes, p)))
    monkeypatch.setattr(following, "CgroupWatch", lambda *_: Watching(cgroups))
    monkeypatch.setattr(following, "find_v2_root", lambda _: CgroupRoot(directory))
    monkeypatch.setattr(daemon, "held_ids", lambda _: frozenset())
    address = str(directory / "notify")
    with machine.service_manager as manager:
        manager.bind(address)
        manager.setblocking(False)  # noqa: FBT003 - the socket's own form
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield machine


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    with _machine(tmp_path, monkeypatch) as made:
        yield made


def started(machine: Machine) -> asyncio.Task[None]:
    policy, _ = policyfile.read(machine.policy)
    loop = asyncio.get_running_loop()
    return loop.create_task(made(machine).run(policy))


def made(machine: Machine) -> daemon.Daemon:
    def show_life() -> None:
        machine.signs_of_life.put_nowait(time.monotonic())

    ahead = Ahead(lambda: machine.kernel)
    return daemon.Daemon(machine.policy, machine.control, show_life, ahead, machine.state)


@asynccontextmanager
async def running(machine: Machine) -> AsyncIterator[asyncio.Task[None]]:
    """The daemon, ready; it is ended by SIGTERM, if the test has not ended it."""
    task = started(machine)
    assert await machine.heard() == "READY=1"
    try:
        yield task
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait([task], timeout=PATIENCE)
        assert task.done()


async def settled(machine: Machine) -> dict[str, Any]:
    status = await machine.ask("wait", seconds=PATIENCE)
    assert status["settled"]
    return status


async def test_it_says_that_it_is_ready_when_the_rules_are_in_force_and_not_before(
    machine: Machine,
) -> None:
    machine.kernel.failures.append(KernelError(12, "nft transaction"))
    async with running(machine) as task:
        assert len(machine.kernel.committed) >= 1
        assert machine.kernel.failures == []
        status = await settled(machine)
    await task
    assert (status["in_force"], status["pid"]) == (True, os.getpid())
    assert status["policy"] == str(machine.policy)
    assert [entry["label"] for entry in status["entries"]] == [HUB]
    assert status["dns"]["servers"] == [SERVER]
    assert machine.open_addresses() == {ANSWERS[HUB]}, "SIGTERM leaves the rules"
    assert not machine.control.exists()
    assert machine.nothing_more_was_heard()


async def test_a_reload_puts_the_new_policy_in_force(machine: Machine) -> None:
    async with running(machine):
        await settled(machine)
        machine.write(GHCR)
        assert await machine.ask("reload") == {"in_force": True, "warnings": []}
        assert machine.open_addresses() == {ANSWERS[GHCR]}, "it is done when it is answered"
        status = await settled(machine)
        assert [entry["label"] for entry in status["entries"]] == [GHCR]
    assert machine.nothing_more_was_heard()


class SlowState(State):
    def keep(self, last_good: LastGood) -> None:
        time.sleep(1.5)  # longer than anything else here takes
        super().keep(last_good)


async def test_what_is_in_force_is_kept_before_a_reload_is_answered_and_before_the_end(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is turned off then begins with it, and not with what was in force before."""
    monkeypatch.setattr(daemon, "KEEP_PATIENCE", PATIENCE)
    (tmp_path / "state").mkdir()
    state = machine.state = SlowState(tmp_path / "state")
    async with running(machine):
        await settled(machine)
        machine.write(GHCR)
        assert (await machine.ask("reload"))["in_force"]
        assert state.last_policy() == policy_text(GHCR)

        machine.write(HUB)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(
            machine, lambda status: status["in_force"] and status["entries"][0]["label"] == HUB
        )
    assert state.last_policy() == policy_text(HUB)


async def test_a_reload_is_answered_when_it_is_done_and_others_meanwhile(machine: Machine) -> None:
    async with running(machine):
        await settled(machine)
        machine.write(GHCR)
        machine.kernel.free.clear()
        machine.kernel.busy.clear()
        reload = asyncio.get_running_loop().create_task(machine.ask("reload"))
        assert await asyncio.to_thread(machine.kernel.busy.wait, PATIENCE)
        told = await machine.ask("explain", query=GHCR)
        assert not reload.done()
        assert "not in force" in " ".join(told["notes"])
        machine.kernel.free.set()
        assert (await reload)["in_force"]


async def test_a_bad_policy_changes_nothing_and_status_shows_it_until_it_is_mended(
    machine: Machine,
) -> None:
    async with running(machine):
        await settled(machine)
        before = machine.kernel.read(with_grants=False)
        machine.policy.write_text('version = 1\n[[allow]]\nhots = "ghcr.example"\n')
        with pytest.raises(RefusedError) as refused:
            await machine.ask("reload")
        assert [problem["line"] for problem in refused.value.problems] == [2, 3]
        status = await settled(machine)
        assert "allow[0].hots" in status["policy_problems"][1]
        assert status["in_force"]
        assert machine.kernel.read(with_grants=False) == before
        assert machine.open_addresses() == {ANSWERS[HUB]}
        machine.write(HUB)
        await machine.ask("reload")
        assert (await settled(machine))["policy_problems"] == []


async def test_a_policy_for_which_too_few_ids_are_free_is_told_and_the_one_before_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(machine):
        await settled(machine)
        monkeypatch.setattr(daemon, "held_ids", lambda _: frozenset(range(FIRST_ENTRY_ID, 1 << 16)))
        machine.write(HUB, GHCR)
        with pytest.raises(RefusedError) as refused:
            await machine.ask("reload")
        assert "0 ids are free" in refused.value.problems[0]["message"]
        assert machine.open_addresses() == {ANSWERS[HUB]}
        monkeypatch.setattr(daemon, "held_ids", lambda _: frozenset())
        await machine.ask("reload")
        assert machine.open_addresses() == {ANSWERS[HUB], ANSWERS[GHCR]}


async def test_between_many_transactions_others_have_their_turn(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100,000 addresses take 25 transactions, on a busy machine longer than the watchdog waits."""
    monkeypatch.setattr(ledger, "MOST_GRANTS_A_TRANSACTION", 1)
    signs: list[int] = []
    grant = machine.batches.grant

    def noted(grants: list[AddGrant | DeleteGrant], then: Callable[[], None]) -> None:
        signs.append(machine.signs_of_life.qsize())
        grant(grants, then)

    monkeypatch.setattr(machine.batches, "grant", noted)
    async with running(machine):
        await settled(machine)
        text = machine.policy.read_text()
        addresses = "".join(f'[[allow]]\naddress = "198.51.100.{n}"\n' for n in range(20))
        machine.policy.write_text(text + addresses)
        signs.clear()
        await machine.ask("reload")
        await settled(machine)
        assert len(machine.open_addresses()) == 21
    assert len(signs) >= 10
    assert all(before < after for before, after in pairwise(signs[1:]))


async def test_observers_begin_anew_only_where_a_policy_asks_for_other_things(
    machine: Machine,
) -> None:
    scope = '[scopes.containers]\ninterfaces = ["docker0"]\n'
    machine.policy.write_text(policy_text(HUB) + scope)
    async with running(machine):
        await machine.ask("reload")
        assert machine.watched == ["follows docker0"]
        machine.policy.write_text(machine.policy.read_text().replace("docker0", "cni0"))
        await machine.ask("reload")
        await settled(machine)
        assert sorted(machine.watched) == ["ends", "follows cni0", "follows docker0"]


async def test_a_name_that_failed_is_asked_again_when_its_time_has_come(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "FIRST_RETRY", 0.01)
    machine.resolver_failures[HUB] = 3
    async with running(machine):
        await until(machine, lambda status: bool(status["entries"][0]["hosts"][0]["addresses"]))
    assert machine.open_addresses() == {ANSWERS[HUB]}


async def test_a_hangup_reloads_and_a_bad_policy_does_not_end_the_daemon(machine: Machine) -> None:
    async with running(machine) as task:
        await settled(machine)
        machine.write(HUB, GHCR)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(machine, lambda status: len(status["entries"]) == 2)
        machine.policy.write_text("")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(machine, lambda status: bool(status["policy_problems"]))
        assert not task.done()


async def until(machine: Machine, seen: Callable[[dict[str, Any]], bool]) -> None:
    """Ask for the status until it is as wanted."""
    async with asyncio.timeout(PATIENCE):
        while not seen(await machine.ask("wait", seconds=PATIENCE)):
            pass


async def test_unload_removes_the_table_and_ends_the_daemon(machine: Machine) -> None:
    async with running(machine) as task:
        await settled(machine)
        assert await machine.ask("unload") == {"unloaded": True}
        async with asyncio.timeout(PATIENCE):
            await task
    assert machine.kernel.read(with_grants=False) is None
    assert machine.kernel.committed[-1] == (DeleteTable(),)


async def test_what_happens_during_an_unload_does_not_bring_the_table_back(
    machine: Machine,
) -> None:
    loop = asyncio.get_running_loop()
    policy, _ = policyfile.read(machine.policy)
    unloaded = made(machine)

    async def hear_that_it_is_gone() -> None:
        handled = loop.create_future()
        unloaded._onlookers.append(handled)
        unloaded._events.put_nowait(TableRead(None))
        await handled

    machine.kernel.on_delete = lambda: asyncio.run_coroutine_threadsafe(
        hear_that_it_is_gone(), loop
    ).result(PATIENCE)
    task = loop.create_task(unloaded.run(policy))
    assert await machine.heard() == "READY=1"
    await settled(machine)
    await machine.ask("unload")
    async with asyncio.timeout(PATIENCE):
        await task
    unloaded._ahead.thread.shutdown(wait=True)
    assert unloaded._engine.believed.ruleset is None, "it was heard of"
    assert machine.kernel.read(with_grants=False) is None


async def test_an_unload_that_the_kernel_refuses_leaves_all_as_it_was(machine: Machine) -> None:
    async with running(machine) as task:
        await settled(machine)
        machine.kernel.failures.append(KernelError(1, "nft transaction"))
        with pytest.raises(RefusedError, match="Operation not permitted"):
            await machine.ask("unload")
        machine.write(GHCR)
        await machine.ask("reload")
        await settled(machine)
        assert machine.open_addresses() == {ANSWERS[GHCR]}, "it goes on with its work"
        assert not task.done()


async def test_a_table_that_cannot_be_read_back_is_not_called_in_force(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(machine):
        await settled(machine)
        later: list[float] = []

        async def sleep(seconds: float) -> None:
            later.append(seconds)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        machine.kernel.unreadable = 2
        machine.write(GHCR)
        await machine.ask("reload")
        status = await settled(machine)
        assert status["in_force"]
        assert machine.kernel.unreadable == 0
        assert [round(seconds) for seconds in later if seconds > 0] == [1, 1], "a second apart"


async def test_what_somebody_changed_is_put_right_when_it_is_seen(machine: Machine) -> None:
    async with running(machine):
        await settled(machine)

        def accept_all(chains: dict[str, Chain]) -> None:
            chains["refusal"] = Chain("refusal", ((ACCEPT,),))

        machine.kernel.tamper(accept_all)
        machine.write(HUB, GHCR)
        await machine.ask("reload")
        status = await settled(machine)
        assert status["kernel"]["mismatches"] == 1
        state = machine.kernel.read(with_grants=False)
        assert state is not None
        assert Chain("refusal", ((ACCEPT,),)) not in state.ruleset.chains


async def test_when_others_have_changed_their_rules_connections_are_turned_again(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    async def rules_of_others_change() -> None:
        machine.kernel.forgets.clear()
        machine.links.put_nowait(OtherRulesChanged())
        assert await asyncio.to_thread(machine.kernel.forgets.wait, PATIENCE)
        # Answered by the same thread, so after it.
        assert (await machine.ask("status"))["in_force"]

    caplog.set_level(logging.INFO)
    async with running(machine):
        await settled(machine)
        machine.kernel.unheard = True
        await rules_of_others_change()
        assert not machine.kernel.unheard
        assert "refused connections are turned again" in caplog.text
        machine.kernel.unforgetting = KernelError(0, "nft transaction", "no")
        await rules_of_others_change()
        assert "not turned again yet: nft transaction: no" in caplog.text


async def test_an_observer_that_fails_ends_the_daemon_and_leaves_the_rules(
    machine: Machine,
) -> None:
    async with running(machine) as task:
        await settled(machine)
        machine.links.put_nowait(ObserveError("the netlink socket is gone"))
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([task])
        with pytest.raises(ObserveError, match="the netlink socket is gone"):
            await task
    assert machine.open_addresses() == {ANSWERS[HUB]}
    assert not machine.control.exists()


async def test_a_daemon_that_starts_again_writes_no_rule_anew(machine: Machine) -> None:
    async with running(machine):
        await settled(machine)
    committed = len(machine.kernel.committed)
    async with running(machine):
        await settled(machine)
    written = {type(op).__name__ for t in machine.kernel.committed[committed:] for op in t}
    assert written <= {"AddGrant", "DeleteGrant"}


def require_names(machine: Machine) -> None:
    machine.policy.write_text(policy_text(HUB) + "[names]\nrequired = true\n")


async def test_where_names_are_required_and_cannot_be_read_it_does_not_start(
    machine: Machine,
) -> None:
    require_names(machine)
    with pytest.raises(
        MissingError, match=r"\[names\] required: .*there is no kernel here.*doctor"
    ):
        await started(machine)
    assert machine.kernel.committed == []


async def test_a_policy_that_requires_names_is_not_taken_where_they_cannot_be_read(
    machine: Machine,
) -> None:
    async with running(machine):
        await settled(machine)
        require_names(machine)
        with pytest.raises(RefusedError, match=r"names\.required: .*there is no kernel here"):
            await machine.ask("reload")
        status = await settled(machine)
        assert any("names.required" in problem for problem in status["policy_problems"])
        assert machine.open_addresses() == {ANSWERS[HUB]}


async def test_a_kernel_that_cannot_be_read_at_the_start_is_an_error_and_nothing_is_written(
    machine: Machine,
) -> None:
    machine.kernel.unreadable = 1
    with pytest.raises(KernelError):
        await started(machine)
    assert machine.kernel.committed == []


async def test_it_explains_from_what_it_knows(machine: Machine) -> None:
    async with running(machine):
        await settled(machine)
        told = await machine.ask("explain", query=ANSWERS[HUB])
        assert (told["permitted"], told["daemon_running"]) == (True, True)


async def test_without_a_cgroup_hierarchy_it_runs_and_says_so(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "find_v2_root", lambda _: None)
    async with running(machine):
        status = await settled(machine)
    assert "no cgroup v2 hierarchy is mounted" in {p["what"] for p in status["problems"]}


async def test_marks_that_cannot_be_read_are_a_warning(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unreadable(_: int) -> frozenset[int]:
        raise ObserveError("cannot read the conntrack table")

    monkeypatch.setattr(daemon, "held_ids", unreadable)
    monkeypatch.setattr(daemon.log, "propagate", True)
    async with running(machine):
        assert (await settled(machine))["in_force"]
    assert "cannot read the conntrack table" in caplog.text


# -- the DNS watch -----------------------------------------------------------------------------

LEARNED = "192.0.2.77"
WILD = '[[allow]]\nhost = "*.wild.example"\n'


def held(handle: int, name: str = "a.wild.example") -> HeldAnswer:
    return HeldAnswer(handle, name, (ip_address(LEARNED).packed,), 300, SERVER)


def permit_wildcard(machine: Machine) -> None:
    machine.policy.write_text(policy_text(HUB) + WILD)


async def released(watch: DnsWatch) -> int:
    """The next answer that is let go."""
    async with asyncio.timeout(PATIENCE):
        return await watch.released.get()


async def test_a_held_answer_is_let_go_when_its_address_is_open(machine: Machine) -> None:
    permit_wildcard(machine)
    async with running(machine):
        await settled(machine)
        (watch,) = machine.watches
        assert (watch.permits("a.wild.example"), watch.permits("wild.example")) == (True, False)
        seen: list[set[str]] = []
        watch.on_release = lambda: seen.append(machine.open_addresses())
        watch.hold(held(5))
        assert await released(watch) == 5
        assert seen == [{ANSWERS[HUB], LEARNED}]
        assert (await settled(machine))["watch"]["form"] == "native"
    assert [listener.fileno() for listener in watch.sockets] == [-1]
    assert not machine.batches.is_open


@pytest.mark.parametrize(
    ("moment", "together"), [(PATIENCE, [1, 1, 1, 1, A_READING]), (-PATIENCE, [1] * 9)]
)
async def test_answers_go_alone_until_they_keep_coming_and_then_all_that_wait_together(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, moment: float, together: list[int]
) -> None:
    """Nine answers wait; whether they came at once is told by the time between two readings."""
    monkeypatch.setattr(daemon, "A_MOMENT", moment)
    permit_wildcard(machine)
    async with running(machine):
        await settled(machine)
        (watch,) = machine.watches
        readings: list[int] = []
        read = watch.read

        def noted(now: float, most: int) -> tuple[HeldAnswer, ...] | None:
            readings.append(most)
            return read(now, most)

        watch.read = noted  # type: ignore[method-assign]
        watch.hold(*(held(handle) for handle in range(1, 10)))
        assert sorted([await released(watch) for _ in range(9)]) == list(range(1, 10))
        assert readings == together


async def test_where_this_nft_cannot_compare_names_all_answers_are_held(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine.kernel, "compares_names", lambda: False)
    async with running(machine):
        watch = (await settled(machine))["watch"]
        assert (watch["held"], watch["held_because"]) == ("all", "this nft cannot compare names")
        state = machine.kernel.read(with_grants=False)
        assert state is not None
        assert "held_names" not in {named.name for named in state.ruleset.sets}


async def test_an_answer_that_was_not_held_but_is_permitted_by_now_opens_with_the_next_beat(
    machine: Machine,
) -> None:
    permit_wildcard(machine)
    async with running(machine):
        assert (await settled(machine))["watch"]["held"] == "permitted"
        (watch,) = machine.watches
        watch.passed = [held(0)]
        async with asyncio.timeout(PATIENCE):
            while LEARNED not in machine.open_addresses():
                await machine.signs_of_life.get()
        assert watch.released.empty(), "nothing waited"


async def test_reading_that_fails_in_a_way_nobody_foresaw_ends_the_daemon_and_its_rules_stay(
    machine: Machine,
) -> None:
    """What its queue holds is dropped when its socket closes: it must not wait for ever."""
    permit_wildcard(machine)
    async with running(machine) as task:
        await settled(machine)
        (watch,) = machine.watches

        def read(*_: object) -> None:
            raise IndexError("what nobody foresaw")

        watch.read = read  # type: ignore[method-assign,assignment]
        watch.hold(held(5))
        with pytest.raises(ExceptionGroup) as failed:
            async with asyncio.timeout(PATIENCE):
                await task
        assert failed.group_contains(IndexError, match="what nobody foresaw")
    assert machine.open_addresses() == {ANSWERS[HUB]}
    assert not machine.batches.is_open


async def test_a_batch_that_the_kernel_refuses_lets_the_answer_go_and_is_mended(
    machine: Machine,
) -> None:
    permit_wildcard(machine)
    async with running(machine):
        await settled(machine)
        (watch,) = machine.watches
        machine.kernel.failures.append(KernelError(12, "grants"))
        watch.hold(held(5))
        assert await released(watch) == 5
        status = await settled(machine)
        assert (status["kernel"]["rejections"], status["in_force"]) == (1, True)
        assert LEARNED in machine.open_addresses()


async def test_an_answer_during_a_slow_change_waits_a_moment_and_then_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LONGEST_HOLD", 0.1)
    permit_wildcard(machine)
    async with running(machine):
        await settled(machine)
        (watch,) = machine.watches
        machine.kernel.busy.clear()
        machine.kernel.free.clear()
        machine.links.put_nowait(
            LinksChanged(frozenset({"docker0"}), frozenset({"br-lan"}), frozenset())
        )
        assert await asyncio.to_thread(machine.kernel.busy.wait, PATIENCE)
        watch.hold(held(5))
        assert await released(watch) == 5
        machine.kernel.free.set()
        await settled(machine)
        assert LEARNED in machine.open_addresses()


async def test_a_kernel_that_cannot_show_answers_is_not_listened_to(machine: Machine) -> None:
    machine.kernel.form = (WatchForm.NONE, "the kernel has neither NFQUEUE nor NFLOG")
    async with running(machine):
        status = await settled(machine)
    assert machine.watches == []
    assert status["watch"]["form"] == "none"
    assert machine.kernel.form[1] in {p["what"] for p in status["problems"]}


async def test_where_another_program_listens_it_runs_all_the_same_and_says_so(
    machine: Machine,
) -> None:
    machine.watch_refusal = ObserveError("DNS answers cannot be watched: another program listens")
    async with running(machine):
        status = await settled(machine)
    assert status["watch"]["form"] == "none"
    assert "another program listens" in status["watch"]["problem"]
    assert machine.open_addresses() == {ANSWERS[HUB]}


async def test_it_shows_life_while_its_loop_goes_round(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "BEAT", 0.01)
    async with running(machine), asyncio.timeout(PATIENCE):
        for _ in range(3):
            await machine.signs_of_life.get()


# -- refusals ----------------------------------------------------------------------------------


def refusal(uid: int | None, address: str = "203.0.113.20") -> Refusal:
    return Refusal(
        scope=ScopeName.HOST,
        reason=Reason.NOT_PERMITTED,
        audited=False,
        source=ip_address("192.0.2.2"),
        source_port=40_000,
        destination=ip_address(address),
        port=443,
        protocol="tcp",
        uid=uid,
        names=("ghcr.io",),
    )


async def test_refusals_are_logged_and_told_to_those_who_may_know(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(machine):
        logging.getLogger("ramfw").propagate = True
        (shown,) = machine.refusal_logs
        shown.show(refusal(os.getuid()), refusal(os.getuid()), refusal(4711, "203.0.113.21"))
        told = await machine.ask("log")
        status = await machine.ask("status")
        newer = await machine.ask("log", after=2)
    mine = [r for r in told["refusals"] if r["uid"] == os.getuid()]
    assert [(r["address"], r["count"], r["names"]) for r in mine] == [
        ("203.0.113.20", 2, ["ghcr.io"])
    ]
    is_root = os.getuid() == 0
    assert len(told["refusals"]) == len(status["refusals"]) == (2 if is_root else 1)
    assert len(newer["refusals"]) == (1 if is_root else 0)
    lines = [r for r in caplog.records if r.message.startswith("refused: host")]
    assert [dict(r.__dict__["fields"])["RAMFW_ADDRESS"] for r in lines] == [
        "203.0.113.20",
        "203.0.113.21",
    ]


async def test_whether_a_name_was_refused_just_now_takes_in_what_is_not_read_yet(
    machine: Machine,
) -> None:
    async with running(machine):
        (shown,) = machine.refusal_logs
        assert await machine.ask("refused", name="ghcr.io") == {"refused": False}
        shown.show(refusal(4711))
        assert await machine.ask("refused", name="ghcr.io") == {"refused": True}
        assert await machine.ask("refused", name="quay.io") == {"refused": False}
        assert await machine.ask("refused") == {"refused": False}


async def test_without_a_log_of_refusals_it_runs_all_the_same_and_says_so(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.log_refusal = ObserveError("refusals cannot be logged: another program listens")
    logging.getLogger("ramfw").propagate = True
    async with running(machine):
        assert (await machine.ask("log"))["refusals"] == []
    assert "another program listens" in caplog.text
