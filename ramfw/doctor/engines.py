"""Which container engines run here, and whether the policy's cgroups cover them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from ramfw.core.policy import Policy, ScopeMode
from ramfw.doctor.finding import NOTE, OK, Finding

ENGINES = frozenset({"dockerd", "containerd", "buildkitd", "crio", "podman"})
"""The names of the processes that pull, as in /proc/PID/comm."""

SLICE = "engines.slice"


@dataclass(frozen=True, slots=True)
class Running:
    """A process of an engine. `cgroup` is below the v2 root, without a leading slash."""

    pid: int
    name: str
    cgroup: str
    is_here: bool
    """Whether it is in this network namespace."""


def findings(root: Path, policy: Policy) -> Iterator[Finding]:
    """A finding for each engine that runs, or that there is none."""
    found = sorted(running(root), key=lambda engine: (engine.name, engine.pid))
    if not found:
        yield Finding(
            "no container engine runs now",
            OK,
            f"one that starts in {SLICE} is filtered from its first packet on",
        )
    for engine in found:
        yield _finding(root, engine, policy)


def running(root: Path) -> Iterator[Running]:
    """The engines among the processes that can be seen."""
    here = _namespace(root / "proc/self")
    for directory in (root / "proc").glob("[0-9]*"):
        try:
            name = (directory / "comm").read_text().strip()
            if name in ENGINES:
                cgroup = _cgroup((directory / "cgroup").read_text())
                is_here = _namespace(directory) == here
                yield Running(int(directory.name), name, cgroup, is_here)
        except OSError:
            continue  # it has just ended


def _namespace(process: Path) -> str:
    return str((process / "ns/net").readlink())


def _cgroup(text: str) -> str:
    """The v2 cgroup in the text of /proc/PID/cgroup, cgroups(7)."""
    paths = (line.removeprefix("0::") for line in text.splitlines() if line.startswith("0::"))
    return next(paths, "").strip("/")


def is_covered(cgroup: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern names the cgroup, or one that it is in."""
    parts = cgroup.split("/")
    return any(
        len(globs) <= len(parts) and all(map(fnmatchcase, parts, globs))
        for globs in (pattern.split("/") for pattern in patterns)
    )


def _into_slice(root: Path, engine: Running) -> str:
    """The command that puts it into the slice, where its unit says that it belongs there."""
    unit = engine.cgroup.rpartition("/")[2]
    says_so = (root / "usr/lib/systemd/system" / f"{unit}.d/ramfw.conf").exists()
    return f"systemctl restart {unit}, for a place in {SLICE}" if says_so else ""


def _finding(root: Path, engine: Running, policy: Policy) -> Finding:
    who = f"{engine.name} runs (pid {engine.pid})"
    if not engine.is_here:
        return Finding(
            f"{who} in another network namespace",
            NOTE,
            "this instance of ramfw does not see what it sends, unless it leaves by a bridge here",
            f"nsenter --net=/proc/{engine.pid}/ns/net ramfw run, for an instance of its own",
        )
    where = f"{who} in the cgroup /{engine.cgroup}"
    patterns = policy.engines.cgroups
    if policy.engines.mode is ScopeMode.OFF:
        return Finding(
            where,
            NOTE,
            "the scope engines is off: it is not filtered",
            'under [scopes.engines]: mode = "strict"',
        )
    if is_covered(engine.cgroup, [SLICE]):
        return Finding(where, OK, "it is filtered from its first packet on")
    if is_covered(engine.cgroup, patterns):
        follows = "it is filtered; after a restart, as soon as its cgroup is seen"
        return Finding(where, OK, follows, _into_slice(root, engine))
    if is_covered(engine.cgroup, policy.containers.cgroups):
        return Finding(where, OK, "it is judged as a container")
    return Finding(
        where,
        NOTE,
        "no pattern of the policy covers it: it is not filtered",
        _mend(engine, patterns),
    )


def _mend(engine: Running, patterns: tuple[str, ...]) -> str:
    if not engine.cgroup or engine.cgroup.startswith(".."):
        return f"start it in a cgroup: systemd-run --slice={SLICE} {engine.name}"
    listed = ", ".join(f'"{pattern}"' for pattern in (*patterns, engine.cgroup))
    return f"under [scopes.engines]: cgroups = [{listed}]"
