"""Commands for WSL2 distributions: wsl install, wsl uninstall."""

from __future__ import annotations

import click

from ramfw.cli.base import examples, main


@main.group(epilog=examples("sudo ramfw wsl install"))
def wsl() -> None:
    """Start ramfw with a WSL2 distribution, or no longer (root)."""


@wsl.command(epilog=examples("sudo ramfw wsl install"))
def install() -> None:
    """Have ramfw started with this WSL2 distribution (root).

    With systemd=true in /etc/wsl.conf its units are enabled. Without, a hook goes before whatever
    [boot] command= already has: it loads the rules and keeps the daemon up.
    """
    from ramfw import wsl as distribution

    for line in distribution.install():
        click.echo(line)


@wsl.command(epilog=examples("sudo ramfw wsl uninstall"))
def uninstall() -> None:
    """Take the hook out of /etc/wsl.conf, which is then as it was (root)."""
    from ramfw import wsl as distribution

    for line in distribution.uninstall():
        click.echo(line)
