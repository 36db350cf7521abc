"""The policy as frozen values: what an administrator permits, and where it is enforced.

Pure. `policy_parser` makes these from TOML text; everything else only reads them. All names are
canonical (`fqdn`), all ports are 1 to 65535, all sequences keep the file's order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from ramfw.core.catalog import Catalog, shipped

Network = IPv4Network | IPv6Network


class Mode(StrEnum):
    """What happens to a flow that the policy does not permit."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class ScopeName(StrEnum):
    """Whose packets: the engines', those leaving container bridges, everything else here."""

    ENGINES = "engines"
    CONTAINERS = "containers"
    HOST = "host"


class ScopeMode(StrEnum):
    """How a scope is judged."""

    STRICT = "strict"
    REGISTRIES = "registries"
    OFF = "off"


class UnknownHosts(StrEnum):
    """What happens in mode `registries` to a TLS host on which nothing is known."""

    ALLOW = "allow"
    PROBE = "probe"
    """It is asked once whether it is a registry, and is refused where it is."""
    REFUSE = "refuse"


class Protocol(StrEnum):
    """The transport protocols that an entry can permit."""

    TCP = "tcp"
    UDP = "udp"


class EntryKind(StrEnum):
    """Which key an `[[allow]]` table has."""

    REGISTRY = "registry"
    HOST = "host"
    PROXY = "proxy"
    ADDRESS = "address"


ALL_SCOPES = frozenset(ScopeName)


Grant = tuple[str, str, int, str]
"""What an entry permits: a name or a network, a protocol, a port, a scope."""


@dataclass(frozen=True, slots=True)
class Target:
    """One name that an entry permits: exact (`ghcr.io`) or a wildcard (`*.pkg.dev`).

    `role` is the catalogue's word (`api`, `auth`, `blobs`) or empty.
    """

    pattern: str
    ports: tuple[int, ...]
    role: str = ""

    @property
    def is_wildcard(self) -> bool:
        return self.pattern.startswith("*.")


@dataclass(frozen=True, slots=True)
class Entry:
    """One `[[allow]]` table: either names (`targets`) or addresses (`networks` on `ports`).

    `label` is what a person calls it (`docker.io`, `nexus.corp.example:8443`). `expects_name`
    is the file's `names`: whether a name is to be expected in a connection's first bytes.
    `registry` is the catalogue's id, where the entry names one.
    """

    kind: EntryKind
    label: str
    targets: tuple[Target, ...] = ()
    networks: tuple[Network, ...] = ()
    ports: tuple[int, ...] = ()
    protocol: Protocol = Protocol.TCP
    scopes: frozenset[ScopeName] = ALL_SCOPES
    expects_name: bool = True
    line: int = 0
    registry: str = ""

    @property
    def grants(self) -> frozenset[Grant]:
        """All that the entry permits."""
        names = [(t.pattern, port) for t in self.targets for port in t.ports]
        networks = [(str(n), port) for n in self.networks for port in self.ports]
        return frozenset(
            (what, str(self.protocol), port, str(scope))
            for what, port in names + networks
            for scope in self.scopes
        )

    @property
    def digest(self) -> str:
        """16 hex digits that change whenever what the entry permits changes."""
        text = "\n".join(" ".join(map(str, grant)) for grant in sorted(self.grants))
        return hashlib.sha256(f"{self.kind} {text}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class EnginesScope:
    """dockerd, containerd and their like, known by cgroup (paths below the v2 root, globs)."""

    mode: ScopeMode
    cgroups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ContainersScope:
    """What leaves container bridges, and containers on the host's own network, by cgroup."""

    mode: ScopeMode
    interfaces: tuple[str, ...]
    cgroups: tuple[str, ...]
    registry_ports: tuple[int, ...]
    unknown: UnknownHosts = UnknownHosts.ALLOW


@dataclass(frozen=True, slots=True)
class HostScope:
    """Everything else this host sends."""

    mode: ScopeMode
    registry_ports: tuple[int, ...]
    unknown: UnknownHosts = UnknownHosts.ALLOW


@dataclass(frozen=True, slots=True)
class Organization:
    """Who to name, and where to ask, in a refusal."""

    name: str = ""
    contact: str = ""


@dataclass(frozen=True, slots=True)
class Dns:
    """The servers whose answers count; None means those of resolv.conf, followed."""

    servers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Explainer:
    """What refused connections are told (`refusal_message`); empty texts are the defaults.

    `ca` and `key` are files of the organization's authority, whose certificates clients trust.
    """

    message: str = ""
    ca: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file. Without any entry it is valid and refuses everything in scope."""

    organization: Organization
    entries: tuple[Entry, ...]
    mode: Mode
    engines: EnginesScope
    containers: ContainersScope
    host: HostScope
    dns: Dns
    names_required: bool = False
    mark_mask: int = 0x0000FFFF
    explainer: Explainer = Explainer()
    source: str = field(default="", compare=False)
    catalog: Catalog = field(default_factory=shipped, compare=False, repr=False)
    """The catalogue by which the file was read."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """The names that entries permit, exact ones and wildcards, in their order."""
        return tuple(target.pattern for entry in self.entries for target in entry.targets)

    @property
    def scopes(self) -> tuple[ScopeName, ...]:
        """The scopes that are judged at all."""
        return tuple(s for s in ScopeName if self.scope_mode(s) is not ScopeMode.OFF)

    def scope_mode(self, scope: ScopeName) -> ScopeMode:
        """The mode of the scope of this name."""
        return {
            ScopeName.ENGINES: self.engines.mode,
            ScopeName.CONTAINERS: self.containers.mode,
            ScopeName.HOST: self.host.mode,
        }[scope]

    def unknown_hosts(self, scope: ScopeName) -> UnknownHosts:
        """What happens in this scope to hosts on which nothing is known."""
        match scope:
            case ScopeName.CONTAINERS:
                return self.containers.unknown
            case ScopeName.HOST:
                return self.host.unknown
            case _:
                return UnknownHosts.REFUSE

    @property
    def probes(self) -> bool:
        """Whether hosts on which nothing is known are asked, in any scope."""
        return any(
            self.scope_mode(scope) is ScopeMode.REGISTRIES
            and self.unknown_hosts(scope) is UnknownHosts.PROBE
            for scope in ScopeName
        )

    def by_addresses(self) -> Policy:
        """The same where names cannot be checked: what tells registries by name cannot be."""
        modes = {self.containers.mode, self.host.mode}
        if ScopeMode.REGISTRIES not in modes:
            return self
        containers, host = self.containers, self.host
        if containers.mode is ScopeMode.REGISTRIES:
            containers = replace(containers, mode=ScopeMode.STRICT)
        if host.mode is ScopeMode.REGISTRIES:
            host = replace(host, mode=ScopeMode.OFF)
        return replace(self, containers=containers, host=host)
