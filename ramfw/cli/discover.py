"""Commands that ask a registry what a pull needs: discover, catalog verify."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ramfw.cli.base import FAILED, Function, Instance, examples, facts_as_json, main, places
from ramfw.cli.catalog import catalog, entry_of
from ramfw.cli.output import page, print_json, say
from ramfw.render import discovery as discovery_text
from ramfw.render.text import clean

if TYPE_CHECKING:
    from ramfw.core.catalog import Catalog
    from ramfw.core.discovery import Pull
    from ramfw.core.reference import Reference

PATIENCE = 40.0
"""Seconds that all requests together may take."""


def _of_the_connection(function: Function) -> Function:
    function = click.option(
        "--plain-http", is_flag=True, help="Ask by http, as engines do of an insecure registry."
    )(function)
    return click.option(
        "--ca",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        metavar="FILE",
        help="Trust the certificates in this file too.",
    )(function)


@main.command(
    epilog=examples(
        "ramfw discover quay.io/prometheus/busybox", "ramfw discover nexus.corp.example"
    )
)
@click.argument("query", metavar="IMAGE|HOST")
@_of_the_connection
@places
@facts_as_json
@click.pass_obj
def discover(instance: Instance, query: str, ca: Path | None, *, plain_http: bool) -> None:
    """Ask a registry which hosts a pull needs, and say what to permit.

    It follows what a pull does, anonymously: the version check, the realm, a token, the manifest,
    and where one layer is redirected; no layer is fetched and no policy is changed. Exit code 1
    where no registry answers. Needs no root; where ramfw filters this host, it is filtered too.
    """
    from ramfw import policyfile
    from ramfw.core import discovery

    asked = _reference(query)
    found = policyfile.catalog_of(instance.policy)
    host = discovery.registry_host(asked, found)
    facts = discovery.discovered(query, _pull(asked, query, host, ca, http=plain_http), host, found)
    if instance.as_json:
        print_json(facts)
    else:
        say(discovery_text.discovered(facts, page(sys.stdout)))
    if not facts["is_registry"]:
        sys.exit(FAILED)


@catalog.command(
    epilog=examples(
        "ramfw catalog verify quay.io",
        "ramfw catalog verify jfrog.io --image mycompany.jfrog.io/docker/app:1",
    )
)
@click.argument("entry", metavar="ID|HOST")
@click.argument("settings", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--image", metavar="IMAGE", help="Pull this one, and not the catalogue's sample.")
@_of_the_connection
@places
@facts_as_json
@click.pass_obj
def verify(  # noqa: PLR0913 - click hands every option over
    instance: Instance,
    entry: str,
    settings: tuple[str, ...],
    image: str | None,
    ca: Path | None,
    *,
    plain_http: bool,
) -> None:
    """Hold a registry's hosts against what a pull meets now.

    Exit code 1 where a pull meets a host that the catalogue does not permit, or got no layer.
    """
    from ramfw import policyfile
    from ramfw.core import discovery
    from ramfw.core.catalog import Known

    found = policyfile.catalog_of(instance.policy)
    image = image or _sample(found, entry)
    asked = _reference(image)
    host = discovery.registry_host(asked, found)
    by_name = found.identify(host)
    if by_name is not None and by_name.registry.id == entry:
        known = Known(by_name.registry, by_name.host, by_name.values)
    else:
        known, _choice = entry_of(found, entry, settings)
    facts = discovery.drift(image, _pull(asked, image, host, ca, http=plain_http), known, found)
    if instance.as_json:
        print_json(facts)
    else:
        say(discovery_text.verified(facts, page(sys.stdout)))
    if facts["drift"] or not facts["complete"]:
        sys.exit(FAILED)


def _sample(found: Catalog, entry: str) -> str:
    registry = found.get(entry) or found.registry_of(entry)
    if registry is None or not registry.sample:
        raise click.UsageError("the catalogue has no image of it that everyone may pull: --image")
    return registry.sample


def _reference(query: str) -> Reference:
    from ramfw.core.reference import parse

    try:
        return parse(query)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"'{clean(query)}'") from None


def _pull(asked: Reference, query: str, host: str, ca: Path | None, *, http: bool) -> Pull:
    from ramfw.core.reference import tag_or_digest
    from ramfw.core.registry_api import Place
    from ramfw.observe.pull import follow
    from ramfw.observe.web import Web

    scheme, port = ("http", 80) if http else ("https", 443)
    registry = Place(scheme, host, asked.port or port, "/")
    return follow(Web(PATIENCE, ca), registry, asked.repository, tag_or_digest(query))
