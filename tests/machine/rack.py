"""One Debian's machines, and the internet that they are linked to, one at a time."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from tests.lab.addresses import DNS
from tests.lab.internet import Internet
from tests.lab.materials import Materials
from tests.lab.space import Space
from tests.machine.disk import Disk

TREE = Path(__file__).parents[2]
PLACE = "/srv/ramfw"
"""Where a machine has this tree, as it would be cloned."""


class Rack:
    """A context: with it all of its machines end, and their disks."""

    def __init__(self, suite: str, materials: Materials) -> None:
        """`suite` is the Debian that the machines run."""
        self.suite = suite
        self._materials = materials
        self._kept = TREE / "build" / "machine" / suite
        self._numbers = itertools.count(1)
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        if not (self._kept / "made-from").exists():
            raise RuntimeError(
                f"Debian {self.suite}'s system is missing: run: make machine (as root)"
            )
        with self._ending:
            self.space = Space()
            self._ending.callback(self.space.close)
            self.internet = Internet(self.space.first, self._materials)
            self.internet.start()
            self._ending = self._ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def disk(self, layers: Sequence[Path] = ()) -> Disk:
        """A disk with Debian on it, this tree, and trust in the lab's authority; or with layers."""
        path = self.space.directory / f"disk-{next(self._numbers)}"
        if layers:
            return Disk(self.space.first, path, layers)
        disk = Disk(self.space.first, path, [self._kept / "root"])
        shutil.copy(self._materials.ca, disk.at("/etc/ssl/certs/ca-certificates.crt"))
        shutil.copy(self._materials / "tools.tar", disk.at("/srv/tools.tar"))
        servers = "".join(f"nameserver {address}\n" for address in DNS.addresses)
        disk.write("/etc/resolv.conf", servers)
        self._copy_tree(disk)
        return disk

    def _copy_tree(self, disk: Disk) -> None:
        """Copy what a clone has, with its present content."""
        place = disk.at(PLACE)
        ignored = shutil.ignore_patterns(".*", "__pycache__", "build", "dist")
        shutil.copytree(TREE, place, ignore=ignored, symlinks=True)
