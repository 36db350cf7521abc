"""Commands about what audit mode has gathered: suggest."""

from __future__ import annotations

import sys

import click

from ramfw.cli.base import Instance, examples, facts_as_json, main, places
from ramfw.cli.output import page, print_json, say
from ramfw.control import request
from ramfw.render import suggestion as suggestion_text


@main.command(epilog=examples("sudo ramfw suggest", "sudo ramfw suggest >> draft.toml"))
@places
@facts_as_json
@click.pass_obj
def suggest(instance: Instance) -> None:
    """Print entries for what audit mode would have refused (root).

    Registries of the catalogue come first, exact hosts next; no wildcard is suggested. Each entry
    says how often it was wanted and by whom, and what could do harm stands in comments. What was
    gathered is kept until the daemon ends.
    """
    facts = request(instance.control, "suggest")
    if instance.as_json:
        print_json(facts)
    else:
        say(suggestion_text.suggestion(facts, page(sys.stdout)))
