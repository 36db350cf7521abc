"""Running a process out of memory, so that the kernel's OOM killer really ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.space import cgroup2_mount, wait_until
from tests.machine.machine import Machine

V1 = Path("/sys/fs/cgroup/memory")
LEFT = 64 * 1024
"""Bytes that it may still take."""


@contextmanager
def starve(machine: Machine, pid: int) -> Iterator[None]:
    """Let a process, by its id on the machine, get no more memory; in the end it was killed."""
    outside = _outside(machine, pid)
    group, events = _group(machine.rack.space.directory.name)
    try:
        (group / "cgroup.procs").write_text(str(outside))
        yield
        wait_until(lambda: _kills(events) > 0, 20, "the OOM killer has come")
    finally:
        wait_until(lambda: not (group / "cgroup.procs").read_text(), 20, "it has ended")
        group.rmdir()


def _outside(machine: Machine, pid: int) -> int:
    """The id that a process of the machine has here."""
    namespace = Path(f"/proc/{machine.inside.pid}/ns/pid").readlink()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            ids = re.search(r"^NSpid:(.*)$", status.read_text(), re.MULTILINE)
            here = (status.parent / "ns" / "pid").readlink() == namespace
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if here and ids is not None and int(ids[1].split()[-1]) == pid:
            return int(ids[1].split()[0])
    raise AssertionError(f"no process {pid} on the machine")


def _group(name: str) -> tuple[Path, Path]:
    """A memory cgroup with a tight limit, and the file that counts its kills.

    Of v1 where the controller is there, else of v2; beside the machine's own, not in it.
    """
    if V1.is_dir():
        group, limit, events = V1 / name, "memory.limit_in_bytes", "memory.oom_control"
    else:
        root = cgroup2_mount()
        (root / "cgroup.subtree_control").write_text("+memory")
        group, limit, events = root / f"{name}-memory", "memory.max", "memory.events"
    group.mkdir()
    (group / limit).write_text(str(LEFT))
    return group, group / events


def _kills(events: Path) -> int:
    said = re.search(r"^oom_kill (\d+)$", events.read_text(), re.MULTILINE)
    return int(said[1]) if said else 0
