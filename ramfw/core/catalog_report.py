"""The catalogue as plain dictionaries, for `ramfw catalog` (docs/json.md). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ramfw.core.catalog import Catalog, Known
from ramfw.core.policy_lints import allow_lines
from ramfw.core.registries import CatalogHost, Choice, Registry

Facts = dict[str, Any]


def in_force(catalog: Catalog) -> Facts:
    """Which catalogue it is."""
    return {
        "edition": catalog.edition,
        "source": catalog.source,
        "problem": catalog.problem,
    }


def listing(catalog: Catalog, registries: Iterable[Registry]) -> Facts:
    """Registries, one line each."""
    return {
        "catalog": in_force(catalog),
        "registries": [
            {
                "id": registry.id,
                "name": registry.name,
                "aliases": list(registry.aliases),
                "takes": [p.name for p in registry.placeholders if not p.optional],
                "needs": list(registry.needs),
                "hosts": sum(1 for host in registry.hosts if not host.why_not),
                "refused": registry.refused,
                "danger": registry.danger,
            }
            for registry in registries
        ],
    }


def whole(catalog: Catalog, registry: Registry) -> Facts:
    """One registry, with every host that is known and where that is known from."""
    return {
        "catalog": in_force(catalog),
        "id": registry.id,
        "name": registry.name,
        "aliases": list(registry.aliases),
        "needs": list(registry.needs),
        "ports": list(registry.ports or ()),
        "refused": registry.refused,
        "danger": registry.danger,
        "sample": registry.sample,
        "placeholders": [
            {"name": p.name, "means": p.means, "example": p.example, "optional": p.optional}
            for p in registry.placeholders
        ],
        "hosts": [_host(host) for host in registry.hosts],
        "entry": "" if registry.refused else example_entry(registry),
    }


def example_entry(registry: Registry) -> str:
    """The lines of a policy that permit a registry, with the examples of what it takes."""
    examples = {p.name: p.example for p in registry.placeholders if not p.optional}
    lines = f"[[allow]]\n{allow_lines(Known(registry, registry.hosts[0], examples))}"
    return lines if registry.ports is None else f"{lines}\nports = {list(registry.ports) or [8443]}"


def hosts_of(
    catalog: Catalog, registry: Registry, values: Mapping[str, str], choice: Choice
) -> Facts:
    """The hosts that an entry would permit, each with the registry that it belongs to."""
    own = {host.pattern for host in registry.filled(values, choice.ports)}
    needed = {
        host.pattern: need for need in registry.needs for host in catalog.registries[need].hosts
    }
    return {
        "catalog": in_force(catalog),
        "id": registry.id,
        "hosts": [
            {
                "host": host.pattern,
                "ports": list(host.ports),
                "role": str(host.role),
                "needed": host.needed,
                "registry": registry.id if host.pattern in own else needed[host.pattern],
            }
            for host in catalog.hosts(registry, values, choice)
        ],
    }


def _host(host: CatalogHost) -> Facts:
    off = "off" if host.why_not else "permitted"
    return {
        "pattern": host.pattern,
        "ports": list(host.ports),
        "roles": [str(role) for role in host.roles],
        "use": str(host.use),
        "when": host.when,
        "state": "never" if host.broad else off,
        "why": host.why_not or host.on,
        "instead": host.instead,
        "deprecated": host.deprecated,
        "shared": host.shared,
        "opens": host.opens,
        "source": host.source,
        "date": host.date.isoformat(),
        "grade": str(host.grade),
    }
