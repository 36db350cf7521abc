"""Commands that services run, not people: explainer, signer and prober."""

from __future__ import annotations

from pathlib import Path

import click

from ramfw.cli.base import Instance, examples, main, places
from ramfw.explainer import SIGNER_SOCKET
from ramfw.prober import PROBER_SOCKET

SIGNER = click.option(
    "--signer",
    type=click.Path(path_type=Path, readable=False),  # another user may be meant to ask there
    metavar="SOCKET",
    default=SIGNER_SOCKET,
    show_default=True,
    help="The signer's socket.",
)
PROBER = click.option(
    "--prober",
    type=click.Path(path_type=Path, readable=False),  # another user may be meant to ask there
    metavar="SOCKET",
    default=PROBER_SOCKET,
    show_default=True,
    help="The socket of the prober, which asks unknown hosts whether they are registries.",
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
    signs for registries that the policy does not permit, and for other names that the daemon has
    refused just now.
    """
    from ramfw.explainer import service

    service.sign(instance.policy, signer, instance.control)


@main.command(hidden=True, epilog=examples("sudo ramfw prober"))
@PROBER
def prober(prober: Path) -> None:
    """Ask hosts on which nothing is known whether they are registries, in the foreground.

    The service ramfw-prober runs it, for `unknown = "probe"`. It is handed each connection by the
    daemon and opens none. Started as root by itself, it gives up root when it listens.
    """
    from ramfw.prober import service

    service.probe(prober)
