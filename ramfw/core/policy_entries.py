"""Each `[[allow]]` table as an `Entry`, and what two of them permit twice.

Pure. A table with a problem gives no entry; its problems are in the report, all of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from ramfw.core import fqdn
from ramfw.core.catalog import Catalog
from ramfw.core.policy import (
    ALL_SCOPES,
    Entry,
    EntryKind,
    Network,
    Protocol,
    ScopeName,
    Target,
)
from ramfw.core.policy_lints import lint_hosts
from ramfw.core.policy_networks import read_network, written
from ramfw.core.policy_registry import KEYS, read_registry, takes_host
from ramfw.core.policy_tables import Report, Table

MAX_PORT = 65535
MOST_ENTRIES = 20_000
"""Each has an id, and those of the policy before are still in use when another is loaded."""
HTTPS_PORT = 443
DEFAULT_PORTS = {
    EntryKind.HOST: (HTTPS_PORT,),
    EntryKind.PROXY: (3128,),
    EntryKind.ADDRESS: (HTTPS_PORT,),
}
_KEYS = {
    EntryKind.REGISTRY: KEYS,
    EntryKind.HOST: ("host", "ports", "scopes"),
    EntryKind.PROXY: ("proxy", "ports", "scopes"),
    EntryKind.ADDRESS: ("address", "ports", "protocol", "scopes", "names"),
}
_ALL_KEYS = tuple(dict.fromkeys(key for keys in _KEYS.values() for key in keys))


def read_entries(tables: list[Table], catalog: Catalog, report: Report) -> tuple[Entry, ...]:
    """The entries of a policy in the file's order; problems and warnings go to the report."""
    if len(tables) > MOST_ENTRIES:
        message = f"{len(tables):,} entries; there may be {MOST_ENTRIES:,}"
        report.error(tables[MOST_ENTRIES].path, message, "permit with a wildcard or a range")
        return ()
    numbered = [
        (position, entry)
        for position, table in enumerate(tables)
        if (entry := _entry(table, catalog, report)) is not None
    ]
    paths = [tables[position].path for position, _ in numbered]
    entries = tuple(entry for _, entry in numbered)
    lint_hosts(entries, paths, catalog, report)
    for later, earlier, what in _permitted_twice(entries):
        first = entries[earlier]
        if first.grants == entries[later].grants:
            message = f"the same as the entry at line {first.line}"
        else:
            message = f"{what} is permitted already by `{first.label}` at line {first.line}"
        report.error(paths[later], message, "take one of the two away")
    return entries


def _entry(table: Table, catalog: Catalog, report: Report) -> Entry | None:
    errors = len(report.errors)
    kind = _kind(table, catalog)
    entry = None if kind is None else _READERS[kind](table, catalog)
    return entry if len(report.errors) == errors else None


def _kind(table: Table, catalog: Catalog) -> EntryKind | None:
    kinds = [kind for kind in EntryKind if kind in table]
    if len(kinds) == 1 or (
        kinds == [EntryKind.REGISTRY, EntryKind.HOST] and takes_host(table, catalog)
    ):
        return kinds[0]
    table.only((*_ALL_KEYS, *sorted(catalog.placeholder_names)))
    if kinds:
        have = " and ".join(f"`{kind}`" for kind in kinds)
        message = f"has {have}; an entry has exactly one of registry, host, proxy, address"
        table.report.error(table.path, message, "write an [[allow]] for each")
    else:
        message = "has none of registry, host, proxy, address; an entry has exactly one of them"
        table.report.error(table.path, message, 'registry = "docker.io"')
    return None


def _registry(table: Table, catalog: Catalog) -> Entry | None:
    return read_registry(table, _scopes(table), catalog)


def _host(table: Table, catalog: Catalog) -> Entry | None:
    _only_for_address(table, EntryKind.HOST)
    text, ports, scopes = table.text("host"), _ports(table, EntryKind.HOST), _scopes(table)
    if text is None:
        return None
    try:
        pattern = fqdn.canonical_pattern(text)
    except ValueError as error:
        broad = catalog.broad_name(text.strip().lower())
        if broad is not None:
            table.error("host", f"`{broad.pattern}`: {broad.danger}", broad.instead)
        else:
            table.error("host", str(error))
        return None
    if pattern.removeprefix("*.").split(".")[-1] == "localhost":
        message = "`localhost` is this machine itself, not a host of the network"
        table.error("host", message, f'address = "127.0.0.1" and ports = {list(ports)}')
        return None
    return Entry(
        EntryKind.HOST,
        _label(pattern, ports, HTTPS_PORT),
        targets=(Target(pattern, ports),),
        scopes=scopes,
        line=table.report.line(table.path),
    )


def _proxy(table: Table, _catalog: Catalog) -> Entry | None:
    _only_for_address(table, EntryKind.PROXY)
    text, ports, scopes = table.text("proxy"), _ports(table, EntryKind.PROXY), _scopes(table)
    if text is None:
        return None
    try:
        name = fqdn.canonical(text)
    except ValueError as error:
        table.error("proxy", str(error))
        return None
    if name.split(".")[-1] == "localhost":
        message = "`localhost` is this machine itself: a proxy on it would reach every registry"
        table.error("proxy", message, "write the name of the organization's own proxy")
        return None
    table.report.warn(
        table.at("proxy"),
        "where names are not checked (`ramfw doctor` tells), all that the proxy permits is "
        "reached: what it is asked to connect to (CONNECT) is not looked at there",
    )
    return Entry(
        EntryKind.PROXY,
        _label(name, ports, 0),
        targets=(Target(name, ports),),
        scopes=scopes,
        line=table.report.line(table.path),
    )


def _address(table: Table, _catalog: Catalog) -> Entry | None:
    table.only(_KEYS[EntryKind.ADDRESS])
    text = table.text("address")
    network = None if text is None else read_network(table, text)
    protocol = table.word("protocol", Protocol) or Protocol.TCP
    ports, scopes, names = _ports(table, EntryKind.ADDRESS), _scopes(table), table.boolean("names")
    if protocol is Protocol.UDP:
        if "ports" not in table:
            table.error("protocol", "an entry with `udp` needs its ports", "ports = [514]")
        elif HTTPS_PORT in ports:
            message = "UDP 443 is refused everywhere: registries speak TCP, and QUIC hides names"
            table.error("ports", message)
        if names:
            message = "no name is to be expected over `udp`"
            table.error("names", message, "names = false")
    if network is None:
        return None
    suffix = "/udp" if protocol is Protocol.UDP else ""
    return Entry(
        EntryKind.ADDRESS,
        _label(written(network), ports, 0) + suffix,
        networks=(network,),
        ports=ports,
        protocol=protocol,
        scopes=scopes,
        expects_name=protocol is Protocol.TCP and names is not False,
        line=table.report.line(table.path),
    )


_READERS = {
    EntryKind.REGISTRY: _registry,
    EntryKind.HOST: _host,
    EntryKind.PROXY: _proxy,
    EntryKind.ADDRESS: _address,
}


def _only_for_address(table: Table, kind: EntryKind) -> None:
    misplaced = {key: f"`{key}` goes only with `address`" for key in ("protocol", "names")}
    table.only(_KEYS[kind], misplaced)


def _ports(table: Table, kind: EntryKind) -> tuple[int, ...]:
    ports = table.integers("ports", 1, MAX_PORT, "a port")
    if ports == ():
        table.error(
            "ports",
            "the list is empty; leave it out for the usual port, or name one",
            f"ports = {list(DEFAULT_PORTS[kind])}",
        )
    return ports or DEFAULT_PORTS[kind]


def _scopes(table: Table) -> frozenset[ScopeName]:
    scopes = table.words("scopes", ScopeName)
    if scopes == () and not table.items("scopes"):
        table.error(
            "scopes", "the list is empty; leave it out for all scopes", 'scopes = ["engines"]'
        )
    return frozenset(scopes or ALL_SCOPES)


def _label(what: str, ports: tuple[int, ...], usual: int) -> str:
    if ports == (usual,):
        return what
    bracketed = f"[{what}]" if ":" in what else what
    return f"{bracketed}:{','.join(map(str, ports))}"


def _permitted_twice(entries: tuple[Entry, ...]) -> Iterator[tuple[int, int, str]]:
    """Each two entries that permit the same, as (later, earlier, what), once for a pair.

    Two different registries may share a host: that is the catalogue's knowledge, nobody's error.
    """
    pairs: set[tuple[int, int]] = set()
    for one, other, what in (*_same_names(entries), *_same_addresses(entries)):
        pair = (max(one, other), min(one, other))
        both = [entries[index] for index in pair]
        if (
            all(entry.kind is EntryKind.REGISTRY for entry in both)
            and both[0].label != both[1].label
        ):
            continue
        if pair[0] != pair[1] and pair not in pairs:
            pairs.add(pair)
            yield (*pair, what)


def _same_names(entries: tuple[Entry, ...]) -> Iterator[tuple[int, int, str]]:
    owners: dict[tuple[str, int, ScopeName], int] = {}
    for index, entry in enumerate(entries):
        for target in entry.targets:
            for port in target.ports:
                for scope in entry.scopes:
                    owner = owners.setdefault((target.pattern, port, scope), index)
                    yield index, owner, f"`{target.pattern}` on port {port}"


def _same_addresses(entries: tuple[Entry, ...]) -> Iterator[tuple[int, int, str]]:
    """From the widest range to the narrowest, so that only what is around needs looking up."""
    owners: dict[tuple[Network, Protocol, int, ScopeName], int] = {}
    widths: set[int] = set()
    ranges = [(network, index) for index, entry in enumerate(entries) for network in entry.networks]
    for network, index in sorted(ranges, key=lambda item: item[0].prefixlen):
        entry = entries[index]
        widths.add(network.prefixlen)
        around = [network.supernet(new_prefix=width) for width in widths]
        for port in entry.ports:
            for scope in entry.scopes:
                for wider in around:
                    owner = owners.get((wider, entry.protocol, port, scope))
                    if owner is not None:
                        yield index, owner, f"`{written(network)}` on {entry.protocol} port {port}"
                owners.setdefault((network, entry.protocol, port, scope), index)
