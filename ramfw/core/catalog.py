"""The catalogue: registries that a policy can name, and the hosts that belong to each.

Pure but for `shipped`, which reads the data file next to this module. `load` trusts nothing: a
catalogue with a wrong key, a name that is not canonical or a duplicate is refused whole.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import cast

from ramfw.core import fqdn

ROLES = ("api", "auth", "blobs")
DEFAULT_PORTS = (443,)
MAX_PORT = 65535
# A key of these names an account or a place in a host's name; no entry has such a host so far.
PLACEHOLDERS = ("account", "region", "tenant")


class Grade(StrEnum):
    """How good the source of a host is, best first."""

    VENDOR = "vendor"
    VENDOR_CODE = "vendor-code"
    VENDOR_STAFF = "vendor-staff"
    OBSERVED = "observed"


@dataclass(frozen=True, slots=True)
class CatalogHost:
    """One host of a registry.

    `needed` says for what in words, `date` is the day on which `source` was read, and `shared`
    names the CDN whose addresses carry the host, or is empty.
    """

    pattern: str
    ports: tuple[int, ...]
    role: str
    needed: str
    source: str
    date: date
    grade: Grade
    shared: str = ""


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry under the id that a policy gives, which is how people name its images."""

    id: str
    name: str
    hosts: tuple[CatalogHost, ...]
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Catalog:
    """All registries, by id, in the file's order."""

    registries: Mapping[str, Registry]

    def get(self, registry_id: str) -> Registry | None:
        """The registry of exactly this id."""
        return self.registries.get(registry_id)

    def nearest(self, text: str) -> str | None:
        """The id that was most likely meant: by alias, by one of its hosts, by likeness."""
        word = text.strip().lower()
        known = {name: r.id for r in self.registries.values() for name in _names(r)}
        if word in known:
            return known[word]
        close = difflib.get_close_matches(word, known, n=1)
        return known[close[0]] if close else None


def load(text: str) -> Catalog:
    """The catalogue in a TOML text; ValueError says what is wrong with it and in which entry."""
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the catalogue is not valid TOML: {error}") from None
    _only(data, {"registry"}, "the catalogue")
    registries: dict[str, Registry] = {}
    taken: set[str] = set()
    for table in _tables(data, "registry", "the catalogue"):
        registry = _registry(table)
        names = _names(registry)
        if names & taken:
            raise ValueError(f"the catalogue has `{min(names & taken)}` twice")
        taken |= names
        registries[registry.id] = registry
    return Catalog(MappingProxyType(registries))


@cache
def shipped() -> Catalog:
    """The catalogue that comes with this version of ramfw."""
    return load(resources.files("ramfw.core").joinpath("catalog.toml").read_text(encoding="utf-8"))


def _names(registry: Registry) -> frozenset[str]:
    """Every word by which a person may mean the registry."""
    return frozenset({registry.id, *registry.aliases, *(host.pattern for host in registry.hosts)})


def _registry(table: dict[str, object]) -> Registry:
    where = f"catalogue entry `{table.get('id', '?')}`"
    _only(table, {"id", "name", "aliases", "host"}, where)
    hosts = tuple(_host(host, where) for host in _tables(table, "host", where))
    if len({host.pattern for host in hosts}) != len(hosts):
        raise ValueError(f"{where} has a host twice")
    aliases = table.get("aliases", [])
    if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
        raise ValueError(f"{where}: `aliases` must be a list of strings")
    return Registry(_text(table, "id", where), _text(table, "name", where), hosts, tuple(aliases))


def _host(table: dict[str, object], where: str) -> CatalogHost:
    _only(table, {"pattern", "ports", "role", "needed", "source", "date", "grade", "shared"}, where)
    pattern = _text(table, "pattern", where)
    try:
        usual = fqdn.canonical_pattern(pattern)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if usual != pattern:
        raise ValueError(f"{where}: write `{pattern}` as `{usual}`")
    where = f"{where}, host `{pattern}`"
    role, grade, read_on = (
        _text(table, "role", where),
        _text(table, "grade", where),
        table.get("date"),
    )
    if role not in ROLES:
        raise ValueError(f"{where}: `role` must be one of {', '.join(ROLES)}")
    if grade not in list(Grade):
        raise ValueError(f"{where}: `grade` must be one of {', '.join(Grade)}")
    if type(read_on) is not date:
        raise ValueError(f"{where}: `date` must be a date")
    return CatalogHost(
        pattern=pattern,
        ports=_ports(table, where),
        role=role,
        needed=_text(table, "needed", where),
        source=_text(table, "source", where),
        date=read_on,
        grade=Grade(grade),
        shared=_text(table, "shared", where) if "shared" in table else "",
    )


def _ports(table: dict[str, object], where: str) -> tuple[int, ...]:
    ports = table.get("ports", list(DEFAULT_PORTS))
    if not isinstance(ports, list) or not ports:
        raise ValueError(f"{where}: `ports` must be a list of ports")
    if not all(type(port) is int and 1 <= port <= MAX_PORT for port in ports):
        raise ValueError(f"{where}: a port is a number from 1 to {MAX_PORT}")
    if len(set(ports)) != len(ports):
        raise ValueError(f"{where}: a port is there twice")
    return tuple(ports)


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
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: `{key}` must be a text that is not empty")
    return value
