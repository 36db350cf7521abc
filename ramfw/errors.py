"""What ramfw raises: one tree, split by who can mend it.

`PolicyError` is the administrator's to mend, `KernelError` the kernel's answer, `ObserveError`
a fact that could not be read, `MissingError` a machine that lacks what ramfw needs, and
`ControlError` a daemon that does not answer. Each says what is wrong, where, and what mends it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


class RamfwError(Exception):
    """The root of the tree; never raised itself."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a policy, or (as a warning) doubtful in it.

    `line` counts from 1 and is 0 where the problem has no line (a missing file). `key` is the
    dotted path of the key, as `scopes.containers.interface` or `allow[2].host`. `hint` is the
    line or the command that mends it, empty where there is none.
    """

    source: str
    line: int
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}" if self.line else self.source
        key = f" {self.key}:" if self.key else ""
        hint = f"\n    {self.hint}" if self.hint else ""
        return f"{where}:{key} {self.message}{hint}"


class PolicyError(RamfwError):
    """A policy that cannot be used, with every problem found in it, never only the first."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class KernelError(RamfwError):
    """The kernel, or libnftables before it, refused an operation; nothing of it took effect.

    `errno` is 0 where libnftables gave only words.
    """

    def __init__(self, errno: int, operation: str, detail: str = "") -> None:
        reason = detail.strip() or (os.strerror(errno) if errno else "unknown error")
        super().__init__(f"{operation}: {reason}")
        self.errno = errno
        self.operation = operation
        self.detail = detail


class ObserveError(RamfwError):
    """A fact about the machine could not be read."""


class MissingError(RamfwError):
    """The machine lacks something ramfw needs; the message ends with what brings it."""


class ControlError(RamfwError):
    """The daemon is not running, or refused a request."""
