"""What the machine is: its cgroups, its interfaces, Windows below it, and who else has rules."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

from ramfw.doctor.finding import MISSING, NOTE, OK, Finding
from ramfw.errors import ObserveError
from ramfw.observe.cgroups import find_v2_root
from ramfw.observe.links import LinkWatch


def findings(root: Path) -> Iterator[Finding]:
    """Cgroups, interfaces that cannot be followed, WSL and Docker Desktop, and other firewalls."""
    yield _cgroups(root)
    yield from _links()
    yield from _windows(root)
    yield from _desktop(root)
    yield from _flushes(root)


def _cgroups(root: Path) -> Finding:
    found = find_v2_root((root / "proc/self/mountinfo").read_text())
    unfiltered = "engines cannot be told from the rest of the host, and are not filtered"
    if found is None:
        return Finding(
            "no cgroup v2 hierarchy is mounted",
            MISSING,
            unfiltered,
            "mount -t cgroup2 none /sys/fs/cgroup, or boot with systemd.unified_cgroup_hierarchy=1",
        )
    if found.problem:
        words, _, mend = found.problem.partition(": run ")
        return Finding(words, MISSING, unfiltered, mend.strip("`"))
    if found.nft_prefix:
        return Finding(
            f"cgroup v2 is mounted at {found.path}, beside version 1 (hybrid)",
            OK,
            "it works: cgroups are given to nft by their path from /sys/fs/cgroup",
        )
    return Finding(f"cgroup v2 is mounted at {found.path}", OK)


def _links() -> Iterator[Finding]:
    try:
        unfollowed = asyncio.run(LinkWatch(()).read()).unfollowed
    except ObserveError as error:
        yield Finding(
            str(error),
            MISSING,
            "container bridges cannot be followed",
            "allow AF_NETLINK sockets where this runs: RestrictAddressFamilies= in a unit",
        )
        return
    if unfollowed:
        yield Finding(
            f"macvlan or ipvlan interfaces: {', '.join(sorted(unfollowed))}",
            NOTE,
            "what containers send by them reaches the wire without passing the filter",
            "use bridge networks: docker network ls --filter driver=macvlan",
        )


def _windows(root: Path) -> Iterator[Finding]:
    version = (root / "proc/version").read_text().lower()
    distribution = os.environ.get("WSL_DISTRO_NAME", "")
    if "microsoft" in version or distribution:
        yield Finding(
            f"this is WSL2{f' ({distribution})' if distribution else ''}",
            NOTE,
            "all distributions share one network namespace and one set of rules; another "
            "distribution's root can remove them, and its engine is judged as the host is",
            "run ramfw in one distribution, and let people be root in none",
        )
        yield from _tunnel(root)


TUNNEL = "10.255.255.254"
"""Where WSL's DNS tunnel answers, unless .wslconfig says otherwise (dnsTunnelingIpAddress)."""


def _tunnel(root: Path) -> Iterator[Finding]:
    """WSL asks Windows for names: the answers come over lo, and nothing of it is on eth0."""
    resolv = root / "etc/resolv.conf"
    if resolv.exists() and TUNNEL in resolv.read_text(errors="replace"):
        yield Finding(
            f"names are asked for through WSL's DNS tunnel ({TUNNEL})",
            OK,
            "it is trusted as the system's server; whoever rules Windows' DNS is believed",
        )


def _desktop(root: Path) -> Iterator[Finding]:
    signs = [
        str(path)
        for path in (
            root / "mnt/wsl/docker-desktop",
            root / "mnt/wsl/docker-desktop-bind-mounts",
            root / "opt/docker-desktop",
        )
        if path.exists()
    ]
    signs += (str(path) for path in _docker_configs(root) if _names_desktop(path))
    if signs:
        yield Finding(
            f"Docker Desktop is here ({signs[0]})",
            NOTE,
            "its pulls do not cross this machine's IP stack: no filter here can see them",
            "use Docker's own Registry Access Management for it, or Docker Engine instead",
        )


def _docker_configs(root: Path) -> Iterator[Path]:
    homes = [root / "root", *(root / "home").glob("*")]
    yield from (home / ".docker/config.json" for home in homes)


def _names_desktop(config: Path) -> bool:
    """Whether a person's docker client speaks to Docker Desktop."""
    try:
        settings = json.loads(config.read_bytes())
    except (OSError, ValueError):
        return False
    context = settings.get("currentContext", "") if isinstance(settings, dict) else ""
    return isinstance(context, str) and context.startswith("desktop-")


def _flushes(root: Path) -> Iterator[Finding]:
    """Services that may remove everybody's rules."""
    wanted = root / "etc/systemd/system/sysinit.target.wants/nftables.service"
    other = root / "etc/systemd/system/multi-user.target.wants/nftables.service"
    if wanted.is_symlink() or other.is_symlink():
        yield Finding(
            "nftables.service is enabled",
            NOTE,
            "stopping or reloading it flushes every table, ramfw's too; ramfw then puts it back, "
            "and until then nothing is refused",
            "load your own rules without `flush ruleset`: delete and add your own tables",
        )
