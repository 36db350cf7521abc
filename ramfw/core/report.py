"""report(engine, counts, tally, now) -> what `ramfw status` shows, as a plain dictionary.

Pure. Times are seconds, relative to `now`. The shape is documented in docs/json.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from ipaddress import ip_address
from typing import Any, TypeVar

from ramfw.core.catalog_report import in_force
from ramfw.core.engine import Engine
from ramfw.core.events import WatchChanged
from ramfw.core.fqdn import matches
from ramfw.core.leases import LONGEST_STALE
from ramfw.core.marks import MarkLayout
from ramfw.core.name_fronts import too_short
from ramfw.core.names_report import Beside, names_problems, names_report
from ramfw.core.policy import Entry, Mode, Policy, ScopeMode, ScopeName, Target
from ramfw.core.questions import Tally
from ramfw.core.refusals import facts as refusal_facts
from ramfw.core.tablestate import Count, Counts
from ramfw.core.turn_rules import EXPLAINER_PORT
from ramfw.core.watch_rules import WatchForm

Report = dict[str, Any]
T = TypeVar("T")
NOTHING = Count()
NOTHING_BESIDE = Beside()
RECENT = 3600.0
"""Seconds for which somebody's change of the rules is an alarm."""


LATEST_REFUSALS = 5


class Stream(list[T]):
    """A list whose items are made while it is gone through, once: they may be many."""

    def __init__(self, items: Iterator[T], count: int) -> None:
        super().__init__()
        self._items, self._count = items, count

    def __iter__(self) -> Iterator[T]:
        return self._items

    def __len__(self) -> int:
        return self._count


def report(  # noqa: PLR0913 - all that a status tells of
    engine: Engine,
    counts: Counts,
    tally: Tally,
    now: float,
    viewer: int = 0,
    *,
    beside: Beside = NOTHING_BESIDE,
    stream: bool = False,
) -> Report:
    """Everything that is enforced, and what is not and why; `viewer` is the user who asks.

    With `stream`, the entries are a `Stream`, each as of the moment when it is come to.
    """
    policy = engine.policy
    if policy is None:
        raise ValueError("no policy was loaded")
    facts, health = engine.facts, engine.health
    servers, links = facts.servers, facts.links
    entries = (
        _entry(engine, entry_id, entry, counts, now)
        for entry_id, entry in engine.numbering.entries.items()
    )
    return {
        "organization": {
            "name": policy.organization.name,
            "contact": policy.organization.contact,
        },
        "mode": str(policy.mode),
        "in_force": engine.in_force,
        "settled": engine.settled,
        "verified_ago": None if health.verified_at is None else now - health.verified_at,
        "scopes": [_scope(engine, policy, scope, counts) for scope in ScopeName],
        "entries": Stream(entries, len(engine.numbering.entries)) if stream else list(entries),
        "dns": {
            "servers": [str(server) for server in servers.servers] if servers else [],
            "upstream": [str(server) for server in servers.upstream] if servers else [],
            "former": [str(server) for server in servers.former] if servers else [],
            "problem": servers.problem if servers else "the DNS servers are not known yet",
        },
        "watch": {
            "form": str(facts.watch.form) if facts.watch else "none",
            "problem": facts.watch.problem if facts.watch else "not begun yet",
            **_held(facts.watch, policy),
            "answers_learned": health.answers_learned,
            "answers_beyond_bound": health.answers_beyond_bound,
            **asdict(tally),
        },
        "by_cgroup": facts.by_cgroup,
        "names": names_report(
            engine.name_check, counts, beside, now, checked=_checks_names(engine), viewer=viewer
        ),
        "links": {
            "bridges": sorted(links.bridges) if links else [],
            "uplinks": sorted(links.uplinks) if links else [],
            "unfollowed": sorted(links.unfollowed) if links else [],
        },
        "explainer": {
            "turning": str(facts.turning.turning) if facts.turning else "none",
            "problem": facts.turning.problem if facts.turning else "not begun yet",
            "turned": counts.named.get("turned", NOTHING).packets,
            "unheard": sorted(counts.unheard),
        },
        "refusals": [
            refusal_facts(record, now)
            for record in list(engine.refusals.since(0, viewer))[-LATEST_REFUSALS:]
        ],
        "revoked": _count(counts.named.get("revoked", NOTHING)),
        "catalog": in_force(policy.catalog),
        "canary": {
            "holds": facts.canary.holds if facts.canary else None,
            "detail": facts.canary.detail if facts.canary else "",
            "ago": None if health.canary_at is None else now - health.canary_at,
        },
        "tampering": [
            {
                "program": touch.program,
                "pid": touch.pid,
                "ago": now - touch.at,
                "mended_after": None if touch.mended_at is None else touch.mended_at - touch.at,
            }
            for touch in health.touches
        ],
        "alarms": list(_alarms(engine, now)),
        "policy_problems": list(health.policy_problems),
        "problems": [
            {"what": what, "follows": follows, "mend": mend}
            for problems in (
                _problems(engine, policy, counts, beside),
                _unexplained(engine, policy, counts),
            )
            for what, follows, mend in problems
        ],
        "kernel": {
            "rejections": health.rejections,
            "last_rejection": health.last_rejection,
            "mismatches": health.mismatches,
        },
    }


def _count(count: Count) -> Report:
    return {"packets": count.packets, "bytes": count.bytes}


def _scope(engine: Engine, policy: Policy, scope: ScopeName, counts: Counts) -> Report:
    cgroups = engine.facts.cgroups
    interfaces: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    is_strict = policy.scope_mode(scope) is ScopeMode.STRICT
    match scope:
        case ScopeName.CONTAINERS:
            interfaces = policy.containers.interfaces
            ports = policy.containers.registry_ports if is_strict else ()
        case ScopeName.HOST:
            ports = policy.host.registry_ports if is_strict else ()
        case ScopeName.ENGINES:
            pass
    found = {
        cgroup.path for cgroup, _ in (cgroups.cgroups if cgroups else ()) if cgroup.scope is scope
    }
    return {
        "name": str(scope),
        "mode": str(policy.scope_mode(scope)),
        "refused": _count(counts.named.get(f"{scope}_refused", NOTHING)),
        "audited": _count(counts.named.get(f"{scope}_audited", NOTHING)),
        "cgroups": sorted(found),
        "interfaces": list(interfaces),
        "registry_ports": list(ports),
    }


def _entry(engine: Engine, entry_id: int, entry: Entry, counts: Counts, now: float) -> Report:
    policy = engine.policy
    mark = MarkLayout(policy.mark_mask).value(entry_id) if policy else 0
    return {
        "id": entry_id,
        "label": entry.label,
        "kind": str(entry.kind),
        "scopes": [str(scope) for scope in ScopeName if scope in entry.scopes],
        "connections": counts.connections.get(entry_id, NOTHING).packets,
        "bytes": counts.live.get(mark, NOTHING).bytes,
        "hosts": [_host(engine, target, now) for target in entry.targets],
        "networks": [str(network) for network in entry.networks],
    }


def _host(engine: Engine, target: Target, now: float) -> Report:
    state = engine.names.state(target.pattern)
    good = state.last_good if state else None
    failing = state is not None and state.failures > 0
    return {
        "name": target.pattern,
        "ports": list(target.ports),
        "role": target.role,
        "addresses": [
            {
                "address": str(ip_address(address)),
                "name": name,
                "expires_in": lease.expires - now,
                "server": lease.server,
                "learned_ago": now - lease.learned,
            }
            for name in _names(engine, target)
            for address, lease in engine.leases.of_name(name).items()
        ],
        "next_refresh_in": None if state is None or state.asked else max(0.0, state.due - now),
        "last_good_ago": None if good is None else now - good,
        "serving_stale_for": (
            max(0.0, good + LONGEST_STALE - now) if failing and good is not None else None
        ),
        "problem": _host_problem(engine, target),
    }


def _names(engine: Engine, target: Target) -> list[str]:
    """The names with leases that a host of the policy stands for."""
    if not target.is_wildcard:
        return [target.pattern]
    return [name for name in engine.leases.names() if matches(target.pattern, name)]


def _host_problem(engine: Engine, target: Target) -> str:
    state = engine.names.state(target.pattern)
    if target.is_wildcard:
        watch = engine.facts.watch
        if watch is None or watch.form is WatchForm.NONE:
            return "learned from DNS answers, which are not watched here: it opens nothing"
        return ""
    if state is None or not state.tried:
        return "not asked for yet"
    failed = [
        f"{reply.server}: {reply.outcome}"
        for reply in state.replies
        if not reply.outcome.startswith("ok")
    ]
    if state.failures:
        return "; ".join(failed) or "no DNS server is known"
    return ""


def _alarms(engine: Engine, now: float) -> Iterator[str]:
    """What is not as it is meant to be now, a sentence each; what cannot be is a problem."""
    facts, health = engine.facts, engine.health
    if not engine.in_force:
        yield "the rules are not in force"
    recent = [touch for touch in health.touches if now - touch.at < RECENT]
    if recent:
        who = ", ".join(dict.fromkeys(f"{touch.program} (pid {touch.pid})" for touch in recent))
        yield f"within the hour others changed the rules, which were put right: {who}"
    if facts.canary and not facts.canary.holds:
        yield f"the filter does not hold: {facts.canary.detail}"
    if health.canary_due is not None and health.canary_due < now:
        yield "the filter was not tested from inside for minutes: systemctl status ramfw-canary"
    if health.policy_problems:
        yield "the policy file is bad, and the last good policy is in force: ramfw check"


def _checks_names(engine: Engine) -> bool:
    watch = engine.facts.watch
    return watch is not None and watch.names


def _problems(
    engine: Engine, policy: Policy, counts: Counts, beside: Beside
) -> Iterator[tuple[str, str, str]]:
    facts = engine.facts
    if policy.mode is Mode.AUDIT:
        yield (
            "audit mode",
            "nothing is refused, only counted",
            'write mode = "enforce" under [enforcement], then ramfw reload',
        )
    off = [str(s) for s in ScopeName if policy.scope_mode(s) is ScopeMode.OFF]
    if off:
        yield (
            f"scopes that are off: {', '.join(off)}",
            "what they send is neither refused nor counted",
            f'mode = "strict" under [scopes.{off[0]}]',
        )
    yield from _catalog_problem(policy)
    checks = _checks_names(engine)
    yield from names_problems(engine.name_check, policy, counts, beside, checked=checks)
    if any(entry.kind == "proxy" for entry in policy.entries) and not _checks_names(engine):
        yield (
            "what is asked of a permitted proxy is not checked",
            "a client can reach any registry that the proxy lets through",
            "filter CONNECT on the proxy",
        )
    yield from _engine_problems(engine, policy)
    if facts.links and facts.links.unfollowed:
        yield (
            f"macvlan or ipvlan interfaces: {', '.join(sorted(facts.links.unfollowed))}",
            "containers on them reach the wire without passing this host's filter",
            "use bridge networks",
        )
    if facts.watch and facts.watch.problem:
        yield (
            facts.watch.problem,
            _without_holding(facts.watch.form),
            "a kernel with CONFIG_NFT_QUEUE, or its module: modprobe nft_queue",
        )
    if facts.servers and facts.servers.problem:
        yield facts.servers.problem, "no name can be resolved", "[dns] servers = [...]"
    if engine.health.last_rejection and not engine.in_force:
        yield (
            f"the kernel refused the last change: {engine.health.last_rejection}",
            "the rules in the kernel are those of before",
            "ramfw doctor",
        )


def _catalog_problem(policy: Policy) -> Iterator[tuple[str, str, str]]:
    if policy.catalog.problem:
        yield (
            f"the organization's catalogue cannot be used: {policy.catalog.problem}",
            f"the one that ramfw ships is in force (edition {policy.catalog.edition})",
            "mend the file, then ramfw reload",
        )


def _unexplained(engine: Engine, policy: Policy, counts: Counts) -> Iterator[tuple[str, str, str]]:
    turning = engine.facts.turning
    if turning and turning.problem and policy.mode is Mode.ENFORCE:
        follows = "not all refused connections are told why"
        yield turning.problem, follows, "a kernel that has it, or its module"
    bridges = engine.facts.links.bridges if engine.facts.links else frozenset()
    for interface in sorted(counts.unheard):
        mend = f"let the host's own firewall take tcp port {EXPLAINER_PORT}"
        if interface in bridges:
            mend += f": ufw allow in on {interface} to any port {EXPLAINER_PORT} proto tcp"
        yield (
            f"connections that are turned to the explainer do not arrive ({interface})",
            "they are refused without a word of explanation",
            mend,
        )


def _engine_problems(engine: Engine, policy: Policy) -> Iterator[tuple[str, str, str]]:
    """What keeps engines from being told from the rest of the host."""
    facts = engine.facts
    if not facts.by_cgroup:
        yield (
            "this kernel cannot tell sockets by their cgroup (no CONFIG_NFT_SOCKET)",
            "engines, and containers on the host's network, are judged as the rest of the host is"
            + ("" if policy.host.mode is not ScopeMode.OFF else ": not at all"),
            'mode = "strict" under [scopes.host], then ramfw reload',
        )
    elif facts.cgroups and facts.cgroups.problem:
        yield (
            facts.cgroups.problem,
            "engines are not told from the rest of the host",
            "ramfw doctor",
        )
    elif policy.engines.mode is not ScopeMode.OFF and not _engine_exists(engine):
        follows = "one that starts is followed within milliseconds of its cgroup's making"
        yield (
            "no cgroup of an engine exists now",
            f"{follows}; in a slice that is kept, from its first packet",
            "start the engine with Slice=engines.slice",
        )


def _held(watch: WatchChanged | None, policy: Policy) -> dict[str, str]:
    """Which answers wait in the kernel: those that may be to a permitted name, or all, and why."""
    if watch is None or not watch.form.holds:
        return {"held": "none", "held_because": ""}
    because = "" if watch.tells_answers else watch.tells_problem
    if watch.tells_answers and (short := too_short(policy.patterns)):
        because = f"{short} is too short for the kernel to know it"
    held = "permitted" if watch.tells_answers and not because else "all"
    return {"held": held, "held_because": because}


def _without_holding(form: WatchForm) -> str:
    if form is WatchForm.COPY:
        return "answers are copied, not held: a first connection may take a second longer"
    return "only names that are resolved ahead are open; wildcards open nothing"


def _engine_exists(engine: Engine) -> bool:
    facts = engine.facts.cgroups
    found = facts.cgroups if facts else frozenset()
    return any(cgroup.scope is ScopeName.ENGINES for cgroup, _ in found)
