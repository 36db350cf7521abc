"""What is valid in a policy and yet doubtful: warnings of `ramfw check`, each with what mends it.

Pure. One sentence each: the danger, and the exact line to use instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ramfw.core import fqdn
from ramfw.core.catalog import Catalog, Known
from ramfw.core.policy import Entry, EntryKind, Target
from ramfw.core.policy_tables import Report, Table
from ramfw.core.registries import Access, CatalogHost, Registry, Role
from ramfw.core.toml_lines import Path


def lint_hosts(
    entries: Sequence[Entry], paths: Sequence[Path], catalog: Catalog, report: Report
) -> None:
    """Warn about entries with `host`, which need the others to be judged."""
    by_hand = frozenset(
        known.registry.id
        for entry in entries
        if entry.kind is EntryKind.HOST
        for target in entry.targets
        if (known := catalog.identify(target.pattern)) is not None
    )
    permitted = [target for entry in entries for target in entry.targets]
    lints = _HostLints(catalog, report, permitted, by_hand)
    for entry, path in zip(entries, paths, strict=True):
        if entry.kind is EntryKind.HOST:
            lints.look_at(entry.targets[0], (*path, "host"))


def lint_registry(
    table: Table,
    registry: Registry,
    hosts: Iterable[CatalogHost],
    access: Access,
) -> None:
    """Warn about one entry with `registry`, whose catalogue `hosts` these are."""
    chosen = {host.pattern: host for host in hosts}
    path = table.at("registry")
    if registry.danger:
        table.report.warn(path, f"`{registry.id}`: {registry.danger}")
    own = [host for host in registry.hosts if host.role is Role.API and not host.why_not]
    if own and all(host.deprecated for host in own):
        table.report.warn(path, f"`{registry.id}` goes away: {own[0].deprecated}")
    for need in registry.needs:
        message = f"`{registry.id}` hands over to `{need}`, whose hosts are permitted with it"
        table.report.warn(path, message)
    both = [host.pattern for host in chosen.values() if host.takes_pushes]
    if access is Access.PULL and both:
        message = f"{_some(both)}: pushes go there too, and hosts alone do not tell the two apart"
        table.report.warn(table.at("access"), message)
    _warn_of_missing_roles(table, registry, chosen)
    opened: dict[str, list[str]] = {}
    for host in chosen.values():
        if host.opens:
            opened.setdefault(host.opens, []).append(host.pattern)
    for opens, patterns in opened.items():
        table.report.warn(path, f"through {_some(patterns)}, {opens} can be reached too")
    shared = dict.fromkeys(host.shared for host in chosen.values() if host.shared)
    if shared:
        table.report.warn(
            path,
            f"{', '.join(shared)} serve many others from the addresses of `{registry.id}`: these "
            "are opened with it wherever names are not checked (`ramfw doctor` tells)",
        )


def allow_lines(known: Known) -> str:
    """The lines of an [[allow]] for what a name says of its registry."""
    lines = [f'registry = "{known.registry.id}"']
    for placeholder in known.registry.placeholders:
        value = known.values.get(placeholder.name)
        if value is not None:
            lines.append(f'{placeholder.name} = "{value}"')
        elif not placeholder.optional:
            lines.append(f'{placeholder.name} = "{placeholder.example}"  # an example')
    return "\n".join(lines)


def _warn_of_missing_roles(
    table: Table, registry: Registry, chosen: dict[str, CatalogHost]
) -> None:
    """`exclude` can leave a registry that nothing can be pulled from."""
    for role, what in ((Role.API, "its api"), (Role.AUTH, "its sign-in"), (Role.BLOBS, "layers")):
        usual = [h for h in registry.hosts if role in h.roles and not h.why_not]
        if usual and not any(role in host.roles for host in chosen.values()) and "exclude" in table:
            table.report.warn(
                table.at("exclude"), f"no host for {what} is left: nothing can be pulled"
            )


@dataclass(frozen=True, slots=True)
class _HostLints:
    """The entries with `host` of one policy; `permitted` is all that any of its entries names."""

    catalog: Catalog
    report: Report
    permitted: Sequence[Target]
    by_hand: frozenset[str]
    """The registries whose api hosts are permitted one by one."""

    def look_at(self, target: Target, path: Path) -> None:
        pattern = target.pattern
        broad = self.catalog.broad_name(pattern)
        if broad is not None:
            message = f"`{pattern}`: {broad.danger}"
            self.report.warn(path, message, broad.instead)
            return
        if target.is_wildcard:
            return
        known = self.catalog.identify(pattern)
        if known is not None:
            self._look_at_api(known, pattern, path)
            return
        owners = [one for one in self.catalog.owners(pattern) if not one.host.why_not]
        if owners and self.by_hand.isdisjoint(one.registry.id for one in owners):
            names = _quoted(dict.fromkeys(one.registry.id for one in owners))
            message = f"the catalogue has it with {names}, whose entry keeps all hosts current"
            self.report.warn(path, message, allow_lines(owners[0]))
        elif "." not in pattern:
            message = f"`{pattern}` is looked up as it is, without a search domain"
            self.report.warn(path, message, f'host = "{pattern}.corp.example"')

    def _look_at_api(self, known: Known, pattern: str, path: Path) -> None:
        registry = known.registry
        if registry.refused:
            self.report.warn(path, f"`{pattern}` is {registry.name}: {registry.refused}")
            return
        if registry.danger:
            self.report.warn(path, f"`{pattern}`: {registry.danger}")
        hosts = self.catalog.hosts(registry, known.values)
        missing = [host for host in hosts if not self._is_permitted(host)]
        sign_in = [host.pattern for host in missing if Role.AUTH in host.roles]
        layers = [host for host in hosts if host.role is Role.BLOBS]
        if sign_in:
            what = f"without {_some(sign_in)}, where it sends clients to sign in, nothing is pulled"
        elif layers and all(host in missing for host in layers):
            what = f"without {_some([host.pattern for host in layers])} no layers are pulled"
        else:
            what = f"the catalogue's entry keeps the hosts of {registry.name} current"
        self.report.warn(path, f"this permits one host alone: {what}", allow_lines(known))

    def _is_permitted(self, host: CatalogHost) -> bool:
        return any(fqdn.matches(other.pattern, host.pattern) for other in self.permitted)


def _some(patterns: Sequence[str]) -> str:
    most = 3
    listed = _quoted(patterns[:most])
    return listed if len(patterns) <= most else f"{listed} and {len(patterns) - most} more"


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
