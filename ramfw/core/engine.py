"""The engine: handle(event, now) -> commands. It decides; it never does.

Pure: no socket, clock, file or log. `now` is seconds on the caller's monotonic clock, and
`deadline` tells when the engine wants a Tick if nothing else happens. What is meant to be in the
kernel (the compiled ruleset, and the wanted grants) is held beside what the kernel has
acknowledged; whenever the two differ and no transaction is under way, the difference becomes the
next one. A refused transaction, or a table that reads back otherwise than meant, leads to reading
the table and starting from what is really there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from itertools import islice, takewhile

from ramfw.core.addresses import may_open
from ramfw.core.audit import Audit
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
from ramfw.core.compiler import compile_ruleset
from ramfw.core.events import (
    AnswersHeld,
    CanaryReported,
    CgroupsChanged,
    Committed,
    ElementsSeen,
    Event,
    LinksChanged,
    MapAudited,
    NoCgroupMatch,
    OpeningsHeld,
    OtherRulesChanged,
    PolicyLoaded,
    PolicyRefused,
    Reason,
    Refusal,
    RefusalsSeen,
    Rejected,
    Resolved,
    ServersChanged,
    TableRead,
    TableTouched,
    Tick,
    TurningChanged,
    WatchChanged,
)
from ramfw.core.fresh import fresh_grants
from ramfw.core.grants import LIFE_OF_STATIC, Permissions
from ramfw.core.learning import Attempt, Learning
from ramfw.core.lease_text import LeasesRecalled
from ramfw.core.leases import Leases
from ramfw.core.ledger import Ledger, additions
from ramfw.core.name_check import NameCheck
from ramfw.core.names import Names
from ramfw.core.numbering import Numbering, OutOfIdsError
from ramfw.core.plan import Machine
from ramfw.core.policy import Policy, ScopeName
from ramfw.core.probe import Outcome, Probe, Probed, Recalled
from ramfw.core.reconcile import CGROUPS, after, diff, replaces_table
from ramfw.core.refusals import Refusals, journal_fields, sentence
from ramfw.core.retelling import Retelling
from ramfw.core.ruleset import CgroupElement, Ruleset
from ramfw.core.standing import Believed, Facts, Health, Pending, Touch
from ramfw.core.tablestate import TableState
from ramfw.core.transaction import GrantKey, Transaction
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm

LONGEST_BACKOFF = 30.0
LONGEST_HOLD = 2.0
"""Seconds that an answer waits at most: less than resolvers do before they ask again."""
CANARY_SILENCE = 180.0
"""Seconds without the canary, which comes every minute, after which that is a fault."""
MOST_LEARNED_NAMES = 20_000
"""Names with leases, beyond which no name that only a wildcard permits is learned."""
MOST_NAMES_TOLD = 4
MOST_TOLD = 4
UNSEEN = "somebody unseen"
"""Who did what only the audit found."""
NOTHING_TO_DO: tuple[Transaction, Transaction] = ((), ())


class Engine:
    """All state of the running program but the kernel's."""

    def __init__(self, jitter: Callable[[], float], name_check: NameCheck) -> None:
        """`jitter` gives numbers from 0 to 1, spread evenly (see `Names`)."""
        self.name_check = name_check
        self.policy: Policy | None = None
        self.facts = Facts()
        self.numbering = Numbering()
        self.leases = Leases()
        self.names = Names(jitter)
        self.permissions = Permissions(None, {}, ())
        self.believed = Believed()
        self.health = Health()
        self.learning = Learning()
        self.refusals = Refusals()
        self._retelling = Retelling()
        self._desired: Ruleset | None = None
        self.ledger = Ledger()
        self.audit = Audit()
        self._pending: Pending | None = None
        self._table_was_read = False
        self._reading = False
        self._touched = False
        """Whether the table is to be looked at, because somebody else changed it."""
        self._failures = 0
        self._static_due: float | None = None
        self._held: dict[int, float] = {}
        """Answers in the kernel's queue, the oldest first, and when each goes on regardless."""
        self._waiting: list[int] = []
        """Those of them that no transaction covers yet."""

    # -- the one way in ------------------------------------------------------------------------

    def handle(self, event: Event, now: float, *, more: bool = False) -> list[Command]:
        """Take in what happened; what is to be done about it, in order.

        `more` promises another event at once: then the addresses of a name that was resolved,
        for which nobody waits, may go into the next one's transaction.
        """
        commands: list[Command] = []
        # Where somebody waits, or may wait next, all else that is due is left to its Tick.
        if isinstance(event, AnswersHeld):
            if (program := self._open_fresh(event, now)) is not None:
                return [program]
            self._answers_held(event, now)
        elif isinstance(event, OpeningsHeld):
            return self._openings_held(event, now)
        elif isinstance(event, Committed):
            commands = self._committed()
            if self._is_quiet:
                return commands
        else:
            commands += self._take_in(event, now)
            commands += self._housekeeping(now)
            commands += [Resolve(name) for name in self._due_names(now)]
        if self._touched and self._table_was_read and not (self._pending or self._reading):
            self._touched, self._reading = False, True
            commands.append(ReadTable(with_grants=True, known=self.believed.ruleset))
        if more and isinstance(event, Resolved):
            return commands
        return [*commands, *self._next_steps(now)]

    def _next_steps(self, now: float) -> Iterable[Command]:
        """The next transaction, and the answers that wait for none."""
        if (program := self._next_transaction(now)) is not None:
            yield program
        elif self._failures or not (self._pending or self._reading):
            yield from self._let_go(self._waiting)
            self._waiting.clear()
        self._mended(now)
        if self._held:
            overdue = takewhile(lambda item: item[1] <= now, self._held.items())
            yield from self._let_go([handle for handle, _ in overdue])

    @property
    def _is_quiet(self) -> bool:
        """Whether there is nothing to do after a commit."""
        touches = self.health.touches
        return (
            self.ledger.is_settled
            and self._desired is self.believed.made_from
            and self.health.verified_at is not None
            and not (self._held or self._waiting or self._touched)
            and not (touches and touches[-1].mended_at is None)
        )

    @property
    def holds(self) -> bool:
        """Whether an answer still waits, so that the deadline may have moved to its own."""
        return bool(self._held)

    def deadline(self) -> float | None:
        """When a Tick is due, if nothing happens before."""
        # What runs out of time does so by the whole second: nobody waits for it, and a Tick for
        # each lease and each flow would cost as much as their packets did.
        ends = (self.leases.next_expiry(), self.name_check.next_deadline())
        times: list[float | None] = [None if end is None else math.ceil(end) for end in ends]
        times += (self._static_due, self._retelling.due)
        times.append(next(iter(self._held.values()), None))
        if self.facts.servers is not None:
            times.append(self.names.next_due())
        return min((time for time in times if time is not None), default=None)

    def permits(self, name: str) -> bool:
        """Whether an answer for this name could open anything."""
        return bool(self.permissions.of_name(name))

    @property
    def in_force(self) -> bool:
        """Whether the kernel was read back and holds the rules that are meant now."""
        return (
            self.health.verified_at is not None
            and self._pending is None
            and not self._reading
            and self._desired is not None
        )

    @property
    def settled(self) -> bool:
        """In force, every name asked for once, and every wanted grant in the kernel."""
        return self.in_force and self.names.all_tried() and self.ledger.is_settled

    # -- events --------------------------------------------------------------------------------

    def _take_in(  # noqa: C901, PLR0912, PLR0915 - a case each
        self, event: Event, now: float
    ) -> Iterable[Command]:
        match event:
            case PolicyLoaded():
                yield from self._policy_loaded(event, now)
            case PolicyRefused(problems):
                self.health.policy_problems = problems
                yield Note("err", "policy refused, the last good one stays: " + "; ".join(problems))
            case Resolved():
                self._resolved(event, now)
                yield from self._given(event)
            case Probed():
                yield from self._probed(event, now)
            case Recalled(found):
                self.name_check.probing.recall(found)
            case LeasesRecalled():
                self._leases_recalled(event)
            case WatchChanged(form, problem):
                self.facts.watch, self._desired = event, None
                yield Note(
                    "warning" if problem else "info", f"DNS watch: {form} {problem}".rstrip()
                )
            case ServersChanged():
                yield from self._servers_changed(event, now)
            case RefusalsSeen(refusals):
                for refusal in refusals:
                    yield from self._refused(refusal, now)
            case TurningChanged(_, problem):
                self.facts.turning, self._desired = event, None
                if problem:
                    yield Note("warning", f"not all refused connections are explained: {problem}")
            case LinksChanged():
                self.facts.links = event
                self._desired = None
            case CgroupsChanged():
                self.facts.cgroups = event
                self._desired = None
            case TableRead():
                yield from self._table_read(event, now)
            case Rejected(reason):
                yield from self._rejected(reason, now)
            case NoCgroupMatch():
                self.facts.by_cgroup, self._desired = False, None
                # A container on the host's network could call its connections ramfw's own.
                self.name_check.probing.hindrance = "this kernel cannot tell sockets by cgroup"
            case TableTouched(pid, program):
                yield self._table_touched(pid, program, now)
            case OtherRulesChanged():
                self._retelling.changed(now)
            case CanaryReported():
                yield from self._canary_reported(event, now)
            case ElementsSeen(name, elements):
                if self._may_audit:
                    self.audit.seen(name, elements, self.ledger, now)
            case MapAudited(name):
                yield from self._map_audited(name, now)
            case AnswersHeld() | Committed() | Tick():
                pass

    def _policy_loaded(self, event: PolicyLoaded, now: float) -> Iterable[Command]:
        try:
            self.numbering.assign(event.policy.entries, event.held_ids)
        except OutOfIdsError as error:
            self.health.policy_problems = (str(error),)
            return
        watch = self.facts.watch
        checks = watch is not None and watch.names
        self.policy = event.policy if checks else event.policy.by_addresses()
        self.health.policy_problems = ()
        self._permissions_changed(now)
        for name in self.names.replace(self.permissions.exact_names(), now):
            if not self.permissions.of_name(name):
                self.leases.forget(name)
        self.ledger.touch(self.leases.addresses())
        yield Watch(
            {
                ScopeName.ENGINES: event.policy.engines.cgroups,
                ScopeName.CONTAINERS: event.policy.containers.cgroups,
            },
            event.policy.containers.interfaces,
            event.policy.dns.servers,
        )

    def _refused(self, refusal: Refusal, now: float) -> Iterable[Command]:
        """Remember it, under the permitted names of its address where no other is known."""
        by_bytes = refusal.reason is Reason.NOT_A_BEGINNING
        if by_bytes and (read := self.name_check.take_refusal(refusal.flow)) is not None:
            named = (read.name,) if read.name else refusal.names
            refusal = replace(refusal, names=named, detail=read.reason)
        if not refusal.names:
            leases = self.leases.of_address(refusal.destination.packed)[:MOST_NAMES_TOLD]
            refusal = replace(refusal, names=tuple(name for name, _ in leases), after="")
        elif self.policy and any(self.policy.catalog.registry_of(n) for n in refusal.names):
            # A registry by itself: nobody was sent there.
            refusal = replace(refusal, after="")
        if refusal.audited and refusal.scope is not None:
            self.learning.note(_attempt(refusal, refusal.scope), now)
        if (record := self.refusals.note(refusal, now)) is not None:
            level = "info" if refusal.audited else "warning"
            yield Note(level, sentence(record), journal_fields(record))

    def _table_touched(self, pid: int, program: str, now: float) -> Note:
        self._touched = True
        if not program:
            return Note(
                "warning", "changes of the rules came too quickly to be seen: looked at now"
            )
        self.health.touches.append(Touch(now, pid, program))
        self.health.touched += 1
        who = f"{program} (pid {pid})"
        return Note("err", f"{who} changed the table inet ramfw: it is put right now")

    @property
    def _may_audit(self) -> bool:
        """Whether what is believed is not about to be read, or made anew."""
        return self.in_force and not self._touched

    def maps_of_grants(self) -> tuple[str, ...]:
        """The maps in the kernel whose elements are grants."""
        ruleset = self.believed.ruleset if self.in_force else None
        return tuple(named.name for named in ruleset.sets if named.holds_grants) if ruleset else ()

    def _map_audited(self, name: str, now: float) -> Iterable[Note]:
        """Mend what was found to be otherwise than it was acknowledged, and say so."""
        if not self._may_audit:
            self.audit.forget()
            return
        drift = self.audit.ended(name, self.ledger, now)
        if drift.hopeless:
            self._touched = True
            yield Note("err", f"the map {name} holds what ramfw did not write: all is read now")
            return
        self.ledger.mend(drift.strays, drift.missing, now)
        self.health.mismatches += bool(drift.missing)
        if drift.strays:
            self.health.touches.append(Touch(now, 0, UNSEEN))
            self.health.touched += 1
            what = _told(drift.strays)
            yield Note("err", f"{UNSEEN} opened what ramfw did not, it is closed now: {what}")
        if drift.missing:
            what = _told(drift.missing)
            yield Note("warning", f"the kernel had lost what is permitted, it is given now: {what}")

    def _mended(self, now: float) -> None:
        if self.health.touches and self.in_force and not self._touched:
            for touch in self.health.touches:
                touch.mended_at = touch.mended_at or now

    def _canary_reported(self, event: CanaryReported, now: float) -> Iterable[Command]:
        before, self.facts.canary = self.facts.canary, event
        self.health.canary_at, self.health.canary_due = now, now + CANARY_SILENCE
        if before is None or before.holds != event.holds:
            words = "holds" if event.holds else "DOES NOT HOLD"
            yield Note("info" if event.holds else "err", f"the filter {words}: {event.detail}")

    def _servers_changed(self, event: ServersChanged, now: float) -> Iterable[Command]:
        before, self.facts.servers = self.facts.servers, event
        if before is None or before.trusted != event.trusted:
            self._permissions_changed(now)
        if before is not None and (before.servers, before.upstream) == (
            event.servers,
            event.upstream,
        ):
            return
        self.names.ask_all(now)
        servers = ", ".join(map(str, event.servers)) or "none"
        yield Note("info", f"trusted DNS servers: {servers}")

    def _permissions_changed(self, now: float) -> None:
        known = self.facts.servers
        servers = known.trusted if known else ()
        self.permissions = Permissions(self.policy, self.numbering.entries, servers)
        if self.policy is not None:
            self.name_check.follow(self.policy, self.numbering.entries, now)
        self._static_due = now
        self._desired = None
        self.ledger.recheck(self.permissions)

    def _resolved(self, event: Resolved, now: float) -> None:
        state = self.names.answered(event, now)
        if state is None:
            return
        if event.answers:
            alike: dict[tuple[int, str], list[bytes]] = {}
            for answer in event.answers:
                alike.setdefault((answer.ttl, answer.server), []).append(answer.address.packed)
            for (ttl, server), addresses in alike.items():
                self.ledger.touch(self.leases.learn(event.name, addresses, ttl, server, now))
        elif state.last_good is not None:
            self.ledger.touch(self.leases.prolong(event.name, state.last_good, state.due))

    def _open_fresh(self, event: AnswersHeld, now: float) -> Program | None:
        """Open what the answers name at once, where nothing else is under way; None elsewhere.

        They are learned when the kernel has decided, for nobody should wait for that. All else
        takes the long way, which leads to the same.
        """
        desired, permissions = self._desired, self.permissions
        if desired is None or desired is not self.believed.made_from or self._pending:
            return None
        if self._reading or self._waiting or not self.ledger.is_settled:
            return None
        answers = event.answers
        changes = fresh_grants(answers, permissions, self.leases, self.ledger, now)
        if not changes:
            return None
        if len(self.leases) + len(answers) > MOST_LEARNED_NAMES:
            for answer in answers:
                if not self._may_be_learned(answer.name):
                    return None
        # One packet may have several answers.
        held = {answer.handle: now + LONGEST_HOLD for answer in answers if answer.handle}
        self._held.update(held)
        releases = tuple(held)
        self._pending = Pending(
            desired,
            changes,
            changes_rules=False,
            replaces=False,
            releases=releases,
            permissions=permissions,
            answers=answers,
            since=now,
        )
        return Program(additions(changes, now), releases)

    def _may_be_learned(self, name: str) -> bool:
        """Whether there is room for the name; for those that are listed, there always is."""
        leases = self.leases
        return len(leases) < MOST_LEARNED_NAMES or name in leases or self.permissions.is_exact(name)

    def _answers_held(self, event: AnswersHeld, now: float) -> None:
        """Learn from answers for permitted names; each waits until what it opens is committed."""
        for handle, name, addresses, ttl, server in event.answers:
            if handle and handle not in self._held:
                self._held[handle] = now + LONGEST_HOLD
                self._waiting.append(handle)
            if not self.permissions.of_name(name):
                continue
            if not self._may_be_learned(name):
                self.health.answers_beyond_bound += 1
                continue
            self.ledger.touch(self._learn(name, addresses, ttl, server, now))

    def _learn(
        self, name: str, addresses: Iterable[bytes], ttl: int, server: str, now: float
    ) -> list[bytes]:
        self.health.answers_learned += 1
        usable = [address for address in addresses if may_open(address)]
        return self.leases.learn(name, usable, ttl, server, now)

    def _leases_recalled(self, event: LeasesRecalled) -> None:
        for name, addresses, lease in event.kept:
            if self.permissions.of_name(name) and self._may_be_learned(name):
                usable = [address for address in addresses if may_open(address)]
                self.ledger.touch(self.leases.recall(name, usable, lease))

    def _openings_held(self, event: OpeningsHeld, now: float) -> list[Command]:
        """Judge first bytes, after what their servers said before."""
        check = self.name_check
        check.copied(event.copies, now, lost=event.lost)
        fates = [check.held(one, self.leases, now) for one in event.segments]
        decision = Decide(tuple(filter(None, fates)), check.take_told())
        return [decision, *self._questions()] if check.probing.questions else [decision]

    def _questions(self) -> Iterable[Probe]:
        probing = self.name_check.probing
        asked, probing.questions = probing.questions, []
        return map(Probe, asked)

    def _probed(self, event: Probed, now: float) -> Iterable[Command]:
        """Let those go on who waited for the answer, or not; then ask whose name it is."""
        before = self.name_check.probing.problem
        if fates := self.name_check.probed(event, now):
            yield Decide(fates, self.name_check.take_told())
        yield from self._questions()
        if event.outcome is Outcome.REGISTRY:
            yield Note("warning", f"{event.place} is a registry: {event.evidence}; it is refused")
            if event.place.name:
                yield Resolve(event.place.name)
        elif event.problem and event.problem != before:
            yield Note("warning", f"unknown hosts pass, for none can be asked: {event.problem}")

    def _given(self, event: Resolved) -> Iterable[Command]:
        """Refuse a registry that was found everywhere, if the name is really its own."""
        addresses = [answer.address.packed for answer in event.answers]
        if self.name_check.probing.given(event.name, addresses):
            yield Note("info", f"{event.name} is refused at every address")

    def _let_go(self, handles: Iterable[int]) -> Iterable[Command]:
        """Release those that still wait."""
        still = tuple(h for h in handles if self._held.pop(h, None) is not None)
        if still:
            yield Release(still)

    def _housekeeping(self, now: float) -> Iterable[Command]:
        self.ledger.touch(self.leases.expire(now))
        if late := self.name_check.expire(now):
            yield Decide(late, self.name_check.take_told())
        yield from self._questions()
        if self._static_due is not None and self._static_due <= now:
            self.ledger.touch(self.permissions.places())
            self._static_due = now + LIFE_OF_STATIC / 2
        self.ledger.sweep(now)
        if self._retelling.take(now):
            yield TellAgain()

    def _due_names(self, now: float) -> Iterable[str]:
        return self.names.take_due(now) if self.facts.servers is not None else ()

    # -- the kernel's answers ------------------------------------------------------------------

    def _table_read(self, event: TableRead, now: float) -> Iterable[Command]:
        self._reading = False
        first, self._table_was_read = not self._table_was_read, True
        if event.state is None:
            self.believed = Believed()
            if not first:
                yield Note("warning", "the table inet ramfw is gone; it is put back now")
        elif first:
            self.numbering.adopt(event.state.ruleset)
            self.name_check.expected.inherit(now)
        if event.state is None or event.state.grants is not None:
            if not first and self._differs(event.state):
                self.health.mismatches += 1
                yield Note("warning", "the table is not as it was meant; it is put right now")
            self._start_from(event, now, adopts=first)
            return
        if self._differs(event.state):
            self.health.verified_at = None
            yield from self._read_all(now)
        else:
            self.health.verified_at, self._failures = now, 0

    def _differs(self, state: TableState | None) -> bool:
        """Whether rules that were read are others than those acknowledged.

        A cgroup that is gone by now is listed by its number, so only those that exist count.
        """
        meant = self.believed.ruleset
        if state is None or meant is None:
            return (state is None) != (meant is None)
        existing = {element for found in self._cgroups().values() for element in found}
        sets = (
            replace(named, elements=named.elements & existing)
            if named.key == CGROUPS and named.elements is not None
            else named
            for named in meant.sets
        )
        return diff(replace(meant, sets=tuple(sets)).as_read(), state.ruleset) != NOTHING_TO_DO

    def _start_from(self, event: TableRead, now: float, *, adopts: bool) -> None:
        """Take what is really there as the ground, and let the next transaction mend it."""
        state = event.state
        self.audit.forget()
        self.believed = Believed(state.ruleset if state else None)
        held = state.grants if state else None
        # Before a policy is known, nothing is: a list of 100,000 that are not permitted is no use.
        permissions = None if self.policy is None else self.permissions
        self.ledger.start_from(held or {}, permissions, now, adopts=adopts)
        self.ledger.touch(self.leases.addresses())
        self.ledger.touch(self.permissions.places())

    def _committed(self) -> list[Command]:
        pending, self._pending = self._pending, None
        if pending is None:
            return []
        self.ledger.committed(
            pending.changes, pending.permissions, self.permissions, replaced=pending.replaces
        )
        self._completed(pending)
        if pending.changes_rules or self.believed.made_from is not pending.desired:
            self.believed.ruleset = after(pending.desired, self.believed.ruleset)
            self.believed.made_from = pending.desired
        if pending.changes_rules:
            self._reading = True
            return [ReadTable(with_grants=False, known=self.believed.ruleset)]
        self._failures = 0
        return []

    def _completed(self, pending: Pending) -> None:
        """What follows however it ended: its answers went on, and are learned if they were not."""
        for handle in pending.releases:
            self._held.pop(handle, None)
        same = pending.permissions is self.permissions
        for _, name, addresses, ttl, server in pending.answers:
            if same or self.permissions.of_name(name):
                changed = self._learn(name, addresses, ttl, server, pending.since)
                if not same:
                    self.ledger.touch(changed)

    def _rejected(self, reason: str, now: float) -> Iterable[Command]:
        pending, self._pending = self._pending, None
        if pending is not None:
            self._completed(pending)
        self.health.last_rejection = reason
        self.health.rejections += 1
        yield Note("err", f"the kernel refused a change, nothing of it took effect: {reason}")
        yield from self._read_all(now)

    def _read_all(self, now: float) -> Iterable[Command]:
        """Read everything back and begin from there: at once, then less and less often."""
        wait = 0.0 if self._failures == 0 else min(2.0 ** (self._failures - 1), LONGEST_BACKOFF)
        self._failures += 1
        self._reading = True
        yield ReadTable(with_grants=True, not_before=now + wait, known=self.believed.ruleset)

    # -- the next transaction ------------------------------------------------------------------

    def _next_transaction(self, now: float) -> Program | None:
        facts = self.facts
        if self.policy is None or self._pending or self._reading or not self._table_was_read:
            return None
        if facts.links is None or facts.cgroups is None or facts.servers is None:
            return None
        if facts.watch is None:
            return None
        if self._desired is None:
            desired = self._compile(self.policy, facts.links)
            before = self.believed.ruleset
            self._desired = desired if before is None else desired.sharing(before)
        if self._desired is self.believed.made_from:
            first, last = NOTHING_TO_DO
        else:
            first, last = diff(self._desired, self.believed.ruleset)
        replaces = self.believed.ruleset is None or (bool(first) and replaces_table(first))
        operations, changes = self.ledger.operations(
            self.permissions, self.leases, now, replaces=replaces
        )
        if not first and not operations and not last:
            self.believed.made_from = self._desired
            # Nothing differs from what was read, at a start or after a refusal.
            self.health.verified_at = self.health.verified_at or now
            return None
        if first or last:
            self.health.verified_at = None
        # Where more is to be opened than fits, who waits for what is not known: they wait on.
        releases = tuple(self._waiting) if self.ledger.is_settled else ()
        self._pending = Pending(
            self._desired, changes, bool(first or last), replaces, releases, self.permissions
        )
        if releases:
            self._waiting.clear()
        return Program((*first, *operations, *last), releases)

    def _cgroups(self) -> dict[ScopeName, frozenset[CgroupElement]]:
        found: dict[ScopeName, set[CgroupElement]] = {}
        facts = self.facts.cgroups or CgroupsChanged(frozenset())
        for cgroup, inode in facts.cgroups:
            element = CgroupElement(facts.nft_prefix + cgroup.path, cgroup.level, inode)
            found.setdefault(cgroup.scope, set()).add(element)
        return {scope: frozenset(elements) for scope, elements in found.items()}

    def _compile(self, policy: Policy, links: LinksChanged) -> Ruleset:
        servers, watch, turning = self.facts.servers, self.facts.watch, self.facts.turning
        trusted = servers.trusted if servers else ()
        machine = Machine(
            links.uplinks,
            self._cgroups(),
            frozenset(trusted),
            watch.form if watch else WatchForm.NONE,
            watch is not None and watch.names,
            turning.turning if turning else Turning.NONE,
            self.facts.by_cgroup,
            watch is not None and watch.tells_answers,
        )
        return compile_ruleset(policy, machine, self.numbering.numbered.values())


def _told(keys: Collection[GrantKey]) -> str:
    """Some of the elements, for a person."""
    some = [f"{_shown(key)} {key.protocol}/{key.port}" for key in islice(keys, MOST_TOLD)]
    more = len(keys) - len(some)
    return ", ".join(some) + (f", and {more} more" if more else "")


def _shown(key: GrantKey) -> str:
    network = key.network
    return str(network.network_address if network.num_addresses == 1 else network)


def _attempt(refusal: Refusal, scope: ScopeName) -> Attempt:
    who = str(refusal.source) if refusal.uid is None else f"uid {refusal.uid}"
    return Attempt(scope, refusal.destination, refusal.port, refusal.protocol, refusal.names, who)
