"""An `[[allow]]` table with `registry` as an `Entry`: the catalogue's hosts, placeholders filled.

Pure. What the table lacks or has too much is in the report, with an example that mends it.
"""

from __future__ import annotations

from ramfw.core import fqdn
from ramfw.core.catalog import Catalog
from ramfw.core.catalog_parser import MAX_PORT
from ramfw.core.policy import Entry, EntryKind, ScopeName, Target
from ramfw.core.policy_lints import lint_registry
from ramfw.core.policy_tables import Table, nearest, shown
from ramfw.core.registries import HOST_FORM, Access, CatalogHost, Choice, Registry

KEYS = ("registry", "access", "include", "exclude", "scopes")
_MISPLACED = {
    "protocol": "an entry with `registry` takes no `protocol`: registries speak TCP",
    "names": "an entry with `registry` takes no `names`: its hosts are known by name",
}
_NO_PORTS = "an entry with `registry` takes no `ports`: the catalogue has each host's ports"


def takes_host(table: Table, catalog: Catalog) -> bool:
    """Whether its registry is one on a server whose name the key `host` gives."""
    return "host" in _placeholders(_registry_of(table, catalog))


def read_registry(table: Table, scopes: frozenset[ScopeName], catalog: Catalog) -> Entry | None:
    """The entry, or None; then its problems are in the report."""
    registry = _registry_of(table, catalog)
    _check_keys(table, registry, catalog)
    if registry is None:
        _say_unknown(table, catalog)
        return None
    if registry.refused:
        table.error("registry", f"`{registry.id}` cannot be permitted: {registry.refused}")
        return None
    values, ports = _values(table, registry), _ports(table, registry)
    access = table.word("access", Access) or Access.BOTH
    if values is None or ports is None:
        return None
    known = catalog.known_hosts(registry, values, ports)
    include = _single_hosts(table, "include", known)
    exclude = _single_hosts(table, "exclude", known)
    choice = Choice(ports, access, include, exclude)
    hosts = catalog.hosts(registry, values, choice)
    if not hosts:
        table.error("exclude", "nothing is left of the registry: take the whole entry away")
    lint_registry(table, registry, hosts, choice.access)
    targets = tuple(Target(host.pattern, host.ports, str(host.role)) for host in hosts)
    return Entry(
        EntryKind.REGISTRY,
        _label(registry, values, ports),
        targets=targets,
        scopes=scopes,
        registry=registry.id,
        line=table.report.line(table.path),
    )


def _registry_of(table: Table, catalog: Catalog) -> Registry | None:
    text = table.peek("registry")
    return catalog.get(text) if isinstance(text, str) else None


def _placeholders(registry: Registry | None) -> tuple[str, ...]:
    return tuple(one.name for one in registry.placeholders) if registry else ()


def _check_keys(table: Table, registry: Registry | None, catalog: Catalog) -> None:
    misplaced = dict(_MISPLACED)
    if registry is None:
        # What an unknown registry would have taken is not known either.
        table.only((*KEYS, *sorted(catalog.placeholder_names), "ports"), misplaced)
        return
    own = _placeholders(registry)
    for key in catalog.placeholder_names - set(own):
        takes = f"it takes {_quoted(own)}" if own else "it takes nothing of the kind"
        misplaced[key] = f"the catalogue entry `{registry.id}` takes no `{key}`; {takes}"
    known = (*KEYS, *own)
    if registry.ports is None:
        misplaced["ports"] = _NO_PORTS
    else:
        known += ("ports",)
    table.only(known, misplaced)


def _say_unknown(table: Table, catalog: Catalog) -> None:
    text = table.text("registry")
    if text is None:
        return
    near = catalog.near(text)
    if near:
        others = ", ".join(f"`{one}`" for one in near[1:])
        hint = f'did you mean `registry = "{near[0]}"`?' + (f" Or {others}?" if others else "")
    else:
        hint = 'permit its hosts one by one: `host = "registry.example"`'
    message = f"`{shown(text)}` is not in the catalogue"
    if catalog.problem:
        message += f" that ramfw ships; the organization's cannot be used: {catalog.problem}"
    table.error("registry", message, hint)


def _values(table: Table, registry: Registry) -> dict[str, str] | None:
    """What the table gives the placeholders; None if one is missing or has a wrong form."""
    values: dict[str, str] = {}
    is_complete = True
    for placeholder in registry.placeholders:
        name = placeholder.name
        text = table.text(name)
        if text is None:
            if name in table:
                is_complete = False
            elif not placeholder.optional:
                is_complete = False
                table.report.error(
                    table.path,
                    f"`{registry.id}` needs `{name}`: {placeholder.means}",
                    f'{name} = "{placeholder.example}"',
                )
            continue
        try:
            values[name] = placeholder.read(text)
        except ValueError as error:
            is_complete = False
            table.error(name, str(error), f'{name} = "{placeholder.example}"')
    return values if is_complete else None


def _ports(table: Table, registry: Registry) -> tuple[int, ...] | None:
    """The entry's ports, or the registry's own; None if they are missing or wrong."""
    if registry.ports is None:
        return ()
    if "ports" not in table:
        if not registry.ports:
            message = f"`{registry.id}` needs `ports`: those on which images are pulled"
            table.report.error(table.path, message, "ports = [8443]")
            return None
        return registry.ports
    ports = table.integers("ports", 1, MAX_PORT, "a port")
    if ports == ():
        table.error("ports", "the list is empty", f"ports = {list(registry.ports) or [8443]}")
        return None
    return ports


def _single_hosts(table: Table, key: str, known: tuple[CatalogHost, ...]) -> frozenset[str]:
    """The hosts that `include` or `exclude` names, each one of the registry's."""
    chosen = set()
    for position, text in enumerate(table.texts(key) or ()):
        path = (*table.at(key), position)
        broad = next((host for host in known if host.pattern == text and host.broad), None)
        if broad is not None and key == "include":
            table.report.error(path, f"`{text}` is too much: {broad.broad}", broad.instead)
            continue
        try:
            pattern = fqdn.canonical_pattern(text)
        except ValueError as error:
            table.report.error(path, str(error))
            continue
        found = next((host for host in known if host.pattern == pattern), None)
        if found is None:
            near = nearest(pattern, [host.pattern for host in known])
            hint = f'did you mean "{near}"?' if near else f'[[allow]] with host = "{pattern}"'
            message = f"the catalogue does not have `{shown(pattern)}` for this registry"
            table.report.error(path, message, hint)
        elif key == "include" and not found.why_not:
            table.report.warn(path, f"`{pattern}` is permitted without being included")
            chosen.add(pattern)
        elif key == "exclude" and found.why_not:
            table.report.warn(path, f"`{pattern}` is not permitted anyway: {found.why_not}")
            chosen.add(pattern)
        else:
            chosen.add(pattern)
    return frozenset(chosen)


def _label(registry: Registry, values: dict[str, str], ports: tuple[int, ...]) -> str:
    """`docker.io`, `ecr 123456789012 eu-west-1`, `nexus nexus.corp.example:8443`."""
    parts = [registry.id]
    for placeholder in registry.placeholders:
        if placeholder.optional or placeholder.name not in values:
            continue
        value = values[placeholder.name]
        if placeholder.form == HOST_FORM and ports:
            value += ":" + ",".join(map(str, ports))
        parts.append(value)
    return " ".join(parts)


def _quoted(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)
