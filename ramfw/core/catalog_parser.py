"""The text of a catalogue to frozen values, or what is wrong with it.

Pure. Nothing in the text is trusted: a wrong key, a name that is not canonical, a wildcard below
which a customer could choose a label, a placeholder that nobody declared or a host that is there
twice refuses the catalogue whole.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import TypeVar, cast

from ramfw.core import fqdn
from ramfw.core.registries import (
    HOST_FORM,
    CatalogHost,
    Grade,
    Placeholder,
    Registry,
    Role,
    Use,
    anchor,
    placeholders_in,
)

VERSION = 1
DEFAULT_PORTS = (443,)
MAX_PORT = 65535
RESERVED = frozenset(
    {
        "registry",
        "proxy",
        "address",
        "protocol",
        "names",
        "ports",
        "scopes",
        "access",
        "include",
        "exclude",
    }
)
"""Keys of an entry that a placeholder cannot be named after."""

_HOST_KEYS = {
    "pattern", "patterns", "ports", "role", "use", "when", "source", "date", "grade", "shared",
    "opens", "off", "broad", "instead", "deprecated", "on",
}  # fmt: skip
_REGISTRY_KEYS = {
    "id", "name", "aliases", "placeholder", "needs", "ports", "refused", "danger", "sample", "host",
}  # fmt: skip
_PLACEHOLDER_KEYS = {"means", "form", "example", "optional"}
_BROAD_KEYS = {"pattern", "danger", "instead", "below"}
_ID = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
_TRUSTED = frozenset({Grade.VENDOR, Grade.VENDOR_CODE, Grade.VENDOR_STAFF})

Word = TypeVar("Word", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class BroadName:
    """A name that opens more than anybody means by it.

    `pattern` is exact, a wildcard, or a template; with `below`, wildcards below it are meant too.
    """

    pattern: str
    danger: str
    instead: str
    below: bool = False


@dataclass(frozen=True, slots=True)
class CatalogText:
    """What a catalogue's text says; `edition` is its own version."""

    edition: str
    registries: tuple[Registry, ...]
    broad_names: tuple[BroadName, ...]


def parse(text: str) -> CatalogText:
    """Raises ValueError with the first thing that is wrong, and in which entry."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the catalogue is not valid TOML: {error}") from None
    where = "the catalogue"
    _only(data, {"version", "edition", "registry", "broad"}, where)
    if data.get("version") != VERSION or type(data.get("version")) is not int:
        raise ValueError(f"the catalogue must begin with `version = {VERSION}`")
    registries = tuple(_registry(table) for table in _tables(data, "registry", where))
    _check_together(registries)
    broad = _tables(data, "broad", where) if "broad" in data else []
    return CatalogText(
        _text(data, "edition", where), registries, tuple(_broad(one) for one in broad)
    )


def _check_together(registries: tuple[Registry, ...]) -> None:
    known = {registry.id: registry for registry in registries}
    taken: set[str] = set()
    apis: set[str] = set()
    for registry in registries:
        names = {registry.id, *registry.aliases}
        if names & taken:
            raise ValueError(f"the catalogue has `{min(names & taken)}` twice")
        taken |= names
        own = {host.pattern for host in registry.hosts if host.role is Role.API} - {"<host>"}
        if own & apis:
            raise ValueError(f"`{min(own & apis)}` is the api of two registries")
        apis |= own
        for need in registry.needs:
            needed = known.get(need)
            if needed is None or needed.refused or needed.placeholders or needed.needs:
                raise ValueError(
                    f"catalogue entry `{registry.id}` needs `{need}`, which must be an entry "
                    "without placeholders and needs of its own"
                )


def _registry(table: dict[str, object]) -> Registry:
    where = f"catalogue entry `{table.get('id', '?')}`"
    _only(table, _REGISTRY_KEYS, where)
    registry_id = _text(table, "id", where)
    if not _ID.fullmatch(registry_id):
        raise ValueError(f"{where}: an id is lower-case letters, digits, dots and hyphens")
    placeholders = _placeholders(table, where)
    ports = _ports(table, where, empty=True) if "ports" in table else None
    hosts = tuple(
        host for one in _tables(table, "host", where) for host in _hosts(one, ports, where)
    )
    _check_hosts(hosts, placeholders, where)
    return Registry(
        id=registry_id,
        name=_text(table, "name", where),
        hosts=hosts,
        aliases=_texts(table, "aliases", where),
        placeholders=placeholders,
        needs=_texts(table, "needs", where),
        ports=ports,
        refused=_optional(table, "refused", where),
        danger=_optional(table, "danger", where),
        sample=_optional(table, "sample", where),
    )


def _check_hosts(
    hosts: tuple[CatalogHost, ...], placeholders: tuple[Placeholder, ...], where: str
) -> None:
    patterns = [host.pattern for host in hosts]
    if len(set(patterns)) != len(patterns):
        raise ValueError(f"{where} has a host twice")
    declared = {placeholder.name for placeholder in placeholders}
    used = {name for host in hosts for name in host.placeholders if not host.broad}
    if used != declared:
        name = min(used ^ declared)
        raise ValueError(f"{where}: the placeholder `{name}` must be declared, and used by a host")
    examples = {placeholder.name: placeholder.example for placeholder in placeholders}
    whole = {placeholder.name for placeholder in placeholders if placeholder.form == HOST_FORM}
    for host in hosts:
        if not host.broad:
            _check_pattern(host, examples, whole, f"{where}, host `{host.pattern}`")


def _check_pattern(
    host: CatalogHost, examples: dict[str, str], whole: set[str], where: str
) -> None:
    if whole & set(host.placeholders) and host.pattern != f"<{host.placeholders[0]}>":
        raise ValueError(f"{where}: a placeholder for a host is the whole pattern")
    if host.placeholders and host.pattern.startswith("*."):
        # `*.<tenant>.example`: all below one tenant, which is that tenant's alone.
        anchor(host.pattern)
    try:
        pattern = host.filled(examples).pattern
        usual = fqdn.canonical_pattern(pattern)
        if host.placeholders and not whole & set(host.placeholders):
            anchor(host.pattern)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if usual != pattern:
        raise ValueError(f"{where}: write `{pattern}` as `{usual}`")


def _placeholders(table: dict[str, object], where: str) -> tuple[Placeholder, ...]:
    tables = table.get("placeholder", {})
    if not isinstance(tables, dict):
        raise ValueError(f"{where}: `placeholder` must be a table of tables")  # noqa: TRY004
    return tuple(_placeholder(name, data, where) for name, data in tables.items())


def _placeholder(name: str, data: object, where: str) -> Placeholder:
    where = f"{where}, placeholder `{name}`"
    if not isinstance(data, dict):
        raise ValueError(f"{where} must be a table")  # noqa: TRY004
    _only(data, _PLACEHOLDER_KEYS, where)
    if name in RESERVED:
        raise ValueError(f"{where}: the name is a key of every entry")
    optional = data.get("optional", False)
    if not isinstance(optional, bool):
        raise ValueError(f"{where}: `optional` must be true or false")  # noqa: TRY004
    found = Placeholder(
        name,
        _text(data, "means", where),
        _text(data, "form", where),
        _text(data, "example", where),
        optional=optional,
    )
    try:
        re.compile(found.form)
        example = found.read(found.example)
    except (ValueError, re.error) as error:
        raise ValueError(f"{where}: {error}") from None
    if example != found.example:
        raise ValueError(f"{where}: write the example as `{example}`")
    return found


def _hosts(
    table: dict[str, object], entry_ports: tuple[int, ...] | None, where: str
) -> tuple[CatalogHost, ...]:
    """One table can tell of several hosts at once: `patterns`."""
    if ("pattern" in table) == ("patterns" in table):
        raise ValueError(f"{where}: a host has either `pattern` or `patterns`")
    if "pattern" in table:
        patterns: tuple[str, ...] = (_text(table, "pattern", where),)
    else:
        patterns = _texts(table, "patterns", where)
    return tuple(_host(pattern, table, entry_ports, where) for pattern in patterns)


def _host(
    pattern: str, table: dict[str, object], entry_ports: tuple[int, ...] | None, where: str
) -> CatalogHost:
    where = f"{where}, host `{pattern}`"
    _only(table, _HOST_KEYS, where)
    try:
        placeholders_in(pattern)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    read_on = table.get("date")
    if type(read_on) is not date:
        raise ValueError(f"{where}: `date` must be a date")
    grade = _word(table.get("grade"), Grade, "grade", where)
    words = table.get("role")
    roles = words if isinstance(words, list) else [words]
    host = CatalogHost(
        pattern=pattern,
        ports=_host_ports(table, entry_ports, where),
        roles=tuple(_word(word, Role, "role", where) for word in roles),
        use=_word(table.get("use"), Use, "use", where),
        source=_optional(table, "source", where),
        date=read_on,
        grade=grade,
        **{
            key: _optional(table, key, where)
            for key in ("when", "shared", "opens", "off", "broad", "instead", "deprecated", "on")
        },
    )
    _check_host(host, where)
    return host


def _check_host(host: CatalogHost, where: str) -> None:
    if not host.roles:
        raise ValueError(f"{where}: `role` must be one of {', '.join(Role)}")
    if host.grade in _TRUSTED and not host.source:
        raise ValueError(f"{where}: a host of grade {host.grade} needs its `source`")
    if host.source and not host.source.startswith("https://"):
        raise ValueError(f"{where}: `source` must be an https address")
    if not host.why_not:
        if host.grade is Grade.UNVERIFIED:
            raise ValueError(f"{where}: an unverified host is `off`, with the reason")
        if host.grade is Grade.OBSERVED and not host.on:
            raise ValueError(f"{where}: an observed host is `off`, or says in `on` why it is not")
    elif host.on:
        raise ValueError(f"{where}: `on` is for a host that is permitted")
    if bool(host.broad) != bool(host.instead):
        raise ValueError(f"{where}: `broad` goes with `instead`, the host to use")


def _host_ports(
    table: dict[str, object], entry_ports: tuple[int, ...] | None, where: str
) -> tuple[int, ...]:
    if table.get("ports") == "entry":
        if entry_ports is None:
            raise ValueError(f"{where}: `ports` can be the entry's where the registry has `ports`")
        return ()
    return _ports(table, where) if "ports" in table else DEFAULT_PORTS


def _ports(table: dict[str, object], where: str, *, empty: bool = False) -> tuple[int, ...]:
    ports = table["ports"]
    if not isinstance(ports, list) or not (ports or empty):
        raise ValueError(f"{where}: `ports` must be a list of ports")
    if not all(type(port) is int and 1 <= port <= MAX_PORT for port in ports):
        raise ValueError(f"{where}: a port is a number from 1 to {MAX_PORT}")
    if len(set(ports)) != len(ports):
        raise ValueError(f"{where}: a port is there twice")
    return tuple(ports)


def _broad(table: dict[str, object]) -> BroadName:
    where = f"broad name `{table.get('pattern', '?')}`"
    _only(table, _BROAD_KEYS, where)
    below = table.get("below", False)
    if not isinstance(below, bool):
        raise ValueError(f"{where}: `below` must be true or false")  # noqa: TRY004
    pattern = _text(table, "pattern", where)
    placeholders_in(pattern)
    anchor_of = pattern.removeprefix("*.")
    if "." in anchor_of:
        anchor(anchor_of)
    return BroadName(
        pattern, _text(table, "danger", where), _text(table, "instead", where), below=below
    )


def _word(value: object, words: type[Word], key: str, where: str) -> Word:
    if value not in list(words):
        raise ValueError(f"{where}: `{key}` must be one of {', '.join(words)}")
    return words(cast("str", value))


def _only(table: dict[str, object], known: set[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise ValueError(f"{where} has an unknown key `{unknown[0]}`")


def _tables(table: dict[str, object], key: str, where: str) -> list[dict[str, object]]:
    tables = table.get(key)
    if (
        not isinstance(tables, list)
        or not tables
        or not all(isinstance(one, dict) for one in tables)
    ):
        raise ValueError(f"{where} must have at least one [[{key}]]")
    return cast("list[dict[str, object]]", tables)


def _text(table: dict[str, object], key: str, where: str) -> str:
    value = table.get(key)
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"{where}: `{key}` must be a text of one line that is not empty")
    return value


def _optional(table: dict[str, object], key: str, where: str) -> str:
    return _text(table, key, where) if key in table else ""


def _texts(table: dict[str, object], key: str, where: str) -> tuple[str, ...]:
    values = table.get(key, [])
    if not isinstance(values, list) or not all(isinstance(one, str) and one for one in values):
        raise ValueError(f"{where}: `{key}` must be a list of strings")
    return tuple(values)
