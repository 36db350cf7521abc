"""Commands of the running daemon: run, status, reload, unload."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from ramfw.cli.base import FAILED, Instance, a_number, examples, facts_as_json, main, places
from ramfw.cli.explainer import PROBER
from ramfw.cli.output import page, print_json, say
from ramfw.control import NotRunningError, request
from ramfw.errors import ControlError, KernelError
from ramfw.render import status as status_text
from ramfw.render.text import clean

RETRY = 0.05
"""Seconds between attempts to reach a daemon that is still starting."""
LONGEST_WAIT = 3600.0
RELOAD_TIMEOUT = 60.0
"""Seconds; a reload resolves nothing, but programs a whole policy and reads it back."""


@main.command(epilog=examples("sudo ramfw run --policy /etc/ramfw/policy.toml"))
@places
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    help="Keep the last good rules and policy there, for the next boot; the unit names "
    "/var/lib/ramfw.",
)
@PROBER
@click.pass_obj
def run(instance: Instance, state: Path | None, prober: Path) -> None:
    """Enforce the policy, in the foreground.

    SIGHUP reads the policy again. SIGTERM ends the daemon and leaves the rules in place: what was
    refused stays refused, and permitted addresses stay until their timeouts.
    """
    from ramfw import start

    sys.exit(start.run(instance.policy, instance.control, state, prober))


@main.command(
    epilog=examples("ramfw status", "ramfw status --wait 10 --json", "ramfw status --check")
)
@places
@facts_as_json
@click.option(
    "--wait",
    type=click.FloatRange(0, LONGEST_WAIT),
    metavar="SECONDS",
    callback=a_number,
    help="Wait until the rules are in force and every name was asked for; exit code 1 if not.",
)
@click.option(
    "--check",
    is_flag=True,
    help="For monitoring: exit code 1 where anything is not as it is meant to be.",
)
@click.pass_obj
def status(instance: Instance, wait: float | None, *, check: bool) -> None:
    """Say what is enforced, permitted and refused, and what is not.

    For what is not enforced, it says why, what follows, and what mends it.
    """
    facts = request(instance.control, "status") if wait is None else _settled(instance, wait)
    if instance.as_json:
        print_json(facts)
    else:
        say(status_text.status(facts, page(sys.stdout)))
    if wait is not None and not facts["settled"]:
        for line in status_text.missing(facts):
            click.echo(f"ramfw: not settled within {wait:g} s: {clean(line)}", err=True)
        sys.exit(FAILED)
    if check and facts["alarms"]:
        for line in facts["alarms"]:
            click.echo(f"ramfw: {clean(line)}", err=True)
        sys.exit(FAILED)


def _settled(instance: Instance, seconds: float) -> dict[str, Any]:
    """The status once it is settled, or when the time is over; the daemon may still be starting."""
    end = time.monotonic() + seconds
    while True:
        left = max(0.0, end - time.monotonic())
        try:
            return request(instance.control, "wait", {"seconds": left}, timeout=left + 10.0)
        except NotRunningError:
            if left == 0.0:
                raise
            time.sleep(min(RETRY, left))


@main.command(epilog=examples("ramfw check && sudo ramfw reload"))
@places
@facts_as_json
@click.pass_obj
def reload(instance: Instance) -> None:
    """Have the daemon read its policy again (root).

    A bad policy changes nothing: the last good one stays in force. What is no longer permitted is
    cut off at once, and nothing else is.
    """
    facts = request(instance.control, "reload", timeout=RELOAD_TIMEOUT)
    if instance.as_json:
        print_json(facts)
    else:
        for line in (line for text in facts["warnings"] for line in text.splitlines()):
            click.echo(clean(line), err=True)
        if facts["in_force"]:
            click.echo("The policy was read again and is in force.")
    if not facts["in_force"]:
        if not instance.as_json:
            click.echo(
                "ramfw: the policy was read, but the kernel does not hold it yet: ramfw status",
                err=True,
            )
        sys.exit(FAILED)


@main.command(epilog=examples("sudo ramfw unload"))
@places
@click.pass_obj
def unload(instance: Instance) -> None:
    """Take the rules out of the kernel, and end the daemon (root). Nothing is enforced then."""
    try:
        request(instance.control, "unload")
    except NotRunningError:
        _unload_table()
        return
    click.echo("The rules are out of the kernel and the daemon ends. Nothing is enforced now.")


def _unload_table() -> None:
    """Remove what a daemon left behind."""
    from ramfw.core.transaction import DeleteTable
    from ramfw.program.nft import ABSENT, Nft

    try:
        Nft().run((DeleteTable(),))
    except KernelError as error:
        if "not permitted" in error.detail:
            raise ControlError("only root may unload: sudo ramfw unload") from error
        if ABSENT not in error.detail:
            raise
        click.echo("Nothing is loaded: no daemon runs, and there is no table inet ramfw.")
        return
    click.echo("The daemon is not running; the rules that it had left are out of the kernel now.")
