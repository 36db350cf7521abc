"""Commands about the catalogue: catalog list, show, search, hosts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

import click

from ramfw.cli.base import Instance, examples, facts_as_json, main, places
from ramfw.cli.output import page, print_json, say
from ramfw.render import catalog as catalog_text
from ramfw.render.text import clean

if TYPE_CHECKING:
    from ramfw.core.catalog import Catalog, Known
    from ramfw.core.registries import Choice, Registry


@main.group(epilog=examples("ramfw catalog search google", "ramfw catalog show docker.io"))
@places
def catalog() -> None:
    """Look up registries and the hosts that belong to them.

    The catalogue is the one that ramfw ships, or the file that the policy names under [catalog].
    """


@catalog.command("list", epilog=examples("ramfw catalog list"))
@places
@facts_as_json
@click.pass_obj
def list_all(instance: Instance) -> None:
    """List every registry, with what an entry for it takes."""
    from ramfw.core import catalog_report

    found = _catalog(instance)
    facts = catalog_report.listing(found, found.registries.values())
    _print(instance, facts, catalog_text.listing(facts, page(sys.stdout)))


@catalog.command(epilog=examples("ramfw catalog search amazonaws.com"))
@click.argument("word")
@places
@facts_as_json
@click.pass_obj
def search(instance: Instance, word: str) -> None:
    """List the registries with a word in their names or hosts."""
    from ramfw.core import catalog_report

    found = _catalog(instance)
    facts = catalog_report.listing(found, found.search(word))
    _print(instance, facts, catalog_text.listing(facts, page(sys.stdout)))


@catalog.command(epilog=examples("ramfw catalog show ecr"))
@click.argument("registry_id", metavar="ID")
@places
@facts_as_json
@click.pass_obj
def show(instance: Instance, registry_id: str) -> None:
    """Show a registry's hosts, with the source of each.

    + is permitted with the registry, - is off until an entry includes it, x is never permitted.
    """
    from ramfw.core import catalog_report

    found = _catalog(instance)
    facts = catalog_report.whole(found, _registry(found, registry_id))
    _print(instance, facts, catalog_text.whole(facts, page(sys.stdout)))


@catalog.command(
    epilog=examples(
        "ramfw catalog hosts docker.io",
        "ramfw catalog hosts ecr account=123456789012 region=eu-west-1 access=pull",
        "ramfw catalog hosts 123456789012.dkr.ecr.eu-west-1.amazonaws.com",
    )
)
@click.argument("entry", metavar="ID|HOST")
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1)
@places
@facts_as_json
@click.pass_obj
def hosts(instance: Instance, entry: str, settings: tuple[str, ...]) -> None:
    """Print the hosts that an entry of a policy permits.

    ID is a registry of the catalogue; HOST one by which its images are named, from which account,
    region or tenant are read. KEY is what the entry would have: a placeholder, ports, access.
    """
    from ramfw.core import catalog_report

    found = _catalog(instance)
    known, choice = entry_of(found, entry, settings)
    facts = catalog_report.hosts_of(found, known.registry, known.values, choice)
    _print(instance, facts, catalog_text.hosts(facts, page(sys.stdout)))


def _catalog(instance: Instance) -> Catalog:
    from ramfw import policyfile

    return policyfile.catalog_of(instance.policy)


def _print(instance: Instance, facts: dict[str, object], lines: list[str]) -> None:
    if instance.as_json:
        print_json(facts)
    else:
        say(lines)


def _registry(found: Catalog, text: str) -> Registry:
    """The registry of exactly this id; where there is none, the nearest ones are named."""
    registry = found.get(text.strip().lower())
    if registry is None:
        near = found.near(text)
        meant = f"did you mean {' or '.join(near)}?" if near else "ramfw catalog list shows all"
        _wrong(f"`{clean(text)}` is not in the catalogue; {meant}")
    return registry


def entry_of(found: Catalog, text: str, settings: tuple[str, ...]) -> tuple[Known, Choice]:
    """What an entry with these settings would take; a wrong one is bad usage."""
    from ramfw.core.catalog import Known
    from ramfw.core.registries import Access, Choice

    known = found.identify(text.strip().lower()) if found.get(text) is None else None
    registry = known.registry if known else _registry(found, text)
    given = _pairs(settings)
    values = dict(known.values) if known else {}
    access = given.pop("access", str(Access.BOTH))
    if access not in list(Access):
        _wrong(f"access is one of {', '.join(Access)}")
    ports = _ports(given.pop("ports", ""), registry)
    for placeholder in registry.placeholders:
        if placeholder.name in given:
            try:
                values[placeholder.name] = placeholder.read(given.pop(placeholder.name))
            except ValueError as error:
                _wrong(f"{placeholder.name}: {error}")
        elif not placeholder.optional and placeholder.name not in values:
            example = f"{placeholder.name}={placeholder.example}"
            _wrong(f"{registry.id} needs {placeholder.name}, {placeholder.means}: {example}")
    if given:
        takes = [p.name for p in registry.placeholders] + ["access"]
        _wrong(f"{registry.id} takes no {min(given)}; it takes {', '.join(takes)}")
    return Known(registry, registry.hosts[0], values), Choice(ports, Access(access))


def _pairs(settings: tuple[str, ...]) -> dict[str, str]:
    given = {}
    for setting in settings:
        key, is_set, value = setting.partition("=")
        if not is_set:
            _wrong(f"`{clean(setting)}` is not KEY=VALUE, such as region=eu-west-1")
        given[clean(key)] = value
    return given


def _ports(text: str, registry: Registry) -> tuple[int, ...]:
    from ramfw.core.catalog_parser import MAX_PORT

    if not text:
        if registry.ports == ():
            _wrong(f"{registry.id} needs ports, those on which images are pulled: ports=8443")
        return ()
    words = text.split(",")
    ports = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) <= 5]  # noqa: PLR2004
    if len(ports) != len(words) or not all(1 <= port <= MAX_PORT for port in ports):
        _wrong("ports are numbers from 1 to 65535, with commas between them")
    return tuple(ports)


def _wrong(words: str) -> NoReturn:
    raise click.UsageError(words)
