"""The catalogue: registries that a policy can name, and the hosts that belong to each.

Pure but for `shipped`, which reads the data file next to this module. A broken text is refused
whole (`catalog_parser`). `registry_of` answers for every registry that is known, whether or not a
policy can permit it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from types import MappingProxyType

from ramfw.core.catalog_parser import BroadName, CatalogText, parse
from ramfw.core.registries import (
    HOST_FORM,
    CatalogHost,
    Choice,
    Registry,
    Role,
    anchor,
    values_in,
)

SHIPPED = "shipped"
EVERYTHING_USUAL = Choice()
_MOST_NEAR = 3


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue knows about a name: whose it is, in which row, with which placeholders."""

    registry: Registry
    host: CatalogHost
    values: Mapping[str, str]


@dataclass(frozen=True)
class Catalog:
    """All registries, by id, in the file's order.

    `edition` is the data's own version and `source` the file it came from. `problem` says why the
    organization's own catalogue is not used, and is empty otherwise.
    """

    registries: Mapping[str, Registry]
    broad_names: tuple[BroadName, ...] = ()
    edition: str = ""
    source: str = SHIPPED
    problem: str = ""

    # -- by id or word -------------------------------------------------------------------------

    def get(self, registry_id: str) -> Registry | None:
        """The registry of exactly this id."""
        return self.registries.get(registry_id)

    def nearest(self, text: str) -> str | None:
        """The id that was most likely meant: by alias, by one of its hosts, by likeness."""
        return next(iter(self.near(text)), None)

    def near(self, text: str) -> tuple[str, ...]:
        """The ids that may have been meant, the likeliest first; at most three."""
        word = text.strip().lower()
        known = {name: r.id for r in self.registries.values() for name in (r.id, *r.aliases)}
        if word in known:
            return (known[word],)
        found = self.owners(word)
        if found:
            return tuple(dict.fromkeys(one.registry.id for one in found))[:_MOST_NEAR]
        close = difflib.get_close_matches(word, known, n=2 * _MOST_NEAR, cutoff=0.7)
        return tuple(dict.fromkeys(known[name] for name in close))[:_MOST_NEAR]

    def search(self, word: str) -> list[Registry]:
        """The registries that have a word in their id, names or hosts."""
        wanted = word.strip().lower()
        return [
            registry
            for registry in self.registries.values()
            if any(wanted in known.lower() for known in (*registry.words, registry.name))
        ]

    @cached_property
    def placeholder_names(self) -> frozenset[str]:
        """Every placeholder of any registry: the keys that some entry takes."""
        return frozenset(p.name for r in self.registries.values() for p in r.placeholders)

    # -- by host -------------------------------------------------------------------------------

    def registry_of(self, api_host: str) -> Registry | None:
        """The registry that a canonical name is an api host of, whoever its customer is."""
        known = self.identify(api_host)
        return known.registry if known else None

    def identify(self, api_host: str) -> Known | None:
        """The same, with what the name says of account, region or tenant."""
        return next(self._owners(api_host, self._apis), None)

    def owners(self, host: str) -> list[Known]:
        """Every registry that a canonical name belongs to, in any role."""
        return list(self._owners(host, self._all))

    def _owners(self, name: str, index: _Index) -> Iterator[Known]:
        for registry, host in index.exact.get(name, ()):
            yield Known(registry, host, {})
        for registry, host in index.templates.get(".".join(name.split(".")[-2:]), ()):
            values = values_in(host.pattern, name, _forms(registry))
            if values is not None:
                yield Known(registry, host, values)

    @cached_property
    def _apis(self) -> _Index:
        return _index(self.registries.values(), frozenset({Role.API}))

    @cached_property
    def _all(self) -> _Index:
        return _index(self.registries.values(), frozenset(Role))

    # -- what an entry permits -----------------------------------------------------------------

    def hosts(
        self, registry: Registry, values: Mapping[str, str], choice: Choice = EVERYTHING_USUAL
    ) -> tuple[CatalogHost, ...]:
        """The hosts that an entry permits, placeholders filled, those of `needs` among them."""
        known = self.known_hosts(registry, values, choice.ports)
        chosen: dict[str, CatalogHost] = {}
        for host in filter(choice.takes, known):
            chosen.setdefault(host.pattern, host)
        return tuple(chosen.values())

    def known_hosts(
        self, registry: Registry, values: Mapping[str, str], ports: tuple[int, ...] = ()
    ) -> tuple[CatalogHost, ...]:
        """All hosts of a registry and of those it needs, also those that are off."""
        needed = (self.registries[need] for need in registry.needs)
        return (
            *registry.filled(values, ports),
            *(host for one in needed for host in one.filled({})),
        )

    def broad_name(self, pattern: str) -> BroadName | None:
        """Why a name or a wildcard opens more than is meant by it; the nearest of those known."""
        found = [broad for broad in self.broad_names if _is_broad(broad, pattern)]
        return max(found, key=lambda broad: len(broad.pattern), default=None)


@dataclass(frozen=True, slots=True)
class _Index:
    exact: Mapping[str, tuple[tuple[Registry, CatalogHost], ...]]
    templates: Mapping[str, tuple[tuple[Registry, CatalogHost], ...]]
    """By the two last labels; templates before wildcards."""


def _index(registries: Iterable[Registry], roles: frozenset[Role]) -> _Index:
    exact: dict[str, list[tuple[Registry, CatalogHost]]] = {}
    templates: dict[str, list[tuple[Registry, CatalogHost]]] = {}
    for registry in registries:
        whole = {f"<{p.name}>" for p in registry.placeholders if p.form == HOST_FORM}
        for host in registry.hosts:
            if roles.isdisjoint(host.roles) or host.pattern in whole or host.broad:
                continue
            if "<" in host.pattern or host.pattern.startswith("*."):
                templates.setdefault(anchor(host.pattern), []).append((registry, host))
            else:
                exact.setdefault(host.pattern, []).append((registry, host))
    for known in templates.values():
        known.sort(key=lambda one: (one[1].pattern.startswith("*."), -len(one[1].pattern)))
    return _Index(
        {name: tuple(known) for name, known in exact.items()},
        {name: tuple(known) for name, known in templates.items()},
    )


def _forms(registry: Registry) -> dict[str, str]:
    return {p.name: p.form for p in registry.placeholders if p.form != HOST_FORM}


def _is_broad(broad: BroadName, pattern: str) -> bool:
    if pattern.startswith("*.") != broad.pattern.startswith("*."):
        return False
    known, name = broad.pattern.removeprefix("*."), pattern.removeprefix("*.")
    if known == name or ("<" in known and values_in(known, name, {}) is not None):
        return True
    return broad.below and pattern.startswith("*.") and name.endswith(f".{known}")


NO_CATALOG = Catalog(MappingProxyType({}))


def load(text: str, source: str = SHIPPED) -> Catalog:
    """The catalogue in a TOML text; ValueError says what is wrong with it and in which entry."""
    read: CatalogText = parse(text)
    registries = {registry.id: registry for registry in read.registries}
    return Catalog(MappingProxyType(registries), read.broad_names, read.edition, source)


@cache
def shipped() -> Catalog:
    """The catalogue that comes with this version of ramfw."""
    return load(resources.files("ramfw.core").joinpath("catalog.toml").read_text(encoding="utf-8"))
