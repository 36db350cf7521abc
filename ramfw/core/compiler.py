"""compile(policy, machine, ids) -> Ruleset: the security of ramfw in one function.

Pure. Steps, each a base chain of its own, so that other people's NAT can stand between:

    judge  (filter, -150)  marks a new flow of a scope: the id of the entry that permits it, or
                           REFUSED. Reads addresses as the sender wrote them.
    turn   (nat, -95)      turns refused connections to the explainer (`turn_rules`).
    guard  (filter, -10)   passes flows whose id is live, refuses what is marked otherwise, and
                           refuses what is in a scope and carries no mark at all (no conntrack
                           entry, or somebody else wrote over the mark).
    account (filter, input) counts what permitted flows receive.

Refusing verdicts are final in every base chain of the hook, whatever Docker's chains accept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network

from ramfw.core.events import Address
from ramfw.core.marks import (
    AUDITED,
    FORGED,
    PASSED,
    REFUSED,
    RESOLVERS,
    UNDECIDED,
    MarkLayout,
)
from ramfw.core.name_fronts import Fronts, fronts, too_short
from ramfw.core.name_rules import (
    Checks,
    awaits_answer,
    awaits_no_answer,
    marked,
    name_chains,
    name_sets,
    own_question,
    set_mark,
    takes_verdict,
    unsettled_ids,
)
from ramfw.core.permit_rules import PERMIT, awaits_id, permit_chain, permit_sets
from ramfw.core.policy import Entry, Mode, Policy, ScopeMode, ScopeName
from ramfw.core.refusals import log_refusal
from ramfw.core.reset_rules import as_sent, undo_nat
from ramfw.core.ruleset import (
    ACCEPT,
    DROP,
    IDS,
    VERDICTS,
    CgroupElement,
    Chain,
    Count,
    Dispatch,
    Element,
    Field,
    FlagsMatch,
    Hook,
    InSet,
    Jump,
    Masked,
    Match,
    NamedSet,
    Reject,
    Remember,
    Rule,
    Ruleset,
    SetMark,
    SetRef,
    SocketCgroup,
    Tag,
    Untag,
    Verdict,
    goto,
)
from ramfw.core.turn_rules import Flows, Turning, turn_chains, turn_sets, turned_to_explainer
from ramfw.core.watch_rules import Surroundings, WatchForm, watch_chains, watch_sets

JUDGE_PRIORITY = -150
GUARD_PRIORITY = -10

KEY4 = ("ipv4_addr", "inet_proto", "inet_service")
KEY6 = ("ipv6_addr", "inet_proto", "inet_service")

DNS_OVER_TLS = 853
"""A port of no registry; but who asks other servers there learns what ramfw does not."""

ENTRIES = "entries"
"""The map from an entry's id to what becomes of a flow to an address of it."""

EVERY_SCOPE = "permitted"
"""The stem of the maps that all scopes consult."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the rules must know of this machine, as observed."""

    uplinks: frozenset[str] = frozenset()
    cgroups: Mapping[ScopeName, frozenset[CgroupElement]] | None = None
    servers: frozenset[Address] = frozenset()
    watch: WatchForm = WatchForm.NONE
    names: bool = False
    """Whether first bytes can be held: where answers can, and nobody else listens for them."""
    turning: Turning = Turning.NONE
    by_cgroup: bool = True
    """Whether rules can match a socket's cgroup; without, only the host as a whole is judged."""
    tells_answers: bool = False
    """Whether somebody listens for copies of answers that need not be held."""


@dataclass(frozen=True, slots=True)
class NumberedEntry:
    """An entry of the policy, under the id that its flows carry."""

    entry_id: int
    label: str
    digest: str
    expects_name: bool = False


def entry_comment(numbered: NumberedEntry) -> str:
    """How an id's element tells, to an admin and to a daemon that starts again, whose it is."""
    printable = "".join(c if c.isalnum() or c in ".-_:/*[] " else "?" for c in numbered.label)
    return f"{numbered.digest} {printable}"[:120].rstrip()


def map_stems(entry: Entry, policy: Policy) -> tuple[str, ...]:
    """The stems of the maps that hold the entry's grants."""
    enforced = {s for s in ScopeName if policy.scope_mode(s) is not ScopeMode.OFF}
    if enforced <= entry.scopes:
        return (EVERY_SCOPE,)
    return tuple(str(scope) for scope in ScopeName if scope in enforced & entry.scopes)


def map_name(stem: str, network: object, *, is_range: bool) -> str:
    """The map for grants of this stem: by family, ranges apart (they need interval sets)."""
    family = 4 if isinstance(network, IPv4Network) else 6
    return f"{stem}_ranges{family}" if is_range else f"{stem}{family}"


def bridges_name(patterns: Iterable[str]) -> str:
    """The set of interface patterns, named after its contents: it is never changed in place.

    nft 1.0.6 cannot delete a wildcard from a set, and a set that is flushed and filled in one
    commit may match nothing for an instant (kernels before 6.17).
    """
    text = " ".join(sorted(patterns))
    return f"bridges_{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def compile_ruleset(
    policy: Policy,
    machine: Machine,
    entries: Iterable[NumberedEntry],
) -> Ruleset:
    """The table that the policy means on this machine."""
    reads_names = machine.names and machine.watch.holds
    meant = policy if reads_names else policy.by_addresses()
    return _Compiler(meant, machine).ruleset(tuple(entries))


class _Compiler:
    def __init__(self, policy: Policy, machine: Machine) -> None:
        self.policy = policy
        self.machine = machine
        self.marks = MarkLayout(policy.mark_mask)
        self.audit = policy.mode is Mode.AUDIT
        self.bridges = bridges_name(policy.containers.interfaces)
        self.scopes = tuple(s for s in ScopeName if policy.scope_mode(s) is not ScopeMode.OFF)
        self.checks_names = machine.names and machine.watch.holds and bool(self.scopes)
        turns = machine.turning is not Turning.NONE and self.scopes and not self.audit
        self.flows = self._flows() if turns else None

    # -- the whole -----------------------------------------------------------------------------

    def ruleset(self, entries: tuple[NumberedEntry, ...]) -> Ruleset:
        resolvers = NumberedEntry(RESOLVERS, "trusted DNS servers", "resolvers")
        live = (resolvers, *entries)
        chains = [permit_chain(self.marks)]
        for scope in self.scopes:
            chains += self._scope_chains(scope)
        chains += self._base_chains()
        if self.scopes:
            chains += watch_chains(self.machine.watch, self._surroundings())
        if self.checks_names:
            chains += name_chains(self._checks())
        if self.flows:
            chains += turn_chains(self.flows)
        counters = {f"{scope}_refused" for scope in ScopeName}
        counters |= {f"{scope}_audited" for scope in ScopeName}
        counters |= {"revoked", "answers", "turned"}
        if self.checks_names:
            counters |= {"openings", "passed", "unread"}
        return Ruleset(tuple(chains), tuple(self._sets(live)), frozenset(counters))

    # -- sets ----------------------------------------------------------------------------------

    def _sets(self, live: tuple[NumberedEntry, ...]) -> Iterable[NamedSet]:
        yield NamedSet(
            self.bridges,
            ("ifname",),
            frozenset({"interval"}),
            elements=frozenset(self.policy.containers.interfaces),
        )
        yield NamedSet("uplinks", ("ifname",), elements=frozenset(self.machine.uplinks))
        ids = {e.entry_id for e in live}
        if self.audit:
            ids.add(AUDITED)
        if self.checks_names:
            awaited = unsettled_ids(self.scopes)
            ids |= awaited
            if any(self.policy.scope_mode(s) is ScopeMode.REGISTRIES for s in self.scopes):
                ids.add(PASSED)
            yield NamedSet("awaited", ("mark",), elements=self._values(awaited))
            yield from name_sets(self._checks(), [e.entry_id for e in live])
        yield NamedSet("live", ("mark",), counted=True, elements=self._values(ids))
        for scope, ports in (
            (ScopeName.CONTAINERS, self.policy.containers.registry_ports),
            (ScopeName.HOST, self.policy.host.registry_ports),
        ):
            if self.policy.scope_mode(scope) is ScopeMode.STRICT:
                judged = frozenset({*ports, DNS_OVER_TLS})
                yield NamedSet(f"{scope}_ports", ("inet_service",), elements=judged)
        for scope, level in self._cgroup_levels():
            yield NamedSet(
                f"{scope}_{level}",
                ("cgroupsv2",),
                elements=frozenset(self._cgroups_at(scope, level)),
            )
        yield from watch_sets(self.machine.watch, self._surroundings())
        if self.flows:
            yield from turn_sets()
        for stem in self._stems():
            yield NamedSet(f"{stem}4", KEY4, frozenset({"timeout"}), data=IDS)
            yield NamedSet(f"{stem}6", KEY6, frozenset({"timeout"}), data=IDS)
        for name in self._range_maps():
            yield NamedSet(
                name,
                KEY4 if name.endswith("4") else KEY6,
                frozenset({"interval", "timeout"}),
                data=IDS,
            )
        yield from permit_sets((e.entry_id, entry_comment(e)) for e in live)
        # Apart from the grants: an element with a jump has all others of its map validated again.
        yield NamedSet(
            ENTRIES,
            ("classid",),
            data=VERDICTS,
            elements=frozenset(Jump(e.entry_id, self._opened_by(e)) for e in live),
        )

    def _values(self, ids: Iterable[int]) -> frozenset[Element]:
        return frozenset(self.marks.value(entry_id) for entry_id in ids)

    def _opened_by(self, entry: NumberedEntry) -> str:
        """Where a flow to an address of the entry goes: its name may have to be read first."""
        waits = self.checks_names and entry.expects_name
        return "undecided" if waits else PERMIT

    def _cgroup_levels(self) -> list[tuple[ScopeName, int]]:
        """Which levels the patterns reach: one set and one rule for each."""
        if not self.machine.by_cgroup:
            return []
        patterns = {
            ScopeName.ENGINES: self.policy.engines.cgroups,
            ScopeName.CONTAINERS: self.policy.containers.cgroups,
        }
        return [
            (scope, level)
            for scope, globs in patterns.items()
            if scope in self.scopes
            for level in sorted({glob.count("/") + 1 for glob in globs})
        ]

    def _cgroups_at(self, scope: ScopeName, level: int) -> Iterable[Element]:
        found = (self.machine.cgroups or {}).get(scope, frozenset())
        return (c for c in found if c.level == level)

    def _stems(self) -> list[str]:
        """The map stems in use, the one for every scope first."""
        used = {stem for entry in self.policy.entries for stem in map_stems(entry, self.policy)}
        return [EVERY_SCOPE, *(str(s) for s in self.scopes if str(s) in used)]

    def _range_maps(self) -> list[str]:
        names = {
            map_name(stem, network, is_range=True)
            for entry in self.policy.entries
            for network in entry.networks
            if network.num_addresses > 1
            for stem in map_stems(entry, self.policy)
        }
        return sorted(names)

    # -- chains of a scope ---------------------------------------------------------------------

    def _scope_chains(self, scope: ScopeName) -> Iterable[Chain]:
        if self.policy.scope_mode(scope) is ScopeMode.REGISTRIES:
            yield from self._registries_chains(scope)
            return
        outside = self._outside(scope)
        judge, refuse, guard = f"judge_{scope}", f"refuse_{scope}", f"guard_{scope}"
        no_flow = Match(Field.CT_STATE, frozenset({"invalid", "untracked"}))
        not_syn = FlagsMatch(
            frozenset({"fin", "syn", "rst", "ack"}), frozenset({"syn"}), negated=True
        )
        yield Chain(
            judge,
            (
                *outside,
                (no_flow, goto(refuse)),
                (Match(Field.UDP_DPORT, 443), goto(refuse)),
                # With nf_conntrack_tcp_loose (the default) a mid-stream packet counts as new.
                (Match(Field.CT_STATE, frozenset({"new"})), not_syn, goto(refuse)),
                *self._lookups(scope),
                *self._unsettle(scope),
                (self._marked(0, negated=True), ACCEPT),
                *self._first_try(),
                (goto(refuse),),
            ),
        )
        if self.audit:
            audited = (Count(f"{scope}_audited"), self._mark(AUDITED))
            yield Chain(refuse, (log_refusal(scope, audited=True), audited))
            return
        refused = (Count(f"{scope}_refused"), self._mark(REFUSED))
        yield Chain(refuse, (log_refusal(scope), refused))
        yield Chain(
            guard,
            (
                *outside,
                log_refusal(scope),
                (Count(f"{scope}_refused"),),
                (Match(Field.CT_STATE, frozenset({"invalid"})), DROP),
                (goto("refusal"),),
            ),
        )

    def _registries_chains(self, scope: ScopeName) -> Iterable[Chain]:
        """Of a scope in which only registries are refused, by name, wherever they are."""
        invalid = Match(Field.CT_STATE, frozenset({"invalid", "untracked"}))
        # From a container, what conntrack cannot follow would leave with an address of its own.
        of_no_flow = DROP if scope is ScopeName.CONTAINERS and not self.audit else ACCEPT
        yield Chain(
            f"judge_{scope}",
            (
                self._to_bridges(),
                (Match(Field.OIFNAME, "lo"), ACCEPT),
                (Match(Field.L4PROTO, "tcp", negated=True), ACCEPT),
                (invalid, of_no_flow),
                *self._lookups(scope),
                (self._marked(UNDECIDED), goto(f"unsettle_{scope}")),
                (self._marked(0), goto(f"unsettle_{scope}")),
            ),
        )
        refused = (f"{scope}_audited", AUDITED) if self.audit else (f"{scope}_refused", REFUSED)
        marked = (Count(refused[0]), self._mark(refused[1]))
        yield Chain(f"refuse_{scope}", (log_refusal(scope, audited=self.audit), marked))

    def _to_bridges(self) -> Rule:
        return (
            Match(Field.OIFNAME, SetRef(self.bridges)),
            Match(Field.OIFNAME, SetRef("uplinks"), negated=True),
            ACCEPT,
        )

    def _unsettle(self, scope: ScopeName) -> Iterable[Rule]:
        if self.checks_names:
            yield self._marked(UNDECIDED), goto(f"unsettle_{scope}")

    def _first_try(self) -> Iterable[Rule]:
        """Where answers run ahead of us: drop a first SYN, for its repetition a second later.

        By then the copy of the answer has been read, and what it opens is open.
        """
        if self.machine.watch is not WatchForm.COPY or self.audit:
            return
        new = Match(Field.CT_STATE, frozenset({"new"}))
        for family, source, destination in (
            (4, Field.IP_SADDR, Field.IP_DADDR),
            (6, Field.IP6_SADDR, Field.IP6_DADDR),
        ):
            key, tried = (source, destination, Field.TCP_DPORT), f"tried{family}"
            yield new, InSet(key, tried, negated=True), Remember(key, tried), DROP

    def _outside(self, scope: ScopeName) -> tuple[Rule, ...]:
        """What the scope's mode leaves alone, the same for judge and guard."""
        to_bridges = self._to_bridges()
        if scope is ScopeName.ENGINES:
            return (
                (Match(Field.L4PROTO, "icmp"), ACCEPT),
                (Match(Field.L4PROTO, "ipv6-icmp"), ACCEPT),
                to_bridges,
            )
        return (
            to_bridges,
            (Match(Field.OIFNAME, "lo"), ACCEPT),
            (Match(Field.TCP_DPORT, SetRef(f"{scope}_ports"), negated=True), ACCEPT),
            (Match(Field.UDP_DPORT, 443, negated=True), ACCEPT),
            (
                Match(Field.L4PROTO, "tcp", negated=True),
                Match(Field.L4PROTO, "udp", negated=True),
                ACCEPT,
            ),
        )

    def _lookups(self, scope: ScopeName) -> Iterable[Rule]:
        """Ask each map, and go by the entry that has the flow."""
        yield from self._tags(scope)
        yield (Dispatch(ENTRIES),)
        yield (Untag(),)

    def _tags(self, scope: ScopeName) -> Iterable[Rule]:
        """Of the maps that know the address the last has the flow: exact after range.

        The id stands in the packet's priority, for no map can write a part of a mark. A sender
        may have set the priority, so it is emptied before.
        """
        stems = [stem for stem in self._stems() if stem in (EVERY_SCOPE, str(scope))][::-1]
        ranges = self._range_maps()
        yield (Untag(),)
        for family, address in ((4, Field.IP_DADDR), (6, Field.IP6_DADDR)):
            key = (address, Field.L4PROTO, Field.TH_DPORT)
            names = [name for stem in stems if (name := f"{stem}_ranges{family}") in ranges]
            names += [f"{stem}{family}" for stem in stems]
            yield from ((Tag(key, name),) for name in names)

    # -- base chains ---------------------------------------------------------------------------

    def _base_chains(self) -> Iterable[Chain]:
        reply: Rule = (Match(Field.CT_DIRECTION, "reply"), ACCEPT)
        judged: Rule = (self._marked(0, negated=True), ACCEPT)
        live = Match(Masked(Field.CT_MARK, self.marks.mask), SetRef("live"))
        from_bridges = (
            Match(Field.IIFNAME, SetRef(self.bridges)),
            Match(Field.IIFNAME, SetRef("uplinks"), negated=True),
        )
        forwarded = ScopeName.CONTAINERS in self.scopes
        guarded: list[Rule] = []
        if self.policy.containers.mode is ScopeMode.STRICT:
            guarded.append((*from_bridges, goto("guard_containers")))
        verdict = [takes_verdict(self.marks)] if self.checks_names else []
        if self.scopes:
            yield Chain(
                "judge_output",
                (reply, judged, *self._by_socket("judge")),
                Hook("output", JUDGE_PRIORITY),
            )
            yield Chain(
                "account_input",
                ((Match(Field.CT_DIRECTION, "reply"), live, ACCEPT),),
                Hook("input", GUARD_PRIORITY),
            )
        if forwarded:
            yield Chain(
                "judge_forward",
                (reply, judged, (*from_bridges, goto("judge_containers"))),
                Hook("forward", JUDGE_PRIORITY),
            )
        if self.audit:
            # Nothing is refused; the guard's place in the hook only counts.
            if self.scopes:
                yield Chain(
                    "guard_output",
                    (reply, *verdict, (live, ACCEPT)),
                    Hook("output", GUARD_PRIORITY),
                )
            if forwarded:
                yield Chain(
                    "guard_forward", (*verdict, (live, ACCEPT)), Hook("forward", GUARD_PRIORITY)
                )
            return
        not_live: Rule = (self._marked(0, negated=True), goto("refuse_marked"))
        # A flow on which an answer was forged goes on; only nothing is learned from it.
        forged = [
            (self._marked(FORGED), Match(port, 53), ACCEPT)
            for port in (Field.UDP_DPORT, Field.TCP_DPORT)
        ]
        if self.scopes:
            yield Chain(
                "guard_output",
                (
                    *(reply, *verdict, (live, ACCEPT), *forged),
                    *((turned_to_explainer(self._marked(REFUSED)),) if self.flows else ()),
                    *(not_live, *self._by_socket("guard")),
                ),
                Hook("output", GUARD_PRIORITY),
            )
        if forwarded:
            yield Chain(
                "guard_forward",
                (
                    *verdict,
                    (live, ACCEPT),
                    reply,
                    not_live,
                    *guarded,
                ),
                Hook("forward", GUARD_PRIORITY),
            )
        yield Chain(
            "refuse_marked",
            (
                awaits_id(self.marks),
                *(self._answered() if self.checks_names else ()),
                (self._marked(REFUSED), goto("refusal")),
                log_refusal(None),
                (Count("revoked"), goto("refusal")),
            ),
        )
        if forwarded:
            yield as_sent()
        yield Chain(
            "refusal",
            (
                *(undo_nat(self.bridges) if forwarded else ()),
                (Match(Field.L4PROTO, "tcp"), Reject("tcp reset")),
                (Reject("icmpx admin-prohibited"),),
            ),
        )

    def _surroundings(self) -> Surroundings:
        by_cgroup = tuple(
            (Match(SocketCgroup(level), SetRef(f"{scope}_{level}")),)
            for scope, level in self._cgroup_levels()
        )
        return Surroundings(
            bridges=self.bridges,
            by_socket=((),) if ScopeName.HOST in self.scopes else by_cgroup,
            by_cgroup=by_cgroup,
            forged=self._mark(FORGED),
            is_forged=self._marked(FORGED),
            forwards=ScopeName.CONTAINERS in self.scopes,
            servers=self.machine.servers,
            fronts=self._fronts(),
        )

    def _fronts(self) -> Fronts | None:
        if not self.machine.tells_answers or too_short(self.policy.patterns):
            return None
        return fronts(self.policy.patterns)

    def _checks(self) -> Checks:
        of_containers = tuple(
            (Match(SocketCgroup(level), SetRef(f"{scope}_{level}")),)
            for scope, level in self._cgroup_levels()
            if scope is ScopeName.CONTAINERS
        )
        return Checks(
            self.marks,
            {scope: self.policy.scope_mode(scope) for scope in self.scopes},
            self.bridges,
            of_containers,
            is_native=self.machine.watch is WatchForm.NATIVE,
            forwards=ScopeName.CONTAINERS in self.scopes,
            audit=self.audit,
        )

    def _flows(self) -> Flows:
        return Flows(
            bridges=self.bridges,
            patterns=self.policy.containers.interfaces,
            uplinks=self.machine.uplinks,
            ports=f"{ScopeName.CONTAINERS}_ports",
            unmarked=self._marked(0),
            is_refused=self._marked(REFUSED),
            refuse=self._mark(REFUSED),
            lookups=tuple(self._tags(ScopeName.CONTAINERS)),
            tried_once=self.machine.watch is WatchForm.COPY,
            log=log_refusal(ScopeName.CONTAINERS),
            # In mode `registries` connections are refused by their names: too late to turn them.
            containers=(
                self.machine.turning is Turning.ALL
                and self.policy.containers.mode is ScopeMode.STRICT
            ),
        )

    def _by_socket(self, step: str) -> Iterable[Rule]:
        """Whose packet it is, engines before containers before the rest of the host."""

        def leads(scope: ScopeName) -> Verdict:
            is_open = self.policy.scope_mode(scope) is ScopeMode.REGISTRIES
            return ACCEPT if step == "guard" and is_open else goto(f"{step}_{scope}")

        for scope, level in self._cgroup_levels():
            yield (Match(SocketCgroup(level), SetRef(f"{scope}_{level}")), leads(scope))
        if ScopeName.HOST in self.scopes:
            if step == "judge" and self.checks_names and self.policy.probes:
                yield own_question(self.marks)
            yield (leads(ScopeName.HOST),)

    # -- marks ---------------------------------------------------------------------------------

    def _answered(self) -> tuple[Rule, Rule]:
        return awaits_answer(self.marks), awaits_no_answer(self.marks)

    def _mark(self, entry_id: int) -> SetMark:
        return set_mark(self.marks, entry_id)

    def _marked(self, entry_id: int, *, negated: bool = False) -> Match:
        return marked(self.marks, entry_id, negated=negated)
