"""Printing: to a terminal of any width, to a pipe, with or without colour, and as JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import click

from ramfw.errors import Problem
from ramfw.render.text import Page

PIPED_WIDTH = 80


def page(stream: Any) -> Page:  # noqa: ANN401 - any text stream
    """A terminal's width and colour; 80 columns without colour for a file or a pipe."""
    is_terminal = stream.isatty()
    width = shutil.get_terminal_size((PIPED_WIDTH, 24)).columns if is_terminal else PIPED_WIDTH
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return Page(width, color=is_terminal and not plain)


def say(lines: Iterable[str], *, err: bool = False) -> None:
    """Print finished lines; their colour was decided when the page was made."""
    for line in lines:
        click.echo(line, err=err, color=True)


def print_json(facts: dict[str, Any]) -> None:
    """Print one JSON document, its shape as docs/json.md has it."""
    click.echo(json.dumps(facts, indent=2))


def fields(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    """The problems of a policy, as the JSON of a command has them."""
    return [asdict(problem) for problem in problems]
