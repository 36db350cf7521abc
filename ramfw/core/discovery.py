"""What a pull met, held against the catalogue, and the lines of a policy that would permit it.

Pure; plain dictionaries as in docs/json.md. A registry can name any host as its realm, and
redirect to any: what the catalogue does not have is written as a comment, for a person to decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ramfw.core.catalog import Catalog, Known
from ramfw.core.catalog_report import in_force
from ramfw.core.fqdn import matches
from ramfw.core.policy_lints import allow_lines
from ramfw.core.reference import HTTPS_PORT, Reference, address_of
from ramfw.core.registries import CatalogHost, Choice, Role

Facts = dict[str, Any]


class Step(StrEnum):
    """How a host came to be part of a pull."""

    ASKED = "asked first"
    REALM = "named as the realm of its 401"
    MANIFEST = "redirected a manifest there"
    BLOB = "redirected a layer there"
    BLOB_HERE = "hands out layers itself"
    FOREIGN = "named as the place of a foreign layer"


ROLES = {
    Step.ASKED: Role.API,
    Step.REALM: Role.AUTH,
    Step.MANIFEST: Role.API,
    Step.BLOB: Role.BLOBS,
    Step.BLOB_HERE: Role.BLOBS,
    Step.FOREIGN: Role.BLOBS,
}


@dataclass(frozen=True, slots=True)
class Met:
    """A host on the way; `address` is empty where it was not connected to, and `problem` why."""

    host: str
    port: int
    step: Step
    address: str = ""
    problem: str = ""


@dataclass(slots=True)
class Pull:
    """What was met, in order; `stopped` says why it did not get as far as a layer, or is empty."""

    met: list[Met] = field(default_factory=list)
    stopped: str = ""
    is_registry: bool = False


def registry_host(asked: Reference, catalog: Catalog) -> str:
    """The host that a client connects to: Docker Hub's images are not named by it."""
    registry = catalog.get(asked.host) if asked.port is None else None
    if registry is None or registry.placeholders:
        return asked.host
    if any(host.pattern == asked.host for host in registry.hosts):
        return asked.host
    apis = (host for host in registry.hosts if host.role is Role.API and not host.why_not)
    return next((host.pattern for host in apis if "*" not in host.pattern), asked.host)


def discovered(query: str, pull: Pull, host: str, catalog: Catalog) -> Facts:
    """What `ramfw discover` tells; `host` is the registry's."""
    known = catalog.identify(host)
    hosts = [_host(met, known, catalog) for met in _once(pull.met)]
    return {
        "catalog": in_force(catalog),
        "query": query,
        "registry": known.registry.id if known else "",
        "is_registry": pull.is_registry,
        "complete": not pull.stopped,
        "stopped": pull.stopped,
        "hosts": hosts,
        "entry": _entry(hosts, known) if pull.is_registry else "",
        "doubtful": _doubtful(hosts, known, catalog) if pull.is_registry else "",
    }


def drift(image: str, pull: Pull, known: Known, catalog: Catalog) -> Facts:
    """What `ramfw catalog verify` tells: hosts that the entry lacks, and those not met now.

    A host that was not met is no news: which one a client is sent to depends on where it is.
    """
    hosts = [_host(met, known, catalog) for met in _once(pull.met)]
    met = [host["host"] for host in hosts]
    return {
        "catalog": in_force(catalog),
        "id": known.registry.id,
        "image": image,
        "complete": not pull.stopped,
        "stopped": pull.stopped,
        "hosts": hosts,
        "drift": list(
            dict.fromkeys(host["host"] for host in hosts if host["state"] != "permitted")
        ),
        "not_met": [
            host.pattern
            for host in catalog.hosts(known.registry, known.values)
            if not any(matches(host.pattern, name) for name in met)
        ],
    }


def _once(met: Iterable[Met]) -> Iterator[Met]:
    """Each host once in each role, as it was met first."""
    seen = set()
    for one in met:
        key = (one.host, one.port, ROLES[one.step])
        if key not in seen:
            seen.add(key)
            yield one


def _host(met: Met, known: Known | None, catalog: Catalog) -> Facts:
    row = _row(met, known, catalog)
    if row is None:
        state, why = "unknown", ""
        whose = [one.registry.id for one in catalog.owners(met.host)]
    else:
        state = "never" if row.broad else "off" if row.why_not else "permitted"
        why, whose = row.why_not, [known.registry.id] if known else []
    broad = catalog.broad_name(met.host)
    return {
        "host": met.host,
        "port": met.port,
        "role": str(ROLES[met.step]),
        "how": str(met.step),
        "address": met.address,
        "problem": met.problem,
        "state": state,
        "why": why or (broad.danger if broad else ""),
        "registries": list(dict.fromkeys(whose)),
    }


def _row(met: Met, known: Known | None, catalog: Catalog) -> CatalogHost | None:
    """The catalogue's row for a host of this registry, a permitted one rather than another."""
    if known is None:
        return None
    rows = [
        host
        for host in catalog.known_hosts(known.registry, known.values)
        if met.port in host.ports and matches(host.pattern, met.host)
    ]
    usual = Choice()
    return next(filter(usual.takes, rows), rows[0] if rows else None)


def _entry(hosts: list[Facts], known: Known | None) -> str:
    """The lines for what the catalogue has, or for the host that the person named themselves."""
    if known is None or known.registry.refused:
        first = hosts[0]
        return f"[[allow]]\n{_one_host(first)}"
    lines = allow_lines(known)
    included = list(dict.fromkeys(host["host"] for host in hosts if host["state"] == "off"))
    if included:
        patterns = ", ".join(f'"{pattern}"' for pattern in _patterns(included, known))
        lines += f"\ninclude = [{patterns}]"
    return f"[[allow]]\n{lines}"


def _patterns(hosts: Iterable[str], known: Known) -> Iterator[str]:
    rows = known.registry.filled(known.values)
    for host in hosts:
        yield next((row.pattern for row in rows if matches(row.pattern, host)), host)


def _doubtful(hosts: list[Facts], known: Known | None, catalog: Catalog) -> str:
    """Comments with what only the registry says."""
    lines: list[str] = []
    seen = {(hosts[0]["host"], hosts[0]["port"])}
    for host in hosts:
        place = (host["host"], host["port"])
        if host["state"] in {"permitted", "off"} or place in seen:
            continue
        seen.add(place)
        warning = host["problem"] or host["why"]
        lines.append(f"# the registry {host['how']}" + (f"; {warning}" if warning else ""))
        value = _value(host["host"], known, catalog)
        entry = (value,) if value else ("[[allow]]", *_one_host(host).splitlines())
        lines += [f"# {line}" for line in entry]
    return "\n".join(lines)


def _value(host: str, known: Known | None, catalog: Catalog) -> str:
    """The key of the entry that would bring the host, where its registry has one for it."""
    for one in catalog.owners(host) if known else ():
        if known and one.registry.id == known.registry.id:
            new = {key: one.values[key] for key in one.values.keys() - known.values.keys()}
            return ", ".join(f'{key} = "{value}"' for key, value in new.items())
    return ""


def _one_host(host: Facts) -> str:
    key = "host" if address_of(host["host"]) is None else "address"
    ports = "" if host["port"] == HTTPS_PORT else f"\nports = [{host['port']}]"
    return f'{key} = "{host["host"]}"{ports}'
