"""What would have been refused, gathered by name, and the policy that would permit it.

Pure. Audit mode feeds it with what the kernel shows: of each scope's would-be refusals so many in
a second, so that counts are no more than a measure. Names are those for which a trusted server gave
the address lately. What is gathered is bounded, so that somebody who tries a million names does not
fill the memory; what was forgotten is counted. A suggestion is for a person to read: catalogue
entries first, then exact hosts, never a wildcard, and what could do harm stands in comments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from ramfw.core import fqdn
from ramfw.core.addresses import special_use
from ramfw.core.catalog import Catalog, Known
from ramfw.core.catalog_report import in_force
from ramfw.core.events import Address
from ramfw.core.policy import Entry, Policy, Protocol, ScopeName
from ramfw.core.policy_lints import allow_lines
from ramfw.core.reference import HTTPS_PORT

MOST_GATHERED = 2048
"""Names or addresses, each with its port; the one that was quiet for longest goes first."""
MOST_WHO = 8
"""Those who asked that are told of one name."""

Facts = dict[str, Any]
_Where = tuple[str, int, str]
"""A name or an address, a port, a protocol."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A connection that would have been refused.

    `names` are those that the address was given for, the likeliest first. `who` is in words: whose
    socket it was, or a container's address.
    """

    scope: ScopeName
    address: Address
    port: int
    protocol: str
    names: tuple[str, ...] = ()
    who: str = ""


@dataclass(slots=True)
class Gathered:
    """All attempts to reach one name or address on one port."""

    where: str
    port: int
    protocol: str
    has_name: bool
    first: float
    last: float
    count: int = 0
    scopes: set[ScopeName] = field(default_factory=set)
    who: dict[str, None] = field(default_factory=dict)
    other_names: dict[str, None] = field(default_factory=dict)


class Learning:
    """The attempts since the daemon began, the latest last."""

    def __init__(self) -> None:
        self._gathered: dict[_Where, Gathered] = {}
        self.forgotten = 0
        """Names or addresses that there was no room for."""

    def __len__(self) -> int:
        return len(self._gathered)

    def __iter__(self) -> Iterator[Gathered]:
        return iter(self._gathered.values())

    def note(self, attempt: Attempt, now: float) -> None:
        """Count an attempt; `now` is on the engine's clock, in seconds."""
        name = attempt.names[0] if attempt.names else ""
        key = (name or str(attempt.address), attempt.port, attempt.protocol)
        found = self._gathered.pop(key, None)
        if found is None:
            found = Gathered(*key, has_name=bool(name), first=now, last=now)
        found.count += 1
        found.last = now
        found.scopes.add(attempt.scope)
        if attempt.who and len(found.who) < MOST_WHO:
            found.who[attempt.who] = None
        for other in attempt.names[1:]:
            if len(found.other_names) < MOST_WHO:
                found.other_names[other] = None
        self._gathered[key] = found
        if len(self._gathered) > MOST_GATHERED:
            del self._gathered[next(iter(self._gathered))]
            self.forgotten += 1


@dataclass(slots=True)
class _Suggestion:
    """Lines of an entry, and all that it would permit of what was gathered."""

    lines: str
    doubt: str = ""
    """Why it is only a comment."""
    gathered: list[Gathered] = field(default_factory=list)


def suggestion(learning: Learning, policy: Policy, now: float) -> Facts:
    """What `ramfw suggest` tells (docs/json.md)."""
    made = _Suggester(policy).suggestions(list(learning))
    return {
        "catalog": in_force(policy.catalog),
        "mode": str(policy.mode),
        "entries": [_facts(one, now) for one in made],
        "forgotten": learning.forgotten,
    }


class _Suggester:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._catalog: Catalog = policy.catalog
        self._registries: dict[str, _Suggestion] = {}
        self._others: dict[str, _Suggestion] = {}
        self._brought: dict[str, _Suggestion] = {}
        """By pattern: the registry's entry that brings a host."""
        self._named: dict[str, list[tuple[tuple[int, ...], Entry]]] = {}
        """By pattern: the entries of the policy that name a host, with their ports."""
        for entry in policy.entries:
            for target in entry.targets:
                self._named.setdefault(target.pattern, []).append((target.ports, entry))

    def suggestions(self, gathered: list[Gathered]) -> list[_Suggestion]:
        """Registries by their api hosts; then what is theirs; then what is nobody's."""
        often = sorted(
            (one for one in gathered if not self._is_permitted(one)), key=lambda one: -one.count
        )
        rest = [one for one in often if not self._is_api(one)]
        rest = [one for one in rest if not self._is_switched_off(one)]
        rest = [one for one in rest if not self._is_of_registry(one)]
        for one in rest:
            self._by_itself(one)
        registries = list(self._registries.values())
        sure = [one for one in self._others.values() if not one.doubt]
        doubtful = [one for one in self._others.values() if one.doubt]
        return [*registries, *sure, *doubtful]

    def _is_permitted(self, one: Gathered) -> bool:
        """Whether the policy, as it is by now, permits it to all who tried."""
        permits = {scope for entry in self._permitting(one) for scope in entry.scopes}
        return one.scopes <= permits

    def _permitting(self, one: Gathered) -> Iterator[Entry]:
        if one.has_name:
            for pattern in _patterns(one.where) if one.protocol == Protocol.TCP else ():
                for ports, entry in self._named.get(pattern, ()):
                    if one.port in ports:
                        yield entry
            return
        address = ip_address(one.where)
        for entry in self._policy.entries:
            is_meant = one.protocol == entry.protocol and one.port in entry.ports
            if is_meant and any(address in network for network in entry.networks):
                yield entry

    def _is_api(self, one: Gathered) -> bool:
        known = self._catalog.identify(one.where) if self._is_https(one) else None
        if known is None or not self._is_whole(known):
            return False
        self._suggest(known, one)
        return True

    def _is_switched_off(self, one: Gathered) -> bool:
        """A host that the catalogue has with a registry of the policy, and that is off."""
        for known in self._catalog.owners(one.where) if self._is_https(one) else ():
            for entry in self._policy.entries:
                if entry.registry == known.registry.id and known.host.why_not:
                    doubt = (
                        f"belongs in the entry `{entry.label}` (line {entry.line}); it is off by "
                        f"default: {known.host.why_not}"
                    )
                    pattern = known.host.filled(known.values).pattern
                    self._add(f'include = ["{pattern}"]', doubt, one)
                    return True
        return False

    def _is_of_registry(self, one: Gathered) -> bool:
        """A host for layers or sign-in, of a registry that is asked for or is the only owner."""
        if not self._is_https(one):
            return False
        for pattern in _patterns(one.where):
            if pattern in self._brought:
                self._brought[pattern].gathered.append(one)
                return True
        owners = [
            known
            for known in self._catalog.owners(one.where)
            if not known.host.why_not and self._is_whole(known)
        ]
        if len({known.registry.id for known in owners}) != 1:
            return False
        self._suggest(owners[0], one)
        return True

    def _suggest(self, known: Known, one: Gathered) -> None:
        lines = f"[[allow]]\n{allow_lines(known)}"
        if lines not in self._registries:
            suggested = self._registries[lines] = _Suggestion(lines)
            for host in self._catalog.hosts(known.registry, known.values):
                self._brought.setdefault(host.pattern, suggested)
        self._registries[lines].gathered.append(one)

    def _is_https(self, one: Gathered) -> bool:
        return one.has_name and (one.port, one.protocol) == (HTTPS_PORT, Protocol.TCP)

    def _is_whole(self, known: Known) -> bool:
        """Whether the name says all that an entry needs, and the entry would permit it."""
        needs = {p.name for p in known.registry.placeholders if not p.optional}
        if known.registry.refused or known.registry.danger or not needs <= known.values.keys():
            return False
        return not known.host.why_not

    def _by_itself(self, one: Gathered) -> None:
        self._add("\n".join(self._lines(one)), self._doubt(one), one)

    def _add(self, lines: str, doubt: str, one: Gathered) -> None:
        self._others.setdefault(lines + doubt, _Suggestion(lines, doubt)).gathered.append(one)

    def _lines(self, one: Gathered) -> Iterator[str]:
        yield "[[allow]]"
        yield f'{"host" if one.has_name else "address"} = "{one.where}"'
        if one.port != HTTPS_PORT or one.protocol != Protocol.TCP:
            yield f"ports = [{one.port}]"
        if one.protocol == Protocol.UDP:
            yield 'protocol = "udp"'

    def _doubt(self, one: Gathered) -> str:
        """Why this is better not permitted, or cannot be; empty if nothing is known against it."""
        if one.protocol not in set(Protocol):
            return f"protocol {one.protocol} cannot be permitted: registries speak TCP"
        if one.protocol == Protocol.UDP and one.port == HTTPS_PORT:
            return "UDP 443 is never permitted: clients fall back to TCP"
        if not one.has_name:
            return self._doubt_of_address(one.where)
        if one.protocol == Protocol.UDP:
            return "a name is permitted for TCP alone; write the address"
        try:
            fqdn.canonical(one.where)
        except ValueError as error:
            return str(error)
        known = self._catalog.identify(one.where)
        broad = self._catalog.broad_name(one.where)
        if known is not None and (known.registry.refused or known.registry.danger):
            return known.registry.refused or known.registry.danger
        return broad.danger if broad else ""

    def _doubt_of_address(self, text: str) -> str:
        reason = special_use(ip_address(text))
        if reason and reason != "loopback":
            return f"{reason} addresses are never permitted"
        return "no name was seen for it: whatever is at this address would be permitted"


def _patterns(name: str) -> Iterator[str]:
    """The name, and each wildcard that covers it, the narrowest first."""
    yield name
    labels = name.split(".")
    for count in range(1, len(labels)):
        yield "*." + ".".join(labels[count:])


def _facts(one: _Suggestion, now: float) -> Facts:
    return {
        "lines": one.lines,
        "doubt": one.doubt,
        "connections": sum(found.count for found in one.gathered),
        "scopes": [str(s) for s in ScopeName if any(s in found.scopes for found in one.gathered)],
        "who": list(dict.fromkeys(who for found in one.gathered for who in found.who))[:MOST_WHO],
        "reached_for": [
            {
                "host": found.where,
                "port": found.port,
                "protocol": found.protocol,
                "connections": found.count,
                "first_ago": now - found.first,
                "last_ago": now - found.last,
                "other_names": list(found.other_names),
            }
            for found in _by_count(one.gathered)
        ],
    }


def _by_count(gathered: Iterable[Gathered]) -> list[Gathered]:
    return sorted(gathered, key=lambda found: -found.count)
