"""Whether a connection's first bytes are permitted: the name in them, at this address and port.

Pure. Two conditions, and they belong together: an address that a trusted server gave for a name
that an entry permits (a lease), and that very name in the first bytes. `judge` is the one function
that decides; what each kind of first bytes comes to:

| first bytes | scope `strict` | scope `registries` |
|---|---|---|
| to an entry with `names = false` | permitted, unread | permitted, unread |
| TLS, a permitted name that has this address | permitted | permitted |
| TLS, a permitted name, another address | refused | refused |
| TLS, a registry of the catalogue, not permitted | refused | refused, on every port |
| TLS, another name | refused | unknown host |
| TLS, no name or an address | refused, but to an `address` entry | unknown host |
| TLS, with an encrypted hello (ECH) | refused: it hides a name | by its outer name |
| TLS, a name with a dot at its end | refused (RFC 6066) | by the name without it |
| TLS, a name that DNS cannot have | refused | unknown host |
| a hello that breaks rules (NUL, two names, ...) | refused | refused |
| a hello of SSL 2.0 | refused | unknown host |
| HTTP, a permitted host that has this address | permitted, but on port 443 | the same |
| HTTP for `/v2/`, any other host | refused | refused |
| HTTP, another host | refused | passes, but a known registry |
| HTTP, another port in Host than the connection's | refused | as another host |
| CONNECT, to a permitted proxy, a permitted target | permitted | permitted |
| CONNECT, everything else | refused | unknown host, but a known registry |
| a URL as target, to a permitted proxy | as CONNECT | as CONNECT, or any HTTP |
| a URL as target, elsewhere | refused | as any HTTP |
| TLS to a permitted proxy | refused: it hides the CONNECT | unknown host |
| a request that breaks rules | refused | passes, but `/v2/` and known registries |
| HTTP/2 without TLS, any other protocol | refused | passes |

Upper case in a name is no difference (RFC 4343). An `address` entry (with `names`) permits what
names nobody, its own address, or a permitted name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from ramfw.core.catalog import Catalog
from ramfw.core.opening import (
    BrokenHello,
    BrokenRequest,
    Hello,
    Http2Preface,
    Opening,
    Request,
    Ssl2Hello,
    Target,
)
from ramfw.core.policy import Entry, EntryKind, Network, Protocol, ScopeMode, ScopeName
from ramfw.core.refusal_message import as_registry

Address = IPv4Address | IPv6Address

HTTPS_PORT = 443

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# A last label that is a number makes the whole an address (fqdn.py says why).
_HOST_NAME = re.compile(rf"(?!.{{254}})(?:{_LABEL}\.)*(?!(?:[0-9]+|0x[0-9a-f]*)\Z){_LABEL}")
_LIKE_AN_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*")


class Reason(StrEnum):
    """Why a connection is refused, as the end of a sentence."""

    NOT_PERMITTED = "the name is not permitted"
    NOT_TOGETHER = "no trusted DNS server gave this address for the name"
    KNOWN_REGISTRY = "the name is a registry's that is not permitted"
    NO_NAME = "its TLS hello has no server name"
    ODD_NAME = "its server name is not one that DNS can have"
    ENCRYPTED = "its TLS hello hides another behind it (ECH)"
    SSL2 = "its hello is SSL 2.0's, which has no server name"
    BROKEN_HELLO = "its TLS hello cannot be read"
    NO_HOST = "its request names no host"
    OTHER_PORT = "its request names another port than the connection's"
    PLAIN_TEXT = "it speaks plain HTTP on port 443"
    PLAIN_API = "it asks for a registry in plain HTTP"
    BROKEN_REQUEST = "its request can be read in several ways"
    CONNECT = "it asks what is no permitted proxy to connect to a host"
    ABSOLUTE = "it asks what is no permitted proxy for a URL"
    PROXY_TARGET = "it asks the proxy for what is not permitted"
    PROXY_TLS = "it speaks TLS to a proxy, which hides what the proxy is asked for"
    HTTP2 = "it speaks HTTP/2 without TLS"
    NEITHER = "it speaks neither TLS nor HTTP"


@dataclass(frozen=True, slots=True)
class Permit:
    """The entry whose flow it is, and the name that was permitted, if one was read.

    `via` is the proxy's entry where the name is what a proxy was asked for.
    """

    entry_id: int
    name: str = ""
    via: int | None = None


@dataclass(frozen=True, slots=True)
class Refuse:
    """Why not; `name` is what was asked for, as far as it was read, `detail` more of the reason."""

    reason: Reason
    name: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A host on which nothing is known, in mode `registries`; None where no name was read.

    `proxied` says that it is a proxy that was asked for it: the flow's address is not the host's.
    """

    host: str | None
    port: int
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Pass:
    """No registry: let alone."""


Judgement = Permit | Refuse | Unknown | Pass


@dataclass(frozen=True, slots=True)
class Connection:
    """Where a connection goes, from which scope; `answered` are the names leased on the address."""

    address: Address
    port: int
    scope: ScopeName
    mode: ScopeMode
    answered: Collection[str]


@dataclass(frozen=True, slots=True)
class _Rule:
    entry_id: int
    entry: Entry
    ports: tuple[int, ...]

    def covers(self, port: int, scope: ScopeName) -> bool:
        return port in self.ports and scope in self.entry.scopes


class ServerNames:
    """The policy's entries and the catalogue, arranged to judge first bytes by.

    `entries` go by id, in the policy's order: where two permit the same, the first has the flow.
    """

    def __init__(self, entries: Mapping[int, Entry], catalog: Catalog) -> None:
        self._names: dict[str, list[_Rule]] = {}
        self._proxies: dict[str, list[_Rule]] = {}
        self._networks: list[tuple[Network, _Rule]] = []
        for entry_id, entry in entries.items():
            if entry.protocol is not Protocol.TCP:
                continue
            by_name = self._proxies if entry.kind is EntryKind.PROXY else self._names
            for target in entry.targets:
                rule = _Rule(entry_id, entry, target.ports)
                by_name.setdefault(target.pattern, []).append(rule)
            for network in entry.networks:
                self._networks.append((network, _Rule(entry_id, entry, entry.ports)))
        self._order = {entry_id: order for order, entry_id in enumerate(entries)}
        self._catalog = catalog

    def judge(self, opening: Opening, connection: Connection) -> Judgement:
        """What the first bytes come to. Never raises."""
        if connection.mode is ScopeMode.OFF:
            return Pass()
        if connection.mode is ScopeMode.REGISTRIES:
            opening = _read_kindly(opening)
        strict = self._strict(opening, connection)
        if connection.mode is ScopeMode.STRICT or isinstance(strict, Permit):
            return strict
        return self._lenient(opening, connection, strict)

    def is_registry(self, name: str) -> bool:
        """Whether the name is an API host of the catalogue, permitted or not."""
        return self._catalog.registry_of(name) is not None

    # -- scope `strict` ------------------------------------------------------------------------

    def _strict(self, opening: Opening, connection: Connection) -> Permit | Refuse:
        rule = self._network(connection.address, connection.port, connection.scope)
        if rule is not None and not rule.entry.expects_name:
            return Permit(rule.entry_id)
        match opening:
            case Hello():
                return self._tls(opening, connection, rule)
            case Request():
                return self._http(opening, connection, rule)
            case BrokenHello():
                return Refuse(Reason.BROKEN_HELLO, detail=opening.reason)
            case BrokenRequest():
                name = next(iter(opening.hosts), "")
                return Refuse(Reason.BROKEN_REQUEST, name, opening.reason)
            case Ssl2Hello():
                return Refuse(Reason.SSL2)
            case Http2Preface():
                return Refuse(Reason.HTTP2)
        return Refuse(Reason.NEITHER, detail=opening.protocol)

    def _tls(self, hello: Hello, connection: Connection, rule: _Rule | None) -> Permit | Refuse:
        name = hello.server_name
        if hello.encrypted:
            return Refuse(Reason.ENCRYPTED, name or "")
        if name is None:
            return Permit(rule.entry_id) if rule else Refuse(Reason.NO_NAME)
        verdict = self._named(name, connection, rule, Reason.ODD_NAME)
        if isinstance(verdict, Refuse) and name in connection.answered and self._proxy(connection):
            return Refuse(Reason.PROXY_TLS, name)
        return verdict

    def _http(
        self, request: Request, connection: Connection, rule: _Rule | None
    ) -> Permit | Refuse:
        if request.target in {Target.AUTHORITY, Target.ABSOLUTE}:
            return self._proxied(request, connection)
        host = request.host
        if connection.port == HTTPS_PORT:
            return Refuse(Reason.PLAIN_TEXT, host or "")
        if host is None:
            return Permit(rule.entry_id) if rule else Refuse(Reason.NO_HOST)
        if request.port not in {None, connection.port}:
            return Refuse(Reason.OTHER_PORT, host)
        return self._named(host, connection, rule, Reason.NO_HOST)

    def _named(
        self, name: str, connection: Connection, rule: _Rule | None, no_name: Reason
    ) -> Permit | Refuse:
        """The verdict on a name; `rule` is the entry that permits the address without one."""
        address = _address(name)
        if address is not None or not _HOST_NAME.fullmatch(name):
            own = rule is not None and address == connection.address
            return Permit(rule.entry_id) if rule and own else Refuse(no_name, name)
        permitting = self._permitting(name, connection.port, connection.scope)
        if permitting is not None:
            if name in connection.answered:
                return Permit(permitting.entry_id, name)
            return Permit(rule.entry_id, name) if rule else Refuse(Reason.NOT_TOGETHER, name)
        return Refuse(Reason.NOT_PERMITTED, name)

    def _proxied(self, request: Request, connection: Connection) -> Permit | Refuse:
        """A request for another host, of whoever is at the other end."""
        host, port = request.host or "", request.port or 0
        proxy = self._proxy(connection)
        if proxy is None:
            connect = request.target is Target.AUTHORITY
            return Refuse(Reason.CONNECT if connect else Reason.ABSOLUTE, host)
        permitting = self._target(host, port, connection.scope)
        if permitting is None:
            return Refuse(Reason.PROXY_TARGET, as_registry(host, port))
        return Permit(permitting.entry_id, host, proxy.entry_id)

    # -- scope `registries` --------------------------------------------------------------------

    def _lenient(self, opening: Opening, connection: Connection, strict: Refuse) -> Judgement:
        """What is not permitted: refused if it is a registry, or let go."""
        match opening:
            case Hello():
                return self._lenient_tls(opening, connection, strict)
            case Request():
                return self._lenient_http(opening, connection)
            case BrokenHello():
                return strict
            case BrokenRequest():
                known = any(self.is_registry(_without_dot(host)) for host in opening.hosts)
                return strict if known or opening.registry_api else Pass()
            case Ssl2Hello():
                return Unknown(None, connection.port)
        return Pass()

    def _lenient_tls(self, hello: Hello, connection: Connection, strict: Refuse) -> Judgement:
        name = hello.server_name
        if name is None or _address(name) is not None:
            return Unknown(None, connection.port)
        if strict.reason is Reason.NOT_TOGETHER:
            return strict
        if self.is_registry(name):
            return Refuse(Reason.KNOWN_REGISTRY, name)
        return Unknown(name, connection.port)

    def _lenient_http(self, request: Request, connection: Connection) -> Judgement:
        host = request.host or ""
        if request.registry_api:
            return Refuse(Reason.PLAIN_API, host)
        if request.target is Target.AUTHORITY:
            port = request.port or 0
            if self.is_registry(host) and self._target(host, port, connection.scope) is None:
                return Refuse(Reason.KNOWN_REGISTRY, host)
            return Unknown(host, port, proxied=True)
        return Refuse(Reason.KNOWN_REGISTRY, host) if self.is_registry(host) else Pass()

    # -- looking up ----------------------------------------------------------------------------

    def _permitting(self, name: str, port: int, scope: ScopeName) -> _Rule | None:
        """The first entry of the policy that permits the name, wherever it is."""
        rules = (
            rule
            for pattern in _patterns(name)
            for rule in self._names.get(pattern, ())
            if rule.covers(port, scope)
        )
        return min(rules, key=lambda rule: self._order[rule.entry_id], default=None)

    def _target(self, host: str, port: int, scope: ScopeName) -> _Rule | None:
        """The entry that permits what a proxy is asked for: by name, or an address."""
        address = _address(host)
        if address is None:
            return self._permitting(host, port, scope) if _HOST_NAME.fullmatch(host) else None
        return self._network(address, port, scope)

    def _proxy(self, connection: Connection) -> _Rule | None:
        """The proxy that the connection goes to, by the names of its address."""
        rules = (
            rule
            for name in connection.answered
            for rule in self._proxies.get(name, ())
            if rule.covers(connection.port, connection.scope)
        )
        return min(rules, key=lambda rule: self._order[rule.entry_id], default=None)

    def _network(self, address: Address, port: int, scope: ScopeName) -> _Rule | None:
        """The first entry that permits the address itself."""
        return next(
            (
                rule
                for network, rule in self._networks
                if rule.covers(port, scope) and address in network
            ),
            None,
        )


def _read_kindly(opening: Opening) -> Opening:
    """Without what is refused only where all that is not permitted is."""
    if isinstance(opening, Hello) and opening.server_name:
        return opening._replace(server_name=_without_dot(opening.server_name), encrypted=False)
    if isinstance(opening, Request) and opening.host:
        return opening._replace(host=_without_dot(opening.host))
    return opening


def _without_dot(name: str) -> str:
    return name.removesuffix(".")


def _patterns(name: str) -> Iterator[str]:
    """All patterns that cover a name: itself, and a wildcard of each domain above it."""
    yield name
    parent = name
    while parent := parent.partition(".")[2]:
        yield f"*.{parent}"


def _address(text: str) -> Address | None:
    if not _LIKE_AN_ADDRESS.fullmatch(text):
        return None
    try:
        return ip_address(text)
    except ValueError:
        return None
