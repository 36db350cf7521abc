"""What a machine keeps when it is off: layers over a kept root, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.lab.space import Namespace

SIZE = "512M"


class Disk:
    """A root file system that starts as its layers are, and leaves them as they were.

    It is mounted in one namespace, and in those that are made from it later.
    """

    def __init__(self, namespace: Namespace, path: Path, layers: Sequence[Path]) -> None:
        """`layers`: directories, the topmost first; `path`: where, in that namespace."""
        self._namespace = namespace
        self.path = path
        self.layers = tuple(layers)
        lower = ":".join(map(str, layers))
        # Docker's own layers want a file system that is no overlay itself.
        namespace.sh(
            f"""
            mkdir {path}
            mount -t tmpfs -o mode=755,size={SIZE} tmpfs {path}
            cd {path}
            mkdir upper work root docker
            mount -t overlay -o lowerdir={lower},upperdir=upper,workdir=work overlay root
            mkdir -p root/var/lib/docker root/mnt
            mount --bind docker root/var/lib/docker
            """
        )

    @property
    def root(self) -> Path:
        """The root directory, as the namespace sees it."""
        return self.path / "root"

    @property
    def changes(self) -> Path:
        """What differs from the layers: with them, the layers of another disk."""
        return self.path / "upper"

    def at(self, path: str) -> Path:
        """Where a file of the disk is for the tests, whether the machine is on or off."""
        return self._namespace.root / str(self.root)[1:] / path[1:]

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, and make the directories it is in."""
        where = self.at(path)
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
        where.chmod(mode)

    def remove(self) -> None:
        """Forget it all; no machine may run from it, and no disk stand on it."""
        self._namespace.sh(
            f"umount {self.root}/var/lib/docker {self.root} {self.path}; rmdir {self.path}"
        )
