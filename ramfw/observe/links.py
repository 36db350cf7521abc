"""Which interfaces carry containers, which lead out, and which cannot be followed.

The kernel's change notifications only say *that* something changed; what there is now is always
read anew, whole. So a lost notification, or a socket that overflowed (ENOBUFS), costs nothing but
another reading.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from ramfw.core.events import LinksChanged
from ramfw.errors import ObserveError

_LOG = logging.getLogger(__name__)

# rtnetlink(7) multicast groups: links, IPv4 routes, IPv6 routes, nexthop objects.
_GROUPS = 1 << 0 | 1 << 6 | 1 << 10 | 1 << 31
_BURST = 0.02  # seconds in which changes that follow each other are read together
_RETRY = 1.0

# Kinds of ports that a container runtime makes; a physical port has no kind.
_CONTAINER_PORTS = frozenset({"veth", "tun", "vxlan", "dummy", "ifb"})
# They share their parent's wire below the hooks where this host filters.
_UNFOLLOWED = frozenset({"macvlan", "macvtap", "ipvlan", "ipvtap"})
_RTN_UNICAST = 1


@dataclass(frozen=True, slots=True)
class Link:
    """One interface: `kind` is rtnetlink's word ("bridge"), empty for hardware."""

    index: int
    name: str
    kind: str = ""
    master: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """One way that a route leads: out by interface `link`, `outward` if to more than neighbours.

    A route with several next hops is several of these.
    """

    link: int
    outward: bool


def classify(
    patterns: tuple[str, ...], links: Iterable[Link], routes: Iterable[Route]
) -> LinksChanged:
    """Tell container bridges from uplinks among the interfaces whose name fits a pattern.

    An uplink has a route by a gateway or a default route, or a port that no container runtime
    makes. Pure.
    """
    links = tuple(links)
    fitting = {
        link.index: link.name
        for link in links
        if any(fnmatchcase(link.name, pattern) for pattern in patterns)
    }
    outward = {route.link for route in routes if route.outward}
    outward |= {link.master for link in links if link.kind not in _CONTAINER_PORTS}
    return LinksChanged(
        bridges=frozenset(name for index, name in fitting.items() if index not in outward),
        uplinks=frozenset(name for index, name in fitting.items() if index in outward),
        unfollowed=frozenset(link.name for link in links if link.kind in _UNFOLLOWED),
    )


def link_of(message: Mapping[str, Any]) -> Link:
    """A link as pyroute2 gives it, in our terms."""
    attributes = dict(message["attrs"])
    info = dict(attributes.get("IFLA_LINKINFO", {}).get("attrs", ()))
    return Link(
        index=message["index"],
        name=attributes.get("IFLA_IFNAME", ""),
        kind=info.get("IFLA_INFO_KIND", ""),
        master=attributes.get("IFLA_MASTER", 0),
    )


def routes_of(message: Mapping[str, Any]) -> list[Route]:
    """A route as pyroute2 gives it, in our terms; nothing for one that delivers nowhere.

    For a nexthop object (`ip route ... nhid`) the kernel gives gateway and interface too, unless
    net.ipv4.nexthop_compat_mode is off.
    """
    if message["type"] != _RTN_UNICAST:
        return []
    attributes = dict(message["attrs"])
    default = message["dst_len"] == 0
    hops = [attributes.get("RTA_OIF"), *(hop["oif"] for hop in attributes.get("RTA_MULTIPATH", ()))]
    gateways = [attributes, *(dict(hop["attrs"]) for hop in attributes.get("RTA_MULTIPATH", ()))]
    return [
        Route(oif, default or "RTA_GATEWAY" in hop or "RTA_VIA" in hop)
        for oif, hop in zip(hops, gateways, strict=True)
        if oif
    ]


class LinkWatch:
    """Follows the interfaces of this network namespace whose names fit `patterns` (globs)."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns

    async def read(self) -> LinksChanged:
        """What there is now. Raises ObserveError where the kernel does not tell."""
        try:
            async with AsyncIPRoute() as ipr:
                links = [link_of(message) async for message in await ipr.link("dump")]
                routes = [
                    route
                    async for message in await ipr.route("dump")
                    for route in routes_of(message)
                ]
        except (OSError, NetlinkError) as error:
            raise ObserveError(
                f"cannot read the network interfaces: {error}. ramfw needs AF_NETLINK sockets; "
                "if a service unit limits them, add it to RestrictAddressFamilies="
            ) from error
        return classify(self._patterns, links, routes)

    async def changes(self) -> AsyncGenerator[LinksChanged, None]:
        """What there is now, and then again after each change that makes a difference.

        Raises ObserveError where even the first reading fails; later failures are logged and
        tried again.
        """
        with _notifications() as notifications:
            last = await self.read()
            yield last
            while True:
                await _notified(notifications)
                # A fixed pause, not one that starts again: a stream of changes cannot starve it.
                await asyncio.sleep(_BURST)
                _drain(notifications)
                try:
                    now = await self.read()
                except ObserveError as error:
                    _LOG.warning("%s; trying again", error)
                    now = await self._read_in_the_end()
                if now != last:
                    last = now
                    yield now

    async def _read_in_the_end(self) -> LinksChanged:
        while True:
            await asyncio.sleep(_RETRY)
            try:
                return await self.read()
            except ObserveError:
                continue


def _notifications() -> socket.socket:
    sock = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    sock.bind((0, _GROUPS))
    return sock


async def _notified(sock: socket.socket) -> None:
    """Return when anything has changed, or may have (the socket overflowed)."""
    try:
        await asyncio.get_running_loop().sock_recv(sock, 1)
    except OSError as error:
        _LOG.debug("link notifications were lost: %s", error)


def _drain(sock: socket.socket) -> None:
    """Forget what is waiting: the reading that follows sees all of it."""
    while True:
        try:
            sock.recv(1)
        except BlockingIOError:
            return
        except OSError as error:
            _LOG.debug("link notifications were lost: %s", error)
