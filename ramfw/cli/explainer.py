"""Commands that services run, not people: explainer and signer."""

from __future__ import annotations

from pathlib import Path

import click

from ramfw.cli.base import Instance, examples, main, places
from ramfw.explainer import SIGNER_SOCKET

SIGNER = click.option(
    "--signer",
    type=click.Path(path_type=Path),
    metavar="SOCKET",
    default=SIGNER_SOCKET,
    show_default=True,
    help="The signer's socket.",
)


@main.command(hidden=True, epilog=examples("sudo ramfw explainer"))
@places
@SIGNER
@click.pass_obj
def explainer(instance: Instance, signer: Path) -> None:
    """Tell refused connections why they are refused, in the foreground.

    The service ramfw-explainer runs it, on a socket that is there before. By itself it listens on
    port 307, and gives up root then. Its port takes only what the filter turns to it.
    """
    from ramfw.explainer import service

    service.explain(instance.policy, signer)


@main.command(hidden=True, epilog=examples("sudo ramfw signer"))
@places
@SIGNER
@click.pass_obj
def signer(instance: Instance, signer: Path) -> None:
    """Sign certificates for refused names, in the foreground.

    The service ramfw-signer runs it. It alone reads the key of the organization's authority, and
    signs for no name that the policy permits.
    """
    from ramfw.explainer import service

    service.sign(instance.policy, signer)
