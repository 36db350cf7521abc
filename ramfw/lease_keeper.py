"""Keeps what was learned from DNS answers for the next daemon, beside its control socket.

Clients keep an answer for as long as it counts, and connect by it though the daemon was started
anew in between. The file is in memory, as the control socket is, and nobody else's to read: it has
the names that were asked for. It opens addresses, so one that others could have written is not
taken.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ramfw.core import lease_text
from ramfw.core.engine import Engine
from ramfw.core.lease_text import LeasesRecalled

log = logging.getLogger("ramfw")

SHORTEST_PAUSE = 1.0
"""Seconds between two writings. A daemon that is killed loses what it learned since the last."""
SHARE = 0.001
"""Of the daemon's time that the writing may take."""
AGAIN = 30.0
"""Seconds after which a write that failed is tried again."""
BOOT = Path("/proc/sys/kernel/random/boot_id")
BOOT_ID = "RAMFW_BOOT_ID"
"""By this the service manager tells it to a service, which does not see it (ProcSubset=pid)."""
_LARGEST = 4 << 20


class LeaseKeeper:
    """The file. What cannot be read is not known: then clients have to ask again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = 0
        self._busy = False
        self._not_before = float("-inf")
        self.problem = ""

    def recall(self) -> LeasesRecalled:
        """What was kept, and still counts."""
        try:
            text = _read(self._path)
            return lease_text.read(text, _boot(), time.monotonic(), _offset())
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            log.warning("what was learned from DNS before is not known: %s", error)
        return LeasesRecalled(())

    def hurry(self) -> None:
        """Whatever was learned is due now: the daemon ends."""
        self._not_before = float("-inf")

    def due(self, engine: Engine) -> Callable[[], None] | None:
        """What to do in another thread, if something was learned since the last time."""
        changes, begun = engine.leases.changes, time.monotonic()
        if self._busy or changes == self._kept or begun < self._not_before:
            return None
        is_listed = engine.permissions.is_exact
        try:
            text = lease_text.write(engine.leases, is_listed, _boot(), _offset())
        except OSError as error:
            self._failed(error)
            return None
        took = time.monotonic() - begun
        self._not_before = begun + max(SHORTEST_PAUSE, took / SHARE)
        self._busy = True

        def keep() -> None:
            try:
                _replace(self._path, text)
            except OSError as error:
                self._failed(error)
            else:
                self.problem, self._kept = "", changes
            finally:
                self._busy = False

        return keep

    def _failed(self, error: OSError) -> None:
        self.problem = f"{self._path} cannot be written: {error}"
        self._not_before = time.monotonic() + AGAIN


def _read(path: Path) -> str:
    with open(path, "rb", opener=_open_plain) as kept:
        found = os.fstat(kept.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
            raise ValueError(f"{path} is not a file of this user")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ValueError(f"{path} can be written by others")
        return kept.read(_LARGEST).decode()


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _replace(path: Path, text: str) -> None:
    new = path.with_name(f"{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    with open(new, "x", opener=_open_private) as written:
        written.write(text)
    new.rename(path)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _boot() -> str:
    return (os.environ.get(BOOT_ID) or BOOT.read_text().strip()).replace("-", "")


def _offset() -> float:
    """The time since boot less the monotonic clock, which stands still while a machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
