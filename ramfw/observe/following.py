"""All that is followed for a policy: links, DNS servers and cgroups, each as a stream of events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

from ramfw.core.commands import Watch
from ramfw.core.events import CgroupsChanged, Event, ServersChanged
from ramfw.observe import resolvconf
from ramfw.observe.cgroups import CgroupWatch, find_v2_root
from ramfw.observe.links import LinkWatch

MOUNTINFO = Path("/proc/self/mountinfo")


def follow(wanted: Watch) -> tuple[AsyncIterator[Event], ...]:
    """What to iterate over, each until it ends; an exception in one is the program's end."""
    return LinkWatch(wanted.interfaces).changes(), _servers(wanted), _cgroups(wanted)


async def _servers(wanted: Watch) -> AsyncIterator[Event]:
    if wanted.servers is not None:
        yield ServersChanged(tuple(ip_address(server) for server in wanted.servers))
        return
    async for event in resolvconf.follow():
        yield event


async def _cgroups(wanted: Watch) -> AsyncIterator[Event]:
    root = find_v2_root(MOUNTINFO.read_text(encoding="utf-8"))  # noqa: ASYNC240 - no disk
    if root is None or root.problem:
        problem = root.problem if root else "no cgroup v2 hierarchy is mounted"
        yield CgroupsChanged(frozenset(), problem)
        return
    async for event in CgroupWatch(root.path, wanted.cgroups).changes():
        yield replace(event, nft_prefix=root.nft_prefix)
