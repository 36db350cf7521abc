"""Commands about a policy: check and explain."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from ramfw.cli.base import BAD_POLICY, Instance, examples, facts_as_json, main, places
from ramfw.cli.output import fields, page, print_json, say
from ramfw.control import NotRunningError, request
from ramfw.errors import PolicyError
from ramfw.render import explanation as explanation_text
from ramfw.render import findings as findings_text
from ramfw.render.text import clean


@main.command(epilog=examples("ramfw check ./draft.toml"))
@click.argument("file", metavar="[POLICY]", type=click.Path(path_type=Path), required=False)
@places
@facts_as_json
@click.pass_obj
def check(instance: Instance, file: Path | None) -> None:
    """Check a policy and print every problem in it, with what mends it.

    Without POLICY, the file that --policy names. Nothing is enforced by it.
    """
    from ramfw import policyfile
    from ramfw.core.catalog_report import in_force

    source = file or instance.policy
    try:
        found, warnings = policyfile.read(source)
    except PolicyError as error:
        _print_check(instance, {"valid": False, "problems": fields(error.problems)})
        sys.exit(BAD_POLICY)
    _print_check(
        instance,
        {
            "valid": True,
            "warnings": fields(warnings),
            "summary": {
                "source": str(source),
                "organization": found.organization.name,
                "mode": str(found.mode),
                "catalog": in_force(found.catalog),
                "entries": len(found.entries),
                "hosts": len({t.pattern for entry in found.entries for t in entry.targets}),
                "networks": len({n for entry in found.entries for n in entry.networks}),
                "scopes": {
                    name: str(getattr(found, name).mode)
                    for name in ("engines", "containers", "host")
                },
            },
        },
    )


def _print_check(instance: Instance, facts: dict[str, Any]) -> None:
    facts = {"valid": False, "problems": [], "warnings": [], "summary": None, **facts}
    if instance.as_json:
        print_json(facts)
        return
    errors = page(sys.stderr)
    say(findings_text.problems(facts["problems"], errors, "error"), err=True)
    say(findings_text.problems(facts["warnings"], errors, "warning"), err=True)
    if facts["summary"]:
        say(findings_text.summary(facts["summary"], page(sys.stdout)))


@main.command(epilog=examples("ramfw explain ghcr.io/org/image:1", "ramfw explain 192.0.2.10:5000"))
@click.argument("query", metavar="HOST|IMAGE")
@places
@facts_as_json
@click.pass_obj
def explain(instance: Instance, query: str) -> None:
    """Say which entry permits a host or an image, or why none does.

    An address can be asked for too. The running daemon also tells the addresses that it knows;
    without one, the policy file answers.
    """
    from ramfw.core.reference import parse

    try:
        parse(query)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"'{clean(query)}'") from None
    try:
        facts = request(instance.control, "explain", {"query": query})
    except NotRunningError:
        from ramfw import policyfile
        from ramfw.core.explain import explain_policy

        facts = explain_policy(policyfile.read(instance.policy)[0], query)
    if instance.as_json:
        print_json(facts)
    else:
        say(explanation_text.explanation(facts, page(sys.stdout)))
