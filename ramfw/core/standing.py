"""How the engine stands: what was observed, what the kernel has, what is under way, its health.

Pure values; the engine alone changes them, `report` reads them.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from ramfw.core.events import (
    CanaryReported,
    CgroupsChanged,
    HeldAnswer,
    LinksChanged,
    ServersChanged,
    TurningChanged,
    WatchChanged,
)
from ramfw.core.grants import Permissions
from ramfw.core.ledger import Changes
from ramfw.core.ruleset import Ruleset

MOST_TOUCHES = 20
"""Changes by others that are remembered."""


@dataclass(slots=True)
class Believed:
    """The rules that the kernel has acknowledged."""

    ruleset: Ruleset | None = None
    made_from: Ruleset | None = None
    """The desired ruleset that the rules were brought to: the same object, nothing differs."""


class Pending(NamedTuple):
    """The transaction under way, and what it will have made true."""

    desired: Ruleset
    changes: Changes
    changes_rules: bool
    replaces: bool
    releases: tuple[int, ...]
    permissions: Permissions
    """Those that it was planned by: others may be in force when it is committed."""
    answers: tuple[HeldAnswer, ...] = ()
    """What is still to be learned, as of `since`."""
    since: float = 0.0


@dataclass(slots=True)
class Facts:
    """The latest of each observation; None until it was made once."""

    links: LinksChanged | None = None
    cgroups: CgroupsChanged | None = None
    servers: ServersChanged | None = None
    watch: WatchChanged | None = None
    turning: TurningChanged | None = None
    canary: CanaryReported | None = None
    by_cgroup: bool = True


@dataclass(slots=True)
class Touch:
    """A change of the table by somebody else, and when the rules were as meant again."""

    at: float
    pid: int
    program: str
    mended_at: float | None = None


@dataclass(slots=True)
class Health:
    """What status tells about programming the kernel."""

    verified_at: float | None = None
    canary_at: float | None = None
    canary_due: float | None = None
    """Until when the canary must have been heard; None where nobody starts one."""
    last_rejection: str = ""
    rejections: int = 0
    mismatches: int = 0
    policy_problems: tuple[str, ...] = ()
    touches: deque[Touch] = field(default_factory=lambda: deque(maxlen=MOST_TOUCHES))
    touched: int = 0
    answers_learned: int = 0
    answers_beyond_bound: int = 0
