"""Follows the cgroups that a policy's patterns name, in the cgroup v2 hierarchy.

A cgroup is known to the kernel's filter by its id, which is its directory's inode: one that is
made again under its old path is another cgroup. Inotify only says that something happened; what
there is now is read from the tree, after the watches are set, so that nothing falls in between.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

from ramfw.core.events import Cgroup, CgroupsChanged
from ramfw.core.policy import ScopeName
from ramfw.observe.inotify import burst, explain, watcher

_CHANGES = Mask.CREATE | Mask.DELETE | Mask.MOVE | Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.ONLYDIR
_LOOK_AGAIN = 5.0  # seconds, while something cannot be watched
_WILD = frozenset("*?[")
_NFT_BASE = "/sys/fs/cgroup"


@dataclass(frozen=True, slots=True)
class CgroupRoot:
    """Where the v2 hierarchy is mounted.

    `nft_prefix` goes before a cgroup's path when nft is told it, since nft looks below
    /sys/fs/cgroup and nowhere else. `problem` says why nft cannot be told cgroups here; then
    no rule by cgroup can be made.
    """

    path: Path
    nft_prefix: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _Mount:
    id: str
    parent: str
    root: str
    point: str
    kind: str


def find_v2_root(mountinfo: str) -> CgroupRoot | None:
    """The v2 hierarchy in the text of /proc/PID/mountinfo (proc(5)); None where there is none.

    Of several mounts, one that nft can be told of is taken before others. Pure.
    """
    mounts = {mount.id: mount for mount in map(_mount, mountinfo.splitlines()) if mount}
    visible = [
        mount for mount in mounts.values() if mount.kind == "cgroup2" and _seen(mount, mounts)
    ]
    roots = [_root(mount) for mount in visible]
    roots.sort(key=lambda root: (bool(root.problem), len(root.nft_prefix)))
    return roots[0] if roots else None


def nft_prefix(mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """What nft must be given before a cgroup's path on this machine."""
    root = find_v2_root(mountinfo.read_text(encoding="utf-8"))
    return root.nft_prefix if root else ""


def _mount(line: str) -> _Mount | None:
    before, _, after = line.partition(" - ")
    fields, kind = before.split(), after.split()
    if len(fields) < 5 or not kind:  # noqa: PLR2004 - mountinfo's first five fields
        return None
    identity, parent, _device, root, point = map(_unescape, fields[:5])
    return _Mount(identity, parent, root, point, kind[0])


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _seen(mount: _Mount, mounts: Mapping[str, _Mount]) -> bool:
    """Whether no other mount lies over this one or over one that it stands on."""
    if any(other.parent == mount.id and other.point == mount.point for other in mounts.values()):
        return False
    child, passed = mount, {mount.id}
    while (below := mounts.get(child.parent)) is not None and below.id not in passed:
        for other in mounts.values():
            # The first root of all, rootfs, stands on itself.
            if other in (child, below) or other.parent != below.id:
                continue
            if _is_under(child.point, other.point):
                return False
        child = below
        passed.add(below.id)
    return True


def _is_under(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _root(mount: _Mount) -> CgroupRoot:
    path = Path(mount.point)
    if not _is_under(mount.point, _NFT_BASE):
        problem = (
            f"cgroup v2 is mounted at {mount.point}, and nft looks only below {_NFT_BASE}: "
            f"run `mount --bind {mount.point} {_NFT_BASE}/unified`"
        )
        return CgroupRoot(path, problem=problem)
    below = mount.point.removeprefix(_NFT_BASE).strip("/")
    prefix = f"{below}/" if below else ""
    if mount.root != "/":
        problem = (
            f"the mount at {mount.point} shows only a part of cgroup v2 ({mount.root}): "
            f"run `mount -t cgroup2 none {mount.point}`"
        )
        return CgroupRoot(path, prefix, problem)
    return CgroupRoot(path, prefix)


class CgroupWatch:
    """Follows the cgroups below `root` that fit the scopes' patterns.

    A pattern is a path below `root` without a leading slash, with shell wildcards that stay
    within one level. A cgroup that fits the engines' and another scope's is the engines'.
    """

    def __init__(self, root: Path, patterns: Mapping[ScopeName, tuple[str, ...]]) -> None:
        self._root = root
        self._ways = tuple(
            _Way(scope, tuple(pattern.strip("/").split("/")))
            for scope in sorted(patterns, key=lambda scope: scope != ScopeName.ENGINES)
            for pattern in patterns[scope]
        )

    def scan(self) -> frozenset[tuple[Cgroup, int]]:
        """The cgroups that fit now, each with its inode. What vanishes meanwhile is left out."""
        return self._scan(_Watches(None))

    async def changes(self) -> AsyncGenerator[CgroupsChanged, None]:
        """What there is now, and then again after each change of a cgroup that fits.

        Never raises for the tree's state: what hinders is said in the event, and tried again
        every few seconds.
        """
        last: CgroupsChanged | None = None
        with ExitStack() as stack:
            inotify: Inotify | None = None
            while True:
                problem = ""
                if inotify is None:
                    try:
                        inotify = stack.enter_context(watcher())
                    except OSError as error:
                        problem = f"cgroups cannot be watched, only looked at: {explain(error)}"
                    watches = _Watches(inotify)
                found = self._scan(watches)
                now = CgroupsChanged(found, problem or watches.problem)
                if now != last:
                    last = now
                    yield now
                if inotify is None:
                    await asyncio.sleep(_LOOK_AGAIN)
                else:
                    await watches.changed(inotify)

    def _scan(self, watches: _Watches) -> frozenset[tuple[Cgroup, int]]:
        """Walk the tree along the patterns, watching each directory before it is read."""
        found: dict[str, tuple[Cgroup, int]] = {}
        watches.begin()
        pending = [("", self._ways)] if self._ways else []
        while pending:
            path, ways = pending.pop()
            directory = self._root / path
            try:
                watches.add(directory, frozenset(way.segments[0] for way in ways))
                children = list(_children(directory, ways))
            except FileNotFoundError:
                if not path:
                    watches.problem = f"{self._root} is missing"
                continue
            except OSError as error:
                watches.problem = f"{directory} cannot be watched: {explain(error)}"
                continue
            for name, inode in children:
                child = f"{path}/{name}" if path else name
                if '"' in name or not name.isprintable():
                    watches.problem = f"nft cannot be told the cgroup {child!r}: it is not followed"
                    continue
                fitting = [way for way in ways if fnmatchcase(name, way.segments[0])]
                for way in fitting:
                    if len(way.segments) == 1:
                        found.setdefault(child, (Cgroup(child, way.scope), inode))
                deeper = tuple(
                    _Way(way.scope, way.segments[1:]) for way in fitting if len(way.segments) > 1
                )
                if deeper:
                    pending.append((child, deeper))
        watches.end()
        return frozenset(found.values())


@dataclass(frozen=True, slots=True)
class _Way:
    """What is left of a pattern below some directory."""

    scope: ScopeName
    segments: tuple[str, ...]


class _Watches:
    """The watched directories, by inode, which a rename keeps and a new directory never has.

    Without an inotify instance nothing is watched.
    """

    def __init__(self, inotify: Inotify | None) -> None:
        self.problem = ""
        self._inotify = inotify
        self._watches: dict[int, Watch] = {}
        self._expected: dict[int, frozenset[str]] = {}

    def begin(self) -> None:
        self.problem = ""
        self._expected = {}

    def add(self, directory: Path, expected: frozenset[str]) -> None:
        """Watch the directory for names that fit `expected`. Raises OSError."""
        if self._inotify is None:
            return
        inode = directory.stat().st_ino
        if inode not in self._watches:
            watch = self._inotify.add_watch(directory, _CHANGES)
            if directory.stat().st_ino != inode:
                # Made again in between: its parent, watched before, has an event waiting.
                self._forget(watch)
                raise FileNotFoundError(directory)
            self._watches[inode] = watch
        self._expected[inode] = expected

    def end(self) -> None:
        """Stop watching what no pattern goes through any more."""
        for inode in self._watches.keys() - self._expected.keys():
            self._forget(self._watches.pop(inode))

    async def changed(self, inotify: Inotify) -> None:
        """Return when the tree is to be scanned again."""
        while True:
            events = await burst(inotify, _LOOK_AGAIN if self.problem else None)
            if not events or any(self._matters(event) for event in events):
                return

    def _matters(self, event: Event) -> bool:
        if Mask.Q_OVERFLOW in event.mask:
            return True
        for inode, watch in self._watches.items():
            if watch is event.watch:
                if Mask.IGNORED in event.mask:
                    del self._watches[inode]
                    return True
                name = str(event.name or "")
                expected = self._expected[inode]
                return not name or any(fnmatchcase(name, segment) for segment in expected)
        return False

    def _forget(self, watch: Watch) -> None:
        if self._inotify is not None:
            with suppress(OSError):  # the kernel may have dropped it with its directory
                self._inotify.rm_watch(watch)


def _children(directory: Path, ways: tuple[_Way, ...]) -> Iterator[tuple[str, int]]:
    """Name and inode of the directories to which a way may lead."""
    names = {way.segments[0] for way in ways}
    if any(_WILD & set(name) for name in names):
        with os.scandir(directory) as entries:
            names = {entry.name for entry in entries if entry.is_dir(follow_symlinks=False)}
    for name in names:
        with suppress(FileNotFoundError, NotADirectoryError):
            status = (directory / name).lstat()
            if stat.S_ISDIR(status.st_mode):
                yield name, status.st_ino
