"""The running program: tasks and queues are made here and nowhere else.

Events come in by one queue and are handled one after the other; what the engine asks for becomes
a task, and its completion an event again. A task that fails in a way nobody foresaw ends the
daemon: its rules stay in the kernel, and the service manager starts it anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import random
import signal
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from ramfw import policyfile
from ramfw.alive import Alive
from ramfw.auditor import audit
from ramfw.control_server import Arguments, ControlServer
from ramfw.core.commands import (
    Command,
    Decide,
    Note,
    Program,
    ReadTable,
    Release,
    Resolve,
    TellAgain,
    Watch,
)
from ramfw.core.engine import CANARY_SILENCE, Engine
from ramfw.core.events import (
    AnswersHeld,
    CanaryReported,
    Committed,
    Event,
    NoCgroupMatch,
    PolicyLoaded,
    PolicyRefused,
    RefusalsSeen,
    Rejected,
    ServersChanged,
    TableRead,
    Tick,
    TurningChanged,
    WatchChanged,
)
from ramfw.core.marks import PASSED, MarkLayout
from ramfw.core.name_check import NameCheck
from ramfw.core.names_report import Beside
from ramfw.core.policy import Policy
from ramfw.core.probe import Place, Probe, Recalled
from ramfw.core.tablestate import Count
from ramfw.core.transaction import DeleteTable
from ramfw.errors import KernelError, ObserveError, PolicyError, Problem, RamfwError
from ramfw.inquiries import Inquiries
from ramfw.keeper import FoundKeeper, Keeper
from ramfw.lease_keeper import LeaseKeeper
from ramfw.notify import keep, kept, notify
from ramfw.observe.cgroups import nft_prefix
from ramfw.observe.conntrack import held_ids
from ramfw.observe.dnswatch import A_READING
from ramfw.observe.following import follow
from ramfw.observe.resolver import Resolver
from ramfw.prober import PROBER_SOCKET
from ramfw.prober.asking import ask
from ramfw.program.ahead import Ahead
from ramfw.program.batches import Batches, only_grants
from ramfw.program.lock import NETLINK_NETFILTER
from ramfw.program.teller import Teller
from ramfw.state import State
from ramfw.watchdog import BEAT
from ramfw.watches import Watches
from ramfw.wire import first_bytes

log = logging.getLogger("ramfw")

LOG_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "err": logging.ERROR}
LOCK = "lock"
"""The name under which the service manager keeps the socket that owns the table."""
MOST_TOGETHER = 64
"""Events in a row that one transaction may wait for."""
ALLOCATIONS_A_COLLECTION = 10_000
A_MOMENT = 20e-6
"""Seconds between two readings of answers, below which the second answer waited already."""
A_CROWD = 4
MOST_RESOLVED_AT_ONCE = 64
"""Names. A policy may have 10,000, and a question under way takes some 10 KiB."""
LONGEST_WAIT = 120.0
"""Seconds that a client may ask to wait for the daemon to settle."""
KEEP_PATIENCE = 3.0
"""Seconds that a reload, and the end, wait for a slow disk."""
RELOAD_PATIENCE = 8.0
"""Seconds after which `reload` answers though names are still being asked for."""


class Daemon:
    """One engine, one kernel table, one control socket."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that it is wired to
        self,
        policy_path: Path,
        control_path: Path,
        show_life: Callable[[], None],
        ahead: Ahead,
        state: State | None = None,
        prober: Path = PROBER_SOCKET,
    ) -> None:
        """Raises MissingError where libnftables is not there.

        `show_life` is called once a second while the daemon's loop goes round.
        """
        self._beat = show_life
        self._policy_path = policy_path
        self._control_path = control_path
        self._engine = Engine(
            random.random, NameCheck(first_bytes.Reader().read, first_bytes.ended)
        )
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._to_resolve: deque[str] = deque()
        self._resolving = 0
        self._resolver = Resolver()
        self._watched: Watch | None = None
        self._watchers: list[asyncio.Task[None]] = []
        self._onlookers: list[asyncio.Future[None]] = []
        self._tasks: asyncio.TaskGroup
        self._running: set[asyncio.Task[None]] = set()
        self._armed: float | None = None
        self._was_ready = False
        self._unloading = False
        self._unforeseen: Exception | None = None
        self._ahead = ahead
        self._kernel = ahead.kernel()
        self._lock_problem = ahead.thread.submit(self._lock_table).result()
        owner = self._kernel.shared_socket()
        self._batches = Batches(owner) if owner else Batches()
        self._watches = Watches()
        self._crowd = 0
        """Readings of the DNS watch that followed each other at once."""
        self._free_at = 0.0
        self._teller = Teller()
        self._alive = Alive(control_path.with_name(f"{control_path.name}.alive"))
        self._keeper = Keeper(state, nft_prefix())
        self._found = FoundKeeper(state)
        self._learned = LeaseKeeper(control_path.with_name(f"{control_path.name}.leases"))
        self._keeping: set[asyncio.Task[None]] = set()
        self._prober = prober
        self._inquiries = Inquiries(
            engine=self._engine,
            watches=self._watches,
            resolver=self._resolver,
            keepers=(self._keeper, self._found, self._learned),
            policy_path=policy_path,
            lock_problem=self._lock_problem,
            counts=lambda: ahead.ask(self._kernel.counts),
            beside=self._beside,
            look=self._look,
        )

    async def run(self, policy: Policy, text: str = "", problems: tuple[str, ...] = ()) -> None:
        """Until `stop`; see the module's `run`. `problems` of the file that it stands in for."""
        handlers = {
            "status": self._inquiries.status,
            "wait": self._wait,
            "explain": self._inquiries.explain,
            "suggest": self._inquiries.suggest,
            "log": self._inquiries.log,
            "refused": self._inquiries.refused,
            "reload": self._reload,
            "unload": self._unload,
            "canary": self._canary,
        }
        try:
            server = ControlServer(self._control_path, handlers)
            async with server, asyncio.TaskGroup() as self._tasks:
                self._keeper.loaded(policy, text)
                await self._main_loop(policy, problems)
                await self._all_kept()
                for task in self._running:
                    task.cancel()
        except ExceptionGroup as failed:
            # What ramfw itself raises says what is wrong: it is told so, with its exit code.
            if len(failed.exceptions) == 1 and isinstance(failed.exceptions[0], RamfwError):
                raise failed.exceptions[0] from None
            raise
        finally:
            self._watches.close()
            self._teller.close()
            self._alive.show()
            self._batches.close()

    def _lock_table(self) -> str:
        """Own the table from now on, by an earlier daemon's socket if one was kept."""
        inherited = _kept_socket()
        problem = self._kernel.lock_table(inherited)
        # One that was inherited is still kept.
        if inherited is None and (owner := self._kernel.shared_socket()) is not None:
            with owner:
                keep(LOCK, owner.fileno())
        return problem

    async def _show_life(self) -> None:
        while True:
            self._beat()
            notify("WATCHDOG=1")
            self._alive.show()
            self._keep_last_good()
            dns = self._watches.dns
            if dns is not None and (late := dns.read_passed(time.monotonic())):
                self._handle(AnswersHeld(late))
            self._read_openings()
            # What was learned since the last event may end before anything else is due.
            self._events.put_nowait(Tick())
            await asyncio.sleep(BEAT)

    async def _main_loop(self, policy: Policy, problems: tuple[str, ...]) -> None:
        if "NOTIFY_SOCKET" in os.environ:
            # The service manager that started the daemon starts the canary as well.
            self._engine.health.canary_due = time.monotonic() + CANARY_SILENCE
        self._start(self._show_life())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        loop.set_exception_handler(self._on_unforeseen)
        watches = self._watches
        self._handle(await self._open_watches(policy))
        self._handle(TurningChanged(*await self._ahead.ask(self._kernel.turning)))
        watches.open_refusals(self._read_refusals)
        if (tamper := watches.open_tamper()) is not None:
            self._kernel.tell_ports(tamper.ignore)
            self._start(self._pass_on(tamper.changes()))
        if not await self._ahead.ask(self._kernel.matches_cgroups):
            self._handle(NoCgroupMatch())
        state = await self._ahead.ask(lambda: self._kernel.read(with_grants=True))
        with contextlib.suppress(KernelError):
            counts = await self._ahead.ask(self._kernel.counts)
            self._alive.begin(counts.named.get("unread", Count()).packets)
        self._beat()
        self._handle(TableRead(state))
        self._beat()
        self._handle(Recalled(self._found.recall()))
        self._handle(PolicyLoaded(policy, await self._held_ids(policy)))
        self._handle(self._learned.recall())
        if problems:
            self._handle(PolicyRefused(problems))
        self._start(audit(self._engine, self._events.put_nowait))
        deferred = 0
        while True:
            try:
                async with asyncio.timeout(self._until_deadline()):
                    event = await self._events.get()
            except TimeoutError:
                event = Tick()
            if event is None:
                if self._unforeseen is not None:
                    raise self._unforeseen
                return
            # Names that were resolved together are opened together, but not for ever later.
            deferred = 0 if self._events.empty() else (deferred + 1) % MOST_TOGETHER
            # Many events in a row leave no room for the task that shows life once a second.
            self._beat()
            self._handle(event, more=deferred > 0)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def _on_unforeseen(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End the daemon where reading a socket failed: what it holds is dropped then, not kept."""
        loop.default_exception_handler(context)
        error = context.get("exception")
        self._unforeseen = error if isinstance(error, Exception) else RuntimeError(str(context))
        self._stop()

    def _stop(self) -> None:
        self._events.put_nowait(None)

    def _until_deadline(self) -> float | None:
        self._armed = self._engine.deadline()
        return None if self._armed is None else max(0.0, self._armed - time.monotonic())

    # -- events and commands -------------------------------------------------------------------

    def _handle(self, event: Event, *, more: bool = False) -> None:
        if isinstance(event, ServersChanged):
            self._resolver.set_servers(event.servers)
        if isinstance(event, PolicyLoaded):
            self._watches.follow(event.policy)
        self._carry_out_all(event, more=more)
        if self._engine.in_force and not self._was_ready:
            self._was_ready = True
            # What is there now stays: no collection goes through it again while an answer waits.
            # The new is gone through seldom: at Python's usual pace, one answer in 100 would wait.
            gc.collect()
            gc.freeze()
            gc.set_threshold(ALLOCATIONS_A_COLLECTION)
            log.info("the policy is in force: %s", self._policy_path)
            notify("READY=1")
        self._keep_last_good()

    def _carry_out_all(self, event: Event, *, more: bool = False) -> None:
        """Have the engine take it in, and do what follows from it."""
        events = [event]
        for one in events:
            for command in self._engine.handle(one, time.monotonic(), more=more):
                if (completion := self._carry_out(command)) is None:
                    continue
                if isinstance(one, Committed):
                    # There is much to give: others, and the sign of life, have their turn between.
                    self._events.put_nowait(completion)
                else:
                    events.append(completion)
        if self._onlookers:
            onlookers, self._onlookers = self._onlookers, []
            for onlooker in onlookers:
                if not onlooker.done():
                    onlooker.set_result(None)

    def _keep_last_good(self) -> None:
        async def keep(
            keeper: Keeper | FoundKeeper | LeaseKeeper, work: Callable[[], None]
        ) -> None:
            before = keeper.problem
            await asyncio.to_thread(work)
            if (problem := keeper.problem) and problem != before:
                log.error("%s", problem)
            self._keep_last_good()

        for keeper in (self._keeper, self._found, self._learned):
            if (work := keeper.due(self._engine)) is not None:
                task = self._start(keep(keeper, work))
                self._keeping.add(task)
                task.add_done_callback(self._keeping.discard)

    async def _all_kept(self) -> None:
        """Wait until what is in force is kept: the next boot begins with it."""
        self._learned.hurry()
        self._keep_last_good()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KEEP_PATIENCE):
                while self._keeping:
                    await asyncio.wait(self._keeping)

    def _carry_out(  # noqa: C901 - a case each
        self, command: Command
    ) -> Event | None:
        """Do it, or begin to; what came of it where that is known at once."""
        if isinstance(command, Program):
            if self._unloading:
                self._watches.release(command.releases)
                return None
            if (completion := self._program_at_once(command)) is None:
                self._start(self._program(command))
            return completion
        match command:
            case Release(handles):
                self._watches.release(handles)
            case Decide():
                self._decide(command)
            case ReadTable():
                if not self._unloading:
                    self._start(self._read_table(command))
            case Resolve() | Probe():
                self._ask(command)
            case Watch():
                self._watch(command)
            case Note(level, message, fields):
                log.log(LOG_LEVELS[level], "%s", message, extra={"fields": fields})
            case TellAgain():
                self._teller.try_again()
                self._start(self._turn_again())
        return None

    def _ask(self, command: Resolve | Probe) -> None:
        if isinstance(command, Resolve):
            self._resolve_soon(command.name)
            return
        self._start(self._probe(command.place))
        self._events.put_nowait(Tick())  # the loop is to wait no longer than they may

    def _decide(self, decision: Decide) -> None:
        openings = self._watches.openings
        if openings is None:
            return
        now = time.monotonic()
        fates = self._teller.prepare(decision, now)
        self._watches.foresee_refusals(told.packet for told in decision.told)
        openings.decide(fates)
        if decision.told:
            # At once: what the client sends again before it hears the answer is reset.
            self._teller.tell(now)
            self._read_refusals()

    def _program_at_once(self, command: Program) -> Event | None:
        """Commit a transaction of grants here and now, for somebody waits for them.

        Not while libnftables is at work: its batches and ours would void each other (ERESTART).
        """
        grants = only_grants(command.transaction)
        if not grants or not self._ahead.lock.acquire(blocking=False):
            return None
        try:
            # An answer goes on before the kernel's word is read: if that is a refusal, it would go
            # on all the same, and what it was to open stays closed.
            self._batches.grant(grants, lambda: self._watches.release(command.releases))
        except KernelError as error:
            return Rejected(str(error))
        finally:
            self._ahead.lock.release()
        return Committed()

    async def _program(self, command: Program) -> None:
        try:
            await self._ahead.ask(lambda: self._kernel.run(command.transaction))
        except (KernelError, ValueError) as error:
            completion: Event = Rejected(str(error))
        else:
            completion = Committed()
        self._watches.release(command.releases)
        self._events.put_nowait(completion)

    async def _read_table(self, command: ReadTable) -> None:
        await asyncio.sleep(command.not_before - time.monotonic())
        try:
            state = await self._ahead.ask(
                lambda: self._kernel.read(with_grants=command.with_grants, known=command.known)
            )
        except KernelError as error:
            log.error("the table cannot be read back: %s", error)  # noqa: TRY400 - the cause is told
            again = replace(command, with_grants=True, not_before=time.monotonic() + 1.0)
            self._start(self._read_table(again))
            return
        self._events.put_nowait(TableRead(state))

    def _resolve_soon(self, name: str) -> None:
        self._to_resolve.append(name)
        if self._resolving < MOST_RESOLVED_AT_ONCE:
            self._resolving += 1
            self._start(self._resolve_waiting())

    async def _resolve_waiting(self) -> None:
        """Resolve what waits for it, one name after the other; some of these run side by side."""
        try:
            while self._to_resolve:
                name = self._to_resolve.popleft()
                self._events.put_nowait(await self._resolver.resolve(name, self._events.put_nowait))
        finally:
            self._resolving -= 1

    async def _probe(self, place: Place) -> None:
        policy = self._engine.policy
        mark = MarkLayout(policy.mark_mask).value(PASSED) if policy else 0
        self._events.put_nowait(await ask(self._prober, place, mark))

    # -- what is heard -------------------------------------------------------------------------

    async def _open_watches(self, policy: Policy) -> WatchChanged:
        watches = self._watches
        form, problem = await self._ahead.ask(self._kernel.watch_form)
        watch = watches.open_dns(form, problem, self._engine.permits, self._read_dns_watch)
        can_tell = watches.dns is not None and not watch.tells_problem
        if can_tell and not await self._ahead.ask(self._kernel.compares_names):
            hindrance = "this nft cannot compare names"
            watch = replace(watch, tells_answers=False, tells_problem=hindrance)
        watch = watches.open_openings(watch, policy, self._read_openings)
        if watches.openings is not None:
            self._teller.open(time.monotonic())
        return watch

    def _read_openings(self) -> None:
        openings = self._watches.openings
        if openings is None:
            return
        now = time.monotonic()
        if (event := openings.read(now)) is not None:
            self._teller.saw(event.copies, lost=event.lost)
            for command in self._engine.handle(event, now):
                self._carry_out(command)

    def _read_dns_watch(self) -> None:
        dns = self._watches.dns
        if dns is None:
            return
        # One goes alone, and a look at what is behind it is the selector's. Only where answers keep
        # coming all that wait go together.
        now = time.monotonic()
        self._crowd = self._crowd + 1 if now < self._free_at + A_MOMENT else 0
        held = dns.read(now, A_READING if self._crowd >= A_CROWD else 1)
        if held:
            # What they teach is kept with the next sign of life.
            self._carry_out_all(AnswersHeld(held))
            if self._crowd >= A_CROWD and len(held) == 1:
                self._crowd = 0
        if self._engine.holds:
            self._events.put_nowait(Tick())  # so that the loop waits no longer than they may
        self._free_at = time.monotonic()

    async def _turn_again(self) -> None:
        try:
            if await self._ahead.ask(self._kernel.forget_unheard):
                log.info("rules of others have changed: refused connections are turned again")
        except KernelError as error:  # they are turned again when the minute is over
            log.warning("refused connections are not turned again yet: %s", error)

    def _beside(self, now: float) -> Beside:
        teller = self._teller
        unheard, absences = teller.unheard_ways(now), self._alive.absences_ago()
        return Beside(teller.told, teller.heard, teller.problem, unheard, absences)

    def _look(self) -> None:
        """Read all that waits and that people ask about."""
        self._read_openings()
        self._read_refusals()

    def _read_refusals(self) -> None:
        if seen := self._watches.read_refusals():
            self._handle(RefusalsSeen(seen))

    # -- observers -----------------------------------------------------------------------------

    def _watch(self, wanted: Watch) -> None:
        if wanted == self._watched:
            return
        for task in self._watchers:
            task.cancel()
        self._watched = wanted
        self._watchers = [self._start(self._pass_on(changes)) for changes in follow(wanted)]

    async def _pass_on(self, changes: AsyncIterator[Event]) -> None:
        async for event in changes:
            self._events.put_nowait(event)

    # -- the control socket --------------------------------------------------------------------

    async def _canary(self, arguments: Arguments) -> dict[str, Any]:
        told = CanaryReported(bool(arguments["holds"]), str(arguments["detail"])[:1000])
        self._events.put_nowait(told)
        return {}

    async def _wait(self, arguments: Arguments) -> dict[str, Any]:
        await self._settle(min(float(arguments.get("seconds", 10.0)), LONGEST_WAIT))
        return await self._inquiries.status(arguments)

    async def _settle(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not (self._engine.settled and self._events.empty()):
                    handled = asyncio.get_running_loop().create_future()
                    self._onlookers.append(handled)
                    await handled

    async def _reload(self, _: Arguments) -> dict[str, Any]:
        policy, warnings, text = await self._read_policy()
        self._keeper.loaded(policy, text)
        self._events.put_nowait(PolicyLoaded(policy, await self._held_ids(policy)))
        await self._settle(RELOAD_PATIENCE)
        if problems := self._engine.health.policy_problems:
            source = str(self._policy_path)
            raise PolicyError(tuple(Problem(source, 0, "", problem) for problem in problems))
        await self._all_kept()
        return {"in_force": self._engine.in_force, "warnings": [str(w) for w in warnings]}

    async def _read_policy(self) -> tuple[Policy, tuple[Problem, ...], str]:
        """The policy file as it is now; a bad one is told to the engine, and raised."""
        try:
            read = await asyncio.to_thread(policyfile.read_text, self._policy_path)
            self._refuse_without_names(read[0])
        except PolicyError as error:
            self._events.put_nowait(PolicyRefused(tuple(str(p) for p in error.problems)))
            raise
        return read

    def _refuse_without_names(self, policy: Policy) -> None:
        """Raises PolicyError where the policy requires names and none are read here."""
        problem = self._watches.names_problem
        if policy.names_required and problem:
            place = (str(self._policy_path), 0, "names.required")
            raise PolicyError((Problem(*place, problem, "ramfw doctor"),))

    async def _unload(self, _: Arguments) -> dict[str, Any]:
        self._unloading = True
        try:
            await self._ahead.ask(lambda: self._kernel.run((DeleteTable(),)))
        except KernelError:
            self._unloading = False
            raise
        log.warning("unloaded: nothing is enforced any more")
        self._stop()
        return {"unloaded": True}

    def _on_hangup(self) -> None:
        async def reload() -> None:
            with contextlib.suppress(PolicyError):
                await self._reload({})

        self._start(reload())

    @staticmethod
    async def _held_ids(policy: Policy) -> frozenset[int]:
        try:
            return await asyncio.to_thread(held_ids, policy.mark_mask)
        except ObserveError as error:
            log.warning("%s", error)
            return frozenset()


def _kept_socket() -> socket.socket | None:
    """The netlink socket that the service manager kept for us, if it is one."""
    descriptor = kept(LOCK)
    if descriptor is None:
        return None
    try:
        found = socket.socket(fileno=descriptor)
    except OSError:
        return None
    if (found.family, found.proto) != (socket.AF_NETLINK, NETLINK_NETFILTER):
        found.close()
        return None
    return found
