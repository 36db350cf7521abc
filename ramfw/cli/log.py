"""What was refused: log."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from ramfw.cli.base import Instance, examples, facts_as_json, main, places
from ramfw.cli.output import page, print_json, say
from ramfw.control import request
from ramfw.render import refusals as refusals_text

BETWEEN = 0.5
"""Seconds between two looks at what is new."""
_SPAN = re.compile(r"(\d{1,9})(s|m|h|d)?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    form = _SPAN.fullmatch(value)
    if form is None:
        raise click.BadParameter("a time back from now, such as 90s, 10m, 2h or 1d")
    return float(int(form[1]) * _SECONDS[form[2] or "s"])


@main.command(epilog=examples("sudo ramfw log --since 1h", "sudo ramfw log --follow"))
@places
@facts_as_json
@click.option("--follow", "-f", is_flag=True, help="Go on with what is refused from now on.")
@click.option(
    "--since", metavar="TIME", callback=_seconds, help="Only what was refused since: 90s, 10m, 1d."
)
@click.pass_obj
def log(instance: Instance, follow: bool, since: float | None) -> None:
    """Say what was refused lately, by whom and why.

    Root sees everything, another user what that user's own programs were refused. Names of
    containers are those that an engine tells the caller. With --follow and --json, each refusal
    is one JSON object on a line of its own.
    """
    facts = request(instance.control, "log", {"after": 0})
    found = [f for f in facts["refusals"] if since is None or f["last_ago"] <= since]
    _name_containers(found)
    if instance.as_json and not follow:
        print_json({**facts, "refusals": found})
        return
    _show(instance, found)
    if not follow:
        _lacking(facts)
        return
    try:
        for news in _news(instance, facts["latest"]):
            _name_containers(news)
            _show(instance, news)
    except KeyboardInterrupt:
        sys.exit(0)


def _news(instance: Instance, latest: int) -> Iterator[list[dict[str, Any]]]:
    """What is new, again and again; a daemon that began anew counts from its beginning."""
    while True:
        time.sleep(BETWEEN)
        facts = request(instance.control, "log", {"after": latest})
        if facts["latest"] < latest:
            facts = request(instance.control, "log", {"after": 0})
        latest = facts["latest"]
        if facts["refusals"]:
            yield facts["refusals"]


def _show(instance: Instance, found: list[dict[str, Any]]) -> None:
    now = time.time()
    for facts in found:
        if instance.as_json:
            click.echo(json.dumps(facts))
            continue
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now - facts["last_ago"]))
        say(refusals_text.refusal(facts, page(sys.stdout), when))


def _lacking(facts: dict[str, Any]) -> None:
    if not facts["latest"]:
        click.echo("Nothing was refused since the daemon began.")
    if facts["lost"]:
        click.echo(f"ramfw: refusals came faster than they were read: {facts['lost']}", err=True)


def _name_containers(found: list[dict[str, Any]]) -> None:
    """Add the names of the containers that were refused."""
    from ramfw.containers import names_by_address

    is_container = any(facts["scope"] == "containers" for facts in found)
    named = names_by_address() if is_container else {}
    for facts in found:
        facts["container"] = (
            named.get(facts["source"], "") if facts["scope"] == "containers" else ""
        )
