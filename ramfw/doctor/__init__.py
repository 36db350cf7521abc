"""What the kernel and the machine offer ramfw, or lack, with what follows and what mends it.

The kernel is asked by dry runs: a whole transaction reaches it and is judged, and is not
committed. All else is read from /proc, /sys and a few files. Nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ramfw import policyfile
from ramfw.core.catalog import shipped
from ramfw.core.policy import Policy
from ramfw.core.policy_parser import parse
from ramfw.doctor import engines, kernel, machine, prober, service
from ramfw.doctor.finding import MISSING, NOTE, OK, Finding
from ramfw.errors import PolicyError

__all__ = ["MISSING", "NOTE", "OK", "Finding", "examine"]


def examine(
    policy_path: Path,
    root: Path = Path("/"),
    open_checker: Callable[[], kernel.Checker] = kernel.open_nft,
) -> tuple[Finding, ...]:
    """All findings about this machine and this network namespace, never raising.

    `policy_path` names the policy whose cgroups should cover the engines; where it cannot be
    read, the defaults are taken and it is said. `root` is where /proc and the rest are.
    """
    policy, about_policy = _policy(policy_path)
    return (
        *kernel.findings(root, policy, open_checker),
        *machine.findings(root),
        *service.findings(root),
        *prober.findings(root, policy),
        *about_policy,
        *engines.findings(root, policy),
    )


def _policy(path: Path) -> tuple[Policy, tuple[Finding, ...]]:
    try:
        return policyfile.read(path)[0], ()
    except PolicyError as error:
        first = str(error.problems[0]).splitlines()[0]
        finding = Finding(
            f"the policy cannot be read: {first}",
            NOTE,
            "engines are looked for where the default policy expects them",
            f"ramfw check {path}",
        )
        return parse("version = 1", "", shipped())[0], (finding,)
