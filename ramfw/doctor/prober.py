"""Whether the prober can be asked (`unknown = "probe"`), and has no right that it should not."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from ramfw.core.policy import Policy
from ramfw.doctor.finding import NOTE, OK, Finding
from ramfw.prober import PROBER_SOCKET

UNASKED = "a registry that the catalogue does not know passes as any web site does"
STRONGER = "what strangers answer is read with more rights than that takes"
_PATIENCE = 1.0


def connect(path: Path) -> None:
    """Be heard by who listens there; a service manager starts it then. Raises OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(_PATIENCE)
        asker.connect(str(path))


def findings(
    root: Path, policy: Policy, reach: Callable[[Path], None] = connect
) -> Iterator[Finding]:
    """Nothing where the policy has nobody asked."""
    if not policy.probes:
        return
    path = root / PROBER_SOCKET.relative_to("/")
    try:
        reach(path)
    except PermissionError:
        yield Finding(
            "only root can tell whether the prober can be asked",
            NOTE,
            "a prober that is not there would not be seen",
            "sudo ramfw doctor",
        )
        return
    except OSError as error:
        yield Finding(
            f"the prober cannot be asked: {PROBER_SOCKET}: {error.strerror or error}",
            NOTE,
            UNASKED,
            "systemctl enable --now ramfw-prober.socket, or: sudo ramfw prober",
        )
        return
    yield Finding("the prober can be asked whether an unknown host is a registry", OK)
    for pid in _pids(root):
        with suppress(OSError, KeyError, ValueError):
            yield from _rights(root, pid)


def _pids(root: Path) -> Iterator[str]:
    for process in sorted((root / "proc").glob("[0-9]*")):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[-2:-1] == [b"prober"] and any(word.endswith(b"ramfw") for word in words):
                yield process.name


def _rights(root: Path, pid: str) -> Iterator[Finding]:
    process = root / "proc" / pid
    lines = (line.partition(":") for line in (process / "status").read_text().splitlines())
    fields = {name: value.split() for name, _, value in lines}
    if "0" in fields["Uid"] or int(fields["CapEff"][0], 16):
        yield Finding(
            f"the prober (pid {pid}) has rights of root",
            NOTE,
            STRONGER,
            "run it as the service ramfw-prober",
        )
    if (process / "ns/net").readlink() == (root / "proc/self/ns/net").readlink():
        yield Finding(
            f"the prober (pid {pid}) is in this host's own network",
            NOTE,
            "who takes it over can open connections of its own",
            "run it as the service ramfw-prober, which has a network with nothing in it",
        )
