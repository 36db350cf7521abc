"""Commands that the service manager's units call: boot, canary."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ramfw.cli.base import DEFAULT_STATE, FAILED, NOT_RUNNING, Instance, examples, main, places
from ramfw.control import NotRunningError


@main.command(epilog=examples("sudo ramfw boot"))
@places
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIRECTORY",
    default=DEFAULT_STATE,
    show_default=True,
    help="Where the daemon keeps its last good policy.",
)
@click.pass_obj
def boot(instance: Instance, state: Path) -> None:
    """Load rules that permit nothing, before the daemon runs (root).

    The boot unit calls it where no last good rules are kept. The scopes are those of the policy;
    where that is bad, of the last good one; and where there is none, the default ones.
    """
    from ramfw import boot as loading
    from ramfw.observe.cgroups import nft_prefix
    from ramfw.state import State

    click.echo(loading.load(instance.policy, State(state), nft_prefix()))


@main.command(epilog=examples("systemctl start ramfw-canary.service"))
@places
@click.pass_obj
def canary(instance: Instance) -> None:
    """Test the filter from inside the engines' slice (root).

    Its unit starts it there once a minute, and the daemon is told. It connects to itself over
    loopback, which the policy refuses to engines; nothing leaves the machine. Exit code 1 where
    the filter does not hold, 4 where no daemon runs (the rules are tested all the same).
    """
    from ramfw import canary as song
    from ramfw.control import request

    found = song.examine(instance.control)
    click.echo(found.detail)
    if found.holds is not None:
        told = {"holds": found.holds, "detail": found.detail}
        try:
            request(instance.control, "canary", told)
        except NotRunningError:
            sys.exit(NOT_RUNNING if found.holds else FAILED)
    if found.holds is False:
        sys.exit(FAILED)
