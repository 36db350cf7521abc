"""Why something is permitted or refused, as a plain dictionary (docs/json.md).

Pure. `explain` asks the engine, which knows addresses; `explain_policy` has only the policy, for
when no daemon runs. Both say what the policy means and what follows for each scope; neither asks
anybody anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from ramfw.core import reference
from ramfw.core.addresses import special_use
from ramfw.core.catalog import Known
from ramfw.core.engine import Engine
from ramfw.core.events import Refusal
from ramfw.core.fqdn import matches
from ramfw.core.grants import DNS_PORT
from ramfw.core.policy import (
    Entry,
    EntryKind,
    Mode,
    Policy,
    Protocol,
    ScopeMode,
    ScopeName,
    UnknownHosts,
)
from ramfw.core.policy_lints import allow_lines
from ramfw.core.policy_networks import written
from ramfw.core.probe import Found
from ramfw.core.probe import Place as Asked
from ramfw.core.reference import HTTPS_PORT, Kind, Reference
from ramfw.core.refusals import facts
from ramfw.core.registries import Role
from ramfw.core.watch_rules import WatchForm

Explanation = dict[str, Any]
Address = IPv4Address | IPv6Address

RESOLVERS_LABEL = "trusted DNS servers"


MOST_REFUSALS = 3


def explain(engine: Engine, query: str, now: float, viewer: int = 0) -> Explanation:
    """What the running program does with an image, a host or an address, and why.

    And what it refused there lately, as far as the user may know who asks, `viewer`.
    Raises ValueError where the query is none of the three, or no policy was loaded.
    """
    if engine.policy is None:
        raise ValueError("no policy was loaded")
    explanation = _Explainer(engine.policy, engine, now).explanation(query)
    hosts = [host["host"] for host in explanation["hosts"]]
    refused = [
        record for record in engine.refusals.since(0, viewer) if _is_of(record.refusal, hosts)
    ]
    latest = refused[-MOST_REFUSALS:][::-1]
    return {**explanation, "refused": [facts(record, now) for record in latest]}


def explain_policy(policy: Policy, query: str) -> Explanation:
    """The same from the policy alone: no address is known. Raises ValueError as `explain`."""
    return _Explainer(policy, None, 0.0).explanation(query)


def _is_of(refusal: Refusal, hosts: Iterable[str]) -> bool:
    """Whether one of these names, patterns or addresses is what was asked for."""
    asked = refusal.names or (str(refusal.destination),)
    return any(name == host or matches(host, name) for name in asked for host in hosts)


@dataclass(frozen=True, slots=True)
class _Place:
    """Something to connect to: a host or a range, a port, and what the catalogue says of it."""

    host: str
    port: int
    protocol: Protocol = Protocol.TCP
    role: str = ""
    needed: str = ""
    shared: str = ""
    is_loopback: bool = False


class _Explainer:
    def __init__(self, policy: Policy, engine: Engine | None, now: float) -> None:
        self._policy = policy
        self._catalog = policy.catalog
        self._engine = engine
        self._now = now
        self._judged = tuple(s for s in ScopeName if policy.scope_mode(s) is not ScopeMode.OFF)

    # -- the whole -----------------------------------------------------------------------------

    def explanation(self, query: str) -> Explanation:
        asked = self._read(query)
        registry = self._registry(asked)
        entry = None if registry else self._entry_of_own_kind(asked)
        addresses = _addresses(asked)
        if addresses:
            hosts = [host for address in addresses for host in self._at(address, asked.port)]
        elif registry is not None:
            hosts = [self._named(place) for place in self._places(registry, asked)]
        elif entry is not None:
            hosts = [self._named(place) for place in _places_of(entry)]
        else:
            hosts = [self._named(_Place(asked.host, port)) for port in self._ports(asked)]
        if registry is not None or entry is not None:
            permitted = _is_usable(hosts, asked)
        else:
            permitted = any(host["permitted"] for host in hosts)
        return {
            "query": query,
            "kind": str(asked.kind),
            "registry": _registry_name(asked, registry),
            "repository": asked.repository,
            "permitted": permitted,
            "hosts": hosts,
            "hint": "" if permitted else self._hint(asked, registry, addresses),
            "notes": list(self._notes(hosts, registry, permitted=permitted)),
            "daemon_running": self._engine is not None,
            "refused": [],
        }

    def _read(self, query: str) -> Reference:
        asked = reference.parse(query)
        before, _, after = query.lower().partition(":")
        single = asked.kind is Kind.IMAGE and "/" not in query and before in self._exact_names()
        if single and (not after or after.isdigit()):
            # Without a dot docker takes it for an image; the policy's author took it for a host.
            return Reference(Kind.HOST, before, int(after) if after else None)
        return asked

    def _exact_names(self) -> set[str]:
        targets = (target for entry in self._policy.entries for target in entry.targets)
        return {target.pattern for target in targets if not target.is_wildcard}

    def _registry(self, asked: Reference) -> Known | None:
        """The catalogue's registry, where it is one that was asked for and not a host of it."""
        if asked.port not in {None, HTTPS_PORT} or asked.kind is Kind.ADDRESS:
            return None
        known = self._catalog.identify(asked.host)
        named = self._catalog.get(asked.host)
        if named is not None and not named.placeholders and not named.refused:
            return Known(named, named.hosts[0], {})
        if asked.kind is Kind.HOST and (asked.port or known is None or not known.values):
            return None
        return known

    def _entry_of_own_kind(self, asked: Reference) -> Entry | None:
        """The entry for a registry on the organization's own server that an image is from."""
        for entry, ports in self._covering(asked.host) if asked.kind is Kind.IMAGE else ():
            if entry.registry and (asked.port or HTTPS_PORT) in ports:
                return entry
        return None

    def _places(self, known: Known, asked: Reference) -> Iterator[_Place]:
        """The hosts of a registry that are usual, and those of it that the policy names."""
        for host in self._catalog.known_hosts(known.registry, known.values):
            is_usual = not host.why_not
            if not is_usual and asked.host != host.pattern and not self._covering(host.pattern):
                continue
            if host.broad:
                continue
            for port in host.ports:
                yield _Place(
                    host.pattern, port, Protocol.TCP, str(host.role), host.needed, host.shared
                )

    def _ports(self, asked: Reference) -> Iterable[int]:
        """The port that was asked for; for a host without one, those that the policy names."""
        if asked.port is not None:
            return (asked.port,)
        covering = self._covering(asked.host) if asked.kind is Kind.HOST else ()
        return dict.fromkeys(p for entry, ports in covering for p in ports) or (HTTPS_PORT,)

    # -- a name --------------------------------------------------------------------------------

    def _named(self, place: _Place) -> Explanation:
        entries = [entry for entry, ports in self._covering(place.host) if place.port in ports]
        reason = self._reason_of_name(place, entries)
        return self._host(place, entries, reason, self._leases(place.host))

    def _covering(self, name: str) -> list[tuple[Entry, tuple[int, ...]]]:
        """The entries that name it, or cover it by a wildcard, each with its ports."""
        return [
            (entry, target.ports)
            for entry in self._policy.entries
            for target in entry.targets
            if matches(target.pattern, name)
        ]

    def _leases(self, name: str) -> list[Explanation]:
        leases = self._engine.leases.of_name(name).items() if self._engine else ()
        return [
            {
                "address": str(ip_address(address)),
                "expires_in": lease.expires - self._now,
                "server": lease.server,
            }
            for address, lease in leases
        ]

    def _reason_of_name(self, place: _Place, entries: list[Entry]) -> str:
        if entries:
            reason = self._reason_of_entries(place, entries)
            return reason + (self._unresolved(place.host) if self._scopes(entries) else "")
        fate = self._fate(place, self._judged)
        if (registry := self._found(place)) is not None:
            why = f"it was found to be a registry ({_where(registry)})"
            return f"no [[allow]] names it, and {why}: {fate}"
        other = sorted({port for _, ports in self._covering(place.host) for port in ports})
        if other:
            ports = _and(str(port) for port in other)
            return f"the policy permits it on port {ports}, not on {place.port}: {fate}"
        return f"no [[allow]] names it: {fate}"

    def _unresolved(self, name: str) -> str:
        """What is to be added where a permitted name has no address now."""
        if self._engine is None or self._engine.leases.of_name(name):
            return ""
        state = self._engine.names.state(name)
        if state is None and name not in self._exact_names():
            return self._learned_when_asked()
        if state is None or not state.tried:
            return "; but its addresses are not known yet, so it cannot be reached"
        outcomes = [
            f"{r.server}: {r.outcome}" for r in state.replies if not r.outcome.startswith("ok")
        ]
        why = "; ".join(outcomes) or "no server gave an address that may be used"
        return f"; but it has no address now ({why}), so it cannot be reached"

    def _learned_when_asked(self) -> str:
        watch = self._engine.facts.watch if self._engine else None
        if watch is None or watch.form is WatchForm.NONE:
            return "; but DNS answers are not watched here, so a wildcard opens nothing"
        return "; its addresses are learned from the answer when somebody in scope asks for it"

    # -- an address ----------------------------------------------------------------------------

    def _at(self, address: Address, port: int | None) -> list[Explanation]:
        openings = (*self._as_server(address), *self._by_entry(address), *self._by_lease(address))
        found = [host for host in openings if port in {None, host["port"]}]
        if found:
            return found
        default = HTTPS_PORT if port is None else port
        place = _Place(str(address), default, is_loopback=address.is_loopback)
        special = special_use(address)
        if special:
            why = f"no name opens {_an(special)} address, and no [[allow]] permits it"
        elif self._engine:
            why = "no [[allow]] permits it, and no permitted name has it"
        else:
            why = "no [[allow]] permits it by address"
        if (registry := self._found(place)) is not None:
            why += f", and it was found to be a registry ({_where(registry)})"
        return [self._host(place, [], f"{why}: {self._fate(place, self._judged)}", [])]

    def _as_server(self, address: Address) -> Iterator[Explanation]:
        servers = self._engine.facts.servers if self._engine else None
        if servers is not None and address in servers.trusted:
            for protocol in Protocol:
                yield self._resolver(_Place(str(address), DNS_PORT, protocol))

    def _by_entry(self, address: Address) -> Iterator[Explanation]:
        for entry in self._policy.entries:
            for network in entry.networks:
                if address not in network:
                    continue
                for port in entry.ports:
                    place = _Place(written(network), port, entry.protocol)
                    reason = self._reason_of_entries(place, [entry])
                    always = {"address": str(address), "expires_in": None, "server": ""}
                    yield self._host(place, [entry], reason, [always])

    def _by_lease(self, address: Address) -> Iterator[Explanation]:
        for name, _ in self._engine.leases.of_address(address.packed) if self._engine else ():
            leases = [lease for lease in self._leases(name) if lease["address"] == str(address)]
            for entry, ports in self._covering(name):
                for port in ports:
                    place = _Place(name, port)
                    reason = f"an address of `{name}`, {self._reason_of_entries(place, [entry])}"
                    yield self._host(place, [entry], reason, leases)

    def _resolver(self, place: _Place) -> Explanation:
        addresses = [{"address": place.host, "expires_in": None, "server": ""}]
        return {
            **self._host(place, [], "a trusted DNS server, which everyone may ask", addresses),
            "permitted": True,
            "entry": RESOLVERS_LABEL,
            "scopes": [str(scope) for scope in self._judged],
        }

    # -- in words ------------------------------------------------------------------------------

    def _host(
        self, place: _Place, entries: list[Entry], reason: str, addresses: list[Explanation]
    ) -> Explanation:
        scopes = self._scopes(entries)
        return {
            "host": place.host,
            "port": place.port,
            "protocol": str(place.protocol),
            "role": place.role,
            "needed": place.needed,
            "shared": place.shared,
            "permitted": bool(entries) and (bool(scopes) or not self._judged),
            "entry": entries[0].label if entries else None,
            "scopes": [str(scope) for scope in scopes],
            "reason": reason,
            "addresses": addresses,
            "resolves_to": sorted({address["address"] for address in addresses}),
        }

    def _scopes(self, entries: list[Entry]) -> list[ScopeName]:
        """The scopes that are judged and for which one of the entries counts, in order."""
        return [scope for scope in self._judged if any(scope in e.scopes for e in entries)]

    def _reason_of_entries(self, place: _Place, entries: list[Entry]) -> str:
        labels = _and(dict.fromkeys(f"`{entry.label}`" for entry in entries))
        scopes = self._scopes(entries)
        others = [scope for scope in self._judged if scope not in scopes]
        if not others:
            return f"permitted by {labels}"
        fate = self._fate(place, others)
        if scopes and not any(self._judges(scope, place) for scope in others):
            return f"permitted by {labels} for {_and(scopes)}; not judged for {_and(others)}"
        if not scopes:
            named = [scope for scope in ScopeName if any(scope in e.scopes for e in entries)]
            return f"{labels} counts only for {_and(named)}, which is off: {fate}"
        return f"permitted by {labels} for {_and(scopes)}; {fate}"

    def _fate(self, place: _Place, scopes: Iterable[ScopeName]) -> str:
        """What becomes of a flow that no entry permits to these scopes."""
        refused = [scope for scope in scopes if self._judges(scope, place)]
        if not refused:
            return "no scope judges it, and it passes"
        if self._policy.mode is Mode.AUDIT:
            return f"audit mode lets it pass, and counts it for {_and(refused)}"
        return f"refused to {_and(refused)}"

    def _judges(self, scope: ScopeName, place: _Place) -> bool:
        """Whether the scope refuses such a place: engines' always, others' by name or by port."""
        if scope is ScopeName.ENGINES:
            return True
        if place.is_loopback:
            return False
        if self._policy.scope_mode(scope) is ScopeMode.REGISTRIES:
            known = self._catalog.registry_of(place.host) is not None
            unknown = self._policy.unknown_hosts(scope)
            found = unknown is UnknownHosts.PROBE and self._found(place) is not None
            refuses = found or unknown is UnknownHosts.REFUSE
            return place.protocol is Protocol.TCP and (known or refuses)
        if place.protocol is Protocol.UDP:
            return place.port == HTTPS_PORT
        others = {
            ScopeName.CONTAINERS: self._policy.containers.registry_ports,
            ScopeName.HOST: self._policy.host.registry_ports,
        }
        return place.port in others[scope]

    def _found(self, place: _Place) -> Found | None:
        """The registry that was found by asking a host on which nothing was known."""
        if self._engine is None or not self._policy.probes:
            return None
        probing = self._engine.name_check.probing
        try:
            address = ip_address(place.host)
        except ValueError:
            return probing.registry_of(place.host, self._now)
        known = probing.known(Asked("", address.packed, place.port), self._now)
        return known if isinstance(known, Found) else None

    def _hint(
        self, asked: Reference, registry: Known | None, addresses: tuple[Address, ...]
    ) -> str:
        """The lines that would permit it; empty where nothing can."""
        if registry is not None:
            if registry.registry.refused:
                return ""
            return f"[[allow]]\n{allow_lines(registry)}"
        ports = "" if asked.port in {None, HTTPS_PORT} else f"\nports = [{asked.port}]"
        if not addresses:
            return f'[[allow]]\nhost = "{asked.host}"{ports}'
        if special_use(addresses[0]) in {None, "loopback"}:
            return f'[[allow]]\naddress = "{addresses[0]}"{ports}'
        return ""

    def _notes(
        self, hosts: list[Explanation], registry: Known | None, *, permitted: bool
    ) -> Iterator[str]:
        refused = [host for host in hosts if not host["permitted"]]
        if self._engine is None:
            yield (
                "The daemon is not running: addresses are not known, and nothing new is permitted. "
                "This is what the policy file says."
            )
        elif not self._engine.in_force:
            yield "The rules are not in force now: ramfw status says why."
        if self._policy.mode is Mode.AUDIT:
            yield "The policy is in audit mode: nothing is refused, only counted."
        if registry is not None:
            yield from (
                f"{registry.registry.name}: {words}."
                for words in (registry.registry.refused, registry.registry.danger)
                if words
            )
        if registry is not None and permitted and refused:
            names = _and(host["host"] for host in refused)
            yield f"What the registry keeps on {names} cannot be pulled."
        known = any("found to be a registry" in host["reason"] for host in refused)
        if self._policy.probes and refused and registry is None and not known:
            yield (
                "A host on which nothing is known is asked at its first connection whether it is a "
                "registry, and is refused where it is."
            )
        shared = sorted({host["shared"] for host in hosts if host["permitted"] and host["shared"]})
        watch = self._engine.facts.watch if self._engine else None
        checked = watch is not None and watch.names
        if shared and not checked:
            yield (
                f"Others are served from the same addresses ({', '.join(shared)}): where names are "
                "not checked, they can be reached too."
            )
        if refused and not checked:
            proxies = [e.label for e in self._policy.entries if e.kind is EntryKind.PROXY]
            if proxies:
                yield f"Through the permitted proxy {_and(proxies)} it may be reached all the same."


def _where(found: Found) -> str:
    """Where it was found to be a registry, and by what."""
    where = "" if found.everywhere else "; it is refused there alone"
    return f"{found.place} was asked: {found.evidence}{where}"


def _addresses(asked: Reference) -> tuple[Address, ...]:
    """The addresses that are meant, where it needs no DNS to know them."""
    if asked.address is not None:
        return (asked.address,)
    if asked.is_local:
        return (IPv4Address("127.0.0.1"), IPv6Address("::1"))
    return ()


def _places_of(entry: Entry) -> Iterator[_Place]:
    for target in entry.targets:
        for port in target.ports:
            yield _Place(target.pattern, port, Protocol.TCP, target.role, "pull and push")


def _is_usable(hosts: list[Explanation], asked: Reference) -> bool:
    """Whether a pull can work: its api, one place to sign in, and one that has the layers."""
    apis = [host for host in hosts if host["role"] == Role.API]
    named = [host for host in apis if host["host"] == asked.host]
    others = [
        [host["permitted"] for host in hosts if host["role"] == role]
        for role in (Role.AUTH, Role.BLOBS)
    ]
    return any(host["permitted"] for host in named or apis) and all(
        any(permitted) for permitted in others if permitted
    )


def _registry_name(asked: Reference, registry: Known | None) -> str:
    if registry is not None:
        return registry.registry.id
    if asked.port in {None, HTTPS_PORT}:
        return asked.host
    host = f"[{asked.host}]" if ":" in asked.host else asked.host
    return f"{host}:{asked.port}"


def _and(words: Iterable[object]) -> str:
    """The words as people say them: a, b and c."""
    listed = [str(word) for word in words]
    return " and ".join(filter(None, (", ".join(listed[:-1]), listed[-1]))) if listed else ""


def _an(word: str) -> str:
    return f"{'an' if word[0] in 'aeiouI' else 'a'} {word}"
