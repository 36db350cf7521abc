"""Commands about the machine: doctor."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from ramfw.cli.base import LACKING, Instance, examples, facts_as_json, main, places
from ramfw.cli.output import page, print_json, say
from ramfw.render import findings as findings_text


@main.command(epilog=examples("sudo ramfw doctor"))
@places
@facts_as_json
@click.pass_obj
def doctor(instance: Instance) -> None:
    """Say what the machine offers or lacks, and what follows (root).

    The kernel is asked by dry runs: nothing is loaded. Exit code 5 where something is missing
    that ramfw needs.
    """
    from ramfw import doctor as examination

    found = [asdict(finding) for finding in examination.examine(instance.policy)]
    if instance.as_json:
        print_json({"findings": found})
    else:
        say(findings_text.doctor(found, page(sys.stdout)))
    if any(finding["state"] == "missing" for finding in found):
        sys.exit(LACKING)
