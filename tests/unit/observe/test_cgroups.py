"""Cgroups that come, go and come again; a plain directory tree stands in for the v2 mount."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path

import pytest
from asyncinotify import Inotify

from ramfw.core.events import Cgroup, CgroupsChanged
from ramfw.core.policy import ScopeName
from ramfw.observe import cgroups
from ramfw.observe.cgroups import CgroupRoot, CgroupWatch, find_v2_root

ENGINES, CONTAINERS = ScopeName.ENGINES, ScopeName.CONTAINERS
PATTERNS: Mapping[ScopeName, tuple[str, ...]] = {
    CONTAINERS: ("system.slice/docker-*.scope", "system.slice/docker.service"),
    ENGINES: (
        "engines.slice",
        "system.slice/docker.service",
        "user.slice/user-*.slice/user@*.service/app.slice/docker.service",
    ),
}
ROOTLESS = "user.slice/user-1000.slice/user@1000.service/app.slice/docker.service"

QUEUE = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))

PURE = """\
22 28 0:20 / /sys rw - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw
"""
HYBRID = """\
22 28 0:20 / /sys rw - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
"""
ROOTFS = "1 1 0:2 / / rw - rootfs rootfs rw\n22 1 0:20 / /sys rw - sysfs sysfs rw\n"
OVER_HYBRID = HYBRID + "90 30 0:27 / /sys/fs/cgroup rw - cgroup2 none rw\n"


@pytest.fixture(autouse=True)
def never_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a change is noticed by inotify or not at all."""
    monkeypatch.setattr(cgroups, "_LOOK_AGAIN", 3600)


@pytest.mark.parametrize(
    ("mountinfo", "root"),
    [
        (PURE, CgroupRoot(Path("/sys/fs/cgroup"))),
        (HYBRID, CgroupRoot(Path("/sys/fs/cgroup/unified"), "unified/")),
        # A v2 mount laid over the hybrid tree hides the one inside it.
        (OVER_HYBRID, CgroupRoot(Path("/sys/fs/cgroup"))),
        # And a tmpfs laid over a v2 mount hides that.
        (PURE + "90 30 0:99 / /sys/fs/cgroup rw - tmpfs none rw\n", None),
        (PURE + "90 22 0:99 / /sys/fs rw - tmpfs none rw\n", None),
        # On an initial RAM disk the root is rootfs, which is its own parent.
        (
            ROOTFS + "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            CgroupRoot(Path("/sys/fs/cgroup")),
        ),
        ("", None),
        ("no mountinfo at all\n - \n1 2 - cgroup2 x y\n", None),
        ("22 28 0:20 / /sys rw - sysfs sysfs rw\n", None),
    ],
)
def test_the_v2_root_is_the_mount_that_can_be_seen(mountinfo: str, root: CgroupRoot | None) -> None:
    assert find_v2_root(mountinfo) == root


def test_a_root_where_nft_does_not_look_is_said() -> None:
    root = find_v2_root("31 28 0:27 / /mnt/cg\\0402 rw - cgroup2 cgroup2 rw\n")

    assert root is not None
    assert root.path == Path("/mnt/cg 2")
    assert "mount --bind /mnt/cg 2 /sys/fs/cgroup/unified" in root.problem


def test_a_root_that_nft_can_be_told_goes_before_one_that_it_cannot() -> None:
    elsewhere = "31 28 0:27 / /mnt/cgroup rw - cgroup2 cgroup2 rw\n"

    assert find_v2_root(elsewhere + PURE) == CgroupRoot(Path("/sys/fs/cgroup"))


def test_a_mount_of_a_part_is_said() -> None:
    root = find_v2_root(PURE.replace("0:26 /", "0:26 /docker/abc"))

    assert root is not None
    assert "only a part of cgroup v2 (/docker/abc)" in root.problem


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).mkdir(parents=True)


def member(root: Path, path: str, scope: ScopeName) -> tuple[Cgroup, int]:
    return Cgroup(path, scope), (root / path).stat().st_ino


async def following(changes: AsyncGenerator[CgroupsChanged, None]) -> CgroupsChanged:
    async with asyncio.timeout(10):
        return await anext(changes)


async def until(
    changes: AsyncGenerator[CgroupsChanged, None], wanted: set[tuple[Cgroup, int]]
) -> None:
    """Several changes may come as one event or as several; the last one tells what there is."""
    while (await following(changes)).cgroups != wanted:
        pass


def test_a_scan_finds_what_fits_and_the_engines_scope_wins(tmp_path: Path) -> None:
    make(
        tmp_path,
        "engines.slice/docker.service",
        "system.slice/docker.service/init",
        "system.slice/docker-abc.scope",
        "system.slice/ssh.service",
        ROOTLESS,
        "user.slice/user-1000.slice/session-1.scope",
        "docker.service",
    )
    (tmp_path / "system.slice" / "docker-file.scope").touch()

    assert CgroupWatch(tmp_path, PATTERNS).scan() == {
        member(tmp_path, "engines.slice", ENGINES),
        member(tmp_path, "system.slice/docker.service", ENGINES),
        member(tmp_path, "system.slice/docker-abc.scope", CONTAINERS),
        member(tmp_path, ROOTLESS, ENGINES),
    }


async def test_what_is_there_comes_first_then_what_is_made_at_any_depth(tmp_path: Path) -> None:
    make(tmp_path, "engines.slice", "system.slice")
    watch = CgroupWatch(tmp_path, PATTERNS)
    async with aclosing(watch.changes()) as changes:
        assert await following(changes) == CgroupsChanged(
            frozenset({member(tmp_path, "engines.slice", ENGINES)})
        )

        make(tmp_path, "system.slice/ssh.service", "system.slice/docker-abc.scope")
        await until(
            changes,
            {
                member(tmp_path, "engines.slice", ENGINES),
                member(tmp_path, "system.slice/docker-abc.scope", CONTAINERS),
            },
        )

        make(tmp_path, ROOTLESS)
        await until(changes, set(watch.scan()))
        assert member(tmp_path, ROOTLESS, ENGINES) in watch.scan()


async def test_a_cgroup_made_again_is_another_even_in_one_burst(tmp_path: Path) -> None:
    make(tmp_path, "system.slice/docker.service", "filler")
    service = tmp_path / "system.slice" / "docker.service"
    async with aclosing(CgroupWatch(tmp_path, PATTERNS).changes()) as changes:
        before = (await following(changes)).cgroups

        service.rename(tmp_path / "filler" / "kept")  # so that its inode is not used again
        service.mkdir()
        after = (await following(changes)).cgroups

    assert {cgroup for cgroup, _inode in before} == {cgroup for cgroup, _inode in after}
    assert before != after


async def test_a_parent_made_again_is_followed_below(tmp_path: Path) -> None:
    make(tmp_path, "system.slice/docker.service")
    async with aclosing(CgroupWatch(tmp_path, PATTERNS).changes()) as changes:
        await following(changes)

        (tmp_path / "system.slice").rename(tmp_path / "old")
        await until(changes, set())
        make(tmp_path, "system.slice")
        (tmp_path / "old" / "docker.service").rmdir()  # no longer on a pattern's way
        make(tmp_path, "system.slice/docker.service")
        await until(changes, {member(tmp_path, "system.slice/docker.service", ENGINES)})


async def test_a_removed_cgroup_is_gone(tmp_path: Path) -> None:
    make(tmp_path, ROOTLESS)
    async with aclosing(CgroupWatch(tmp_path, PATTERNS).changes()) as changes:
        await following(changes)

        (tmp_path / ROOTLESS).rmdir()
        assert await following(changes) == CgroupsChanged(frozenset())


async def test_an_overflow_of_the_queue_is_a_full_scan(tmp_path: Path) -> None:
    """More events than the queue holds: what was lost is found all the same."""
    make(tmp_path, "system.slice")
    flood = QUEUE // 2 + 10
    async with aclosing(CgroupWatch(tmp_path, PATTERNS).changes()) as changes:
        await following(changes)

        # Nothing of the loop runs in between, so the kernel's queue overflows.
        noise = tmp_path / "system.slice" / "noise"
        for _ in range(flood):
            noise.mkdir()
            noise.rmdir()
        make(tmp_path, "system.slice/docker.service")

        await until(changes, {member(tmp_path, "system.slice/docker.service", ENGINES)})


async def test_only_directories_that_a_pattern_goes_through_are_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "system.slice/docker.service", "system.slice/ssh.service/deep", ROOTLESS, "x")
    made: list[Inotify] = []

    def remembered() -> Inotify:
        made.append(Inotify(sync_timeout=0))
        return made[0]

    monkeypatch.setattr(cgroups, "watcher", remembered)
    async with aclosing(CgroupWatch(tmp_path, PATTERNS).changes()) as changes:
        await following(changes)
        watched = {watch.path.relative_to(tmp_path).as_posix() for watch in made[0].watches}

    assert watched == {
        ".",
        "system.slice",
        "user.slice",
        "user.slice/user-1000.slice",
        "user.slice/user-1000.slice/user@1000.service",
        "user.slice/user-1000.slice/user@1000.service/app.slice",
    }


async def test_a_missing_root_is_said_and_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "_LOOK_AGAIN", 0.01)
    root = tmp_path / "unified"
    async with aclosing(CgroupWatch(root, PATTERNS).changes()) as changes:
        assert await following(changes) == CgroupsChanged(frozenset(), f"{root} is missing")

        make(root, "engines.slice")
        while (event := await following(changes)).problem:
            pass
        assert event.cgroups == {member(root, "engines.slice", ENGINES)}


async def test_without_inotify_the_tree_is_looked_at_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more() -> Inotify:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(cgroups, "watcher", no_more)
    monkeypatch.setattr(cgroups, "_LOOK_AGAIN", 0.01)
    async with aclosing(CgroupWatch(tmp_path, PATTERNS).changes()) as changes:
        assert "fs.inotify.max_user_instances" in (await following(changes)).problem

        make(tmp_path, "engines.slice")
        await until(changes, {member(tmp_path, "engines.slice", ENGINES)})


async def test_no_patterns_no_cgroups(tmp_path: Path) -> None:
    make(tmp_path, "engines.slice")
    async with aclosing(CgroupWatch(tmp_path, {}).changes()) as changes:
        assert await following(changes) == CgroupsChanged(frozenset())


@pytest.mark.parametrize("name", ['docker-".scope', "docker-\n.scope", "docker-\x7f.scope"])
async def test_a_name_that_nft_cannot_be_told_is_left_out_and_said(
    tmp_path: Path, name: str
) -> None:
    """Whoever may make cgroups, a user in its own slice, must not end the daemon with a name."""
    (tmp_path / "system.slice" / name).mkdir(parents=True)
    (tmp_path / "system.slice" / "docker-1\\x2d2.scope").mkdir()
    async with aclosing(CgroupWatch(tmp_path, PATTERNS).changes()) as changes:
        first = await anext(changes)
    assert [cgroup.path for cgroup, _ in first.cgroups] == ["system.slice/docker-1\\x2d2.scope"]
    assert "nft cannot be told the cgroup" in first.problem
