"""What every command shares: which instance is meant, its options, and how errors end.

Every error of the package ends in one place (`_Ramfw.invoke`), with its exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from ramfw import __version__
from ramfw.cli.output import page, print_json, say
from ramfw.control import DEFAULT_SOCKET, NotRunningError, RefusedError
from ramfw.errors import MissingError, PolicyError, RamfwError
from ramfw.render import findings as findings_text
from ramfw.render.text import clean

FAILED = 1
BAD_USAGE = 2
BAD_POLICY = 3
NOT_RUNNING = 4
LACKING = 5

DEFAULT_POLICY = Path("/etc/ramfw/policy.toml")
DEFAULT_STATE = Path("/var/lib/ramfw")

ORDER = (
    "run",
    "status",
    "check",
    "explain",
    "catalog",
    "discover",
    "suggest",
    "reload",
    "unload",
    "log",
    "doctor",
    *("wsl", "boot", "canary", "explainer", "signer", "prober"),
)

EXIT_CODES = (
    "\b\nExit codes: 0 done, 1 failed, 2 bad usage, 3 bad policy, 4 the daemon is not "
    "running,\n5 the machine lacks something ramfw needs."
)

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(slots=True)
class Instance:
    """Which daemon and which policy is meant, and whether facts are printed as JSON."""

    policy: Path = DEFAULT_POLICY
    control: Path = DEFAULT_SOCKET
    as_json: bool = False


class _Ramfw(click.Group):
    """Turns the package's errors into words on stderr, or a JSON object, and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands in the order in which people meet them."""
        return sorted(self.commands, key=ORDER.index)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except RamfwError as error:
            instance = ctx.find_object(Instance)
            _fail(error, as_json=instance is not None and instance.as_json)


def _fail(error: RamfwError, *, as_json: bool) -> NoReturn:
    problems = _problems_of(error)
    if as_json:
        print_json({"error": str(error), "problems": problems})
    elif problems:
        say(findings_text.problems(problems, page(sys.stderr), "error"), err=True)
    else:
        for line in str(error).splitlines():
            click.echo(f"ramfw: {clean(line)}", err=True)
    sys.exit(_exit_code(error, problems))


def _problems_of(error: RamfwError) -> list[dict[str, Any]]:
    if isinstance(error, PolicyError):
        return [asdict(problem) for problem in error.problems]
    return error.problems if isinstance(error, RefusedError) else []


def _exit_code(error: RamfwError, problems: list[dict[str, Any]]) -> int:
    match error:
        case PolicyError():
            return BAD_POLICY
        case RefusedError() if problems:
            return BAD_POLICY
        case NotRunningError():
            return NOT_RUNNING
        case MissingError():
            return LACKING
        case _:
            return FAILED


def examples(*lines: str) -> str:
    """Examples for a command's help; click keeps the lines of a paragraph that begins so."""
    heading = "Example" if len(lines) == 1 else "Examples"
    return "\n".join(["\b", f"{heading}:", *(f"  {line}" for line in lines)])


# -- options -----------------------------------------------------------------------------------


def _remember(ctx: click.Context, parameter: click.Parameter, value: Path | bool | None) -> None:
    """Keep an option's value where it was given, before or after the command; the last counts."""
    if value:
        setattr(ctx.ensure_object(Instance), str(parameter.name), value)


def a_number(_ctx: click.Context, _parameter: click.Parameter, value: float | None) -> float | None:
    """No range leaves out NaN, which is not less than anything."""
    if value is not None and value != value:  # noqa: PLR0124 - what NaN alone is
        raise click.BadParameter("not a number of seconds")
    return value


def places(function: Function, *, env: bool = False) -> Function:
    """Add `--control` and `--policy`; with `env`, read their environment variables too."""
    for name, what, default in (
        ("control", "The daemon's control socket.", DEFAULT_SOCKET),
        ("policy", "The policy file.", DEFAULT_POLICY),
    ):
        function = click.option(
            f"--{name}",
            type=click.Path(path_type=Path),
            metavar="SOCKET" if name == "control" else "FILE",
            # Only the group reads the environment, so that it never outdoes an option before.
            envvar=f"RAMFW_{name.upper()}" if env else None,
            help=f"{what}  [default: {default}; environment: RAMFW_{name.upper()}]",
            expose_value=False,
            callback=_remember,
        )(function)
    return function


def facts_as_json(function: Function) -> Function:
    """Add `--json`."""
    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the facts as JSON (docs/json.md).",
        expose_value=False,
        callback=_remember,
    )(function)


@click.group(
    "ramfw",
    cls=_Ramfw,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{examples('ramfw check && sudo ramfw run')}\n\n{EXIT_CODES}",
)
@click.version_option(__version__, prog_name="ramfw", message="%(prog)s %(version)s")
@click.pass_context
def _main(ctx: click.Context) -> None:
    """Registry Access Management in the Linux kernel.

    An administrator names the container registries that this machine may use; every other one is
    refused, whatever client is used.
    """
    ctx.ensure_object(Instance)


main = places(_main, env=True)
