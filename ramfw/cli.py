"""The command `ramfw`: the only module that prints or exits.

Each command imports what it needs when it is called, because `ramfw status` should answer at once.
Every error of the package ends in one place (`_Ramfw.invoke`), with its exit code.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from ramfw import __version__
from ramfw.control import DEFAULT_SOCKET, NotRunningError, RefusedError, request
from ramfw.errors import ControlError, KernelError, MissingError, PolicyError, Problem, RamfwError
from ramfw.render import explanation as explanation_text
from ramfw.render import findings as findings_text
from ramfw.render import status as status_text
from ramfw.render.text import Page, clean

FAILED = 1
BAD_USAGE = 2
BAD_POLICY = 3
NOT_RUNNING = 4
LACKING = 5

DEFAULT_POLICY = Path("/etc/ramfw/policy.toml")
PIPED_WIDTH = 80
RETRY = 0.05
"""Seconds between attempts to reach a daemon that is still starting."""
LONGEST_WAIT = 3600.0
RELOAD_TIMEOUT = 60.0
"""Seconds; a reload resolves nothing, but programs a whole policy and reads it back."""

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
        """The commands in the order in which people meet them, as they stand below."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        try:
            return super().invoke(ctx)
        except RamfwError as error:
            instance = ctx.find_object(Instance)
            _fail(error, as_json=instance is not None and instance.as_json)


def _fail(error: RamfwError, *, as_json: bool) -> NoReturn:
    problems = _problems_of(error)
    if as_json:
        _print_json({"error": str(error), "problems": problems})
    elif problems:
        _say(findings_text.problems(problems, _page(sys.stderr), "error"), err=True)
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


def _examples(*lines: str) -> str:
    """Examples for a command's help; click keeps the lines of a paragraph that begins so."""
    heading = "Example" if len(lines) == 1 else "Examples"
    return "\n".join(["\b", f"{heading}:", *(f"  {line}" for line in lines)])


# -- options -----------------------------------------------------------------------------------


def _remember(ctx: click.Context, parameter: click.Parameter, value: Path | bool | None) -> None:
    """Keep an option's value where it was given, before or after the command; the last counts."""
    if value:
        setattr(ctx.ensure_object(Instance), str(parameter.name), value)


def _a_number(
    _ctx: click.Context, _parameter: click.Parameter, value: float | None
) -> float | None:
    """No range leaves out NaN, which is not less than anything."""
    if value is not None and value != value:  # noqa: PLR0124 - what NaN alone is
        raise click.BadParameter("not a number of seconds")
    return value


def _places(function: Function, *, env: bool = False) -> Function:
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


def _facts(function: Function) -> Function:
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
    epilog=f"{_examples('ramfw check && sudo ramfw run')}\n\n{EXIT_CODES}",
)
@click.version_option(__version__, prog_name="ramfw", message="%(prog)s %(version)s")
@click.pass_context
def _main(ctx: click.Context) -> None:
    """Registry Access Management in the Linux kernel.

    An administrator names the container registries that this machine may use; every other one is
    refused, whatever client is used.
    """
    ctx.ensure_object(Instance)


main = _places(_main, env=True)


# -- commands ----------------------------------------------------------------------------------


@main.command(epilog=_examples("sudo ramfw run --policy /etc/ramfw/policy.toml"))
@_places
@click.pass_obj
def run(instance: Instance) -> None:
    """Enforce the policy, in the foreground.

    SIGHUP reads the policy again. SIGTERM ends the daemon and leaves the rules in place: what was
    refused stays refused, and permitted addresses stay until their timeouts.
    """
    from ramfw import daemon

    sys.exit(daemon.run(instance.policy, instance.control))


@main.command(epilog=_examples("ramfw status", "ramfw status --wait 10 --json"))
@_places
@_facts
@click.option(
    "--wait",
    type=click.FloatRange(0, LONGEST_WAIT),
    metavar="SECONDS",
    callback=_a_number,
    help="Wait until the rules are in force and every name was asked for; exit code 1 if not.",
)
@click.pass_obj
def status(instance: Instance, wait: float | None) -> None:
    """Say what is enforced, permitted and refused, and what is not.

    For what is not enforced, it says why, what follows, and what mends it.
    """
    facts = request(instance.control, "status") if wait is None else _settled(instance, wait)
    if instance.as_json:
        _print_json(facts)
    else:
        _say(status_text.status(facts, _page(sys.stdout)))
    if wait is not None and not facts["settled"]:
        for line in status_text.missing(facts):
            click.echo(f"ramfw: not settled within {wait:g} s: {clean(line)}", err=True)
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


@main.command(epilog=_examples("ramfw check ./draft.toml"))
@click.argument("file", metavar="[POLICY]", type=click.Path(path_type=Path), required=False)
@_places
@_facts
@click.pass_obj
def check(instance: Instance, file: Path | None) -> None:
    """Check a policy and print every problem in it, with what mends it.

    Without POLICY, the file that --policy names. Nothing is enforced by it.
    """
    from ramfw import policyfile

    source = file or instance.policy
    try:
        found, warnings = policyfile.read(source)
    except PolicyError as error:
        _print_check(instance, {"valid": False, "problems": _fields(error.problems)})
        sys.exit(BAD_POLICY)
    _print_check(
        instance,
        {
            "valid": True,
            "warnings": _fields(warnings),
            "summary": {
                "source": str(source),
                "organization": found.organization.name,
                "mode": str(found.mode),
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
        _print_json(facts)
        return
    errors = _page(sys.stderr)
    _say(findings_text.problems(facts["problems"], errors, "error"), err=True)
    _say(findings_text.problems(facts["warnings"], errors, "warning"), err=True)
    if facts["summary"]:
        _say(findings_text.summary(facts["summary"], _page(sys.stdout)))


def _fields(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [asdict(problem) for problem in problems]


@main.command(
    epilog=_examples("ramfw explain ghcr.io/org/image:1", "ramfw explain 192.0.2.10:5000")
)
@click.argument("query", metavar="HOST|IMAGE")
@_places
@_facts
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
        _print_json(facts)
    else:
        _say(explanation_text.explanation(facts, _page(sys.stdout)))


@main.command(epilog=_examples("ramfw check && sudo ramfw reload"))
@_places
@_facts
@click.pass_obj
def reload(instance: Instance) -> None:
    """Have the daemon read its policy again (root).

    A bad policy changes nothing: the last good one stays in force. What is no longer permitted is
    cut off at once, and nothing else is.
    """
    facts = request(instance.control, "reload", timeout=RELOAD_TIMEOUT)
    if instance.as_json:
        _print_json(facts)
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


@main.command(epilog=_examples("sudo ramfw unload"))
@_places
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


@main.command(epilog=_examples("sudo ramfw doctor"))
@_places
@_facts
@click.pass_obj
def doctor(instance: Instance) -> None:
    """Say what the machine offers or lacks, and what follows (root).

    The kernel is asked by dry runs: nothing is loaded. Exit code 5 where something is missing
    that ramfw needs.
    """
    from ramfw import doctor as examination

    found = [asdict(finding) for finding in examination.examine(instance.policy)]
    if instance.as_json:
        _print_json({"findings": found})
    else:
        _say(findings_text.doctor(found, _page(sys.stdout)))
    if any(finding["state"] == "missing" for finding in found):
        sys.exit(LACKING)


# -- printing ----------------------------------------------------------------------------------


def _page(stream: Any) -> Page:  # noqa: ANN401 - any text stream
    """A terminal's width and colour; 80 columns without colour for a file or a pipe."""
    is_terminal = stream.isatty()
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if is_terminal else PIPED_WIDTH
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return Page(width, color=is_terminal and not plain)


def _say(lines: Iterable[str], *, err: bool = False) -> None:
    for line in lines:
        click.echo(line, err=err, color=True)


def _print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main(prog_name="ramfw")
