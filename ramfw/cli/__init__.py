"""The command `ramfw`: the only package that prints or exits.

Each command imports what it needs when it is called, because `ramfw status` should answer at once.
A command is known by importing its module here.
"""

from ramfw.cli import (
    catalog,
    discover,
    explainer,
    learning,
    log,
    machine,
    policy,
    service,
    units,
    wsl,
)
from ramfw.cli.base import main

__all__ = [
    "catalog",
    "discover",
    "explainer",
    "learning",
    "log",
    "machine",
    "main",
    "policy",
    "service",
    "units",
    "wsl",
]
