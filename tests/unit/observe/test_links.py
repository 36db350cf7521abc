"""Interfaces told apart: what carries containers, what leads out, what cannot be followed."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import aclosing
from typing import Any

import pytest

from ramfw.core.events import LinksChanged
from ramfw.errors import ObserveError
from ramfw.observe import links
from ramfw.observe.links import Link, LinkWatch, Route, classify, link_of, routes_of

PATTERNS = ("docker0", "br-*")
DOCKER0 = Link(3, "docker0", "bridge")


def changed(bridges: str = "", uplinks: str = "", unfollowed: str = "") -> LinksChanged:
    return LinksChanged(*(frozenset(names.split()) for names in (bridges, uplinks, unfollowed)))


@pytest.mark.parametrize(
    ("there", "routes", "told"),
    [
        ([], [], changed()),
        ([DOCKER0, Link(4, "br-1234", "bridge")], [], changed("docker0 br-1234")),
        (
            [Link(2, "eth0"), Link(4, "bridge0", "bridge"), Link(5, "xbr-1", "bridge")],
            [],
            changed(),
        ),
        ([DOCKER0], [Route(3, outward=False), Route(2, outward=True)], changed("docker0")),
        ([DOCKER0], [Route(3, outward=True)], changed(uplinks="docker0")),
        ([DOCKER0, Link(5, "veth1", "veth", master=3)], [], changed("docker0")),
        ([DOCKER0, Link(5, "tap0", "tun", master=3)], [], changed("docker0")),
        ([DOCKER0, Link(5, "vxlan1", "vxlan", master=3)], [], changed("docker0")),
        ([DOCKER0, Link(5, "eth0", "", master=3)], [], changed(uplinks="docker0")),
        ([DOCKER0, Link(5, "bond0", "bond", master=3)], [], changed(uplinks="docker0")),
        ([DOCKER0, Link(5, "eth0.7", "vlan", master=3)], [], changed(uplinks="docker0")),
        # A port of another bridge says nothing about this one.
        (
            [DOCKER0, Link(4, "br0", "bridge"), Link(5, "eth0", "", master=4)],
            [],
            changed("docker0"),
        ),
        (
            [Link(6, "mv0", "macvlan"), Link(7, "ivt0", "ipvtap"), Link(8, "v0", "veth")],
            [],
            changed(unfollowed="mv0 ivt0"),
        ),
    ],
)
def test_an_interface_is_told_by_its_name_its_routes_and_its_ports(
    there: list[Link], routes: list[Route], told: LinksChanged
) -> None:
    assert classify(PATTERNS, there, routes) == told


def test_a_link_as_the_kernel_gives_it() -> None:
    message = {
        "index": 5,
        "attrs": [
            ("IFLA_IFNAME", "veth0"),
            ("IFLA_MASTER", 3),
            (
                "IFLA_LINKINFO",
                {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_SLAVE_KIND", "bridge")]},
            ),
        ],
    }

    assert link_of(message) == Link(5, "veth0", "veth", master=3)
    assert link_of({"index": 2, "attrs": [("IFLA_IFNAME", "eth0")]}) == Link(2, "eth0")


def route(dst_len: int, kind: int = 1, **attributes: object) -> dict[str, Any]:
    return {"dst_len": dst_len, "type": kind, "attrs": list(attributes.items())}


@pytest.mark.parametrize(
    ("message", "routes"),
    [
        (route(24, RTA_OIF=3), [Route(3, outward=False)]),
        (route(24, RTA_OIF=3, RTA_GATEWAY="192.0.2.1"), [Route(3, outward=True)]),
        (route(24, RTA_OIF=3, RTA_VIA={"family": 10}), [Route(3, outward=True)]),
        (route(0, RTA_OIF=3), [Route(3, outward=True)]),
        (
            route(
                24,
                RTA_MULTIPATH=[
                    {"oif": 3, "attrs": [("RTA_GATEWAY", "192.0.2.1")]},
                    {"oif": 4, "attrs": []},
                ],
            ),
            [Route(3, outward=True), Route(4, outward=False)],
        ),
        (route(32, kind=2, RTA_OIF=3), []),  # local
        (route(0, kind=7), []),  # unreachable: leads nowhere
    ],
)
def test_a_route_as_the_kernel_gives_it(message: dict[str, Any], routes: list[Route]) -> None:
    assert routes_of(message) == routes


async def test_the_state_comes_first_and_then_only_what_differs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Notifications stand in for the kernel's; three readings, of which two are alike."""
    notifications, kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    notifications.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    readings = [changed("docker0"), changed("docker0"), changed("docker0 br-1")]

    async def read(_: LinkWatch) -> LinksChanged:
        now = readings.pop(0)
        if readings:
            kernel.send(b"something changed")
        return now

    monkeypatch.setattr(links, "_notifications", lambda: notifications)
    monkeypatch.setattr(LinkWatch, "read", read)
    with kernel:
        async with asyncio.timeout(5), aclosing(LinkWatch(PATTERNS).changes()) as changes:
            assert await anext(changes) == changed("docker0")
            assert await anext(changes) == changed("docker0 br-1")


class Overflowing(socket.socket):
    """A notification socket whose queue overflowed once: the kernel says it and nothing else."""

    overflowed = False

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if not self.overflowed:
            self.overflowed = True
            raise OSError(errno.ENOBUFS, "No buffer space available")
        return super().recv(bufsize, flags)


async def test_an_overflow_and_a_failed_reading_are_followed_by_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notifications = Overflowing(socket.AF_UNIX, socket.SOCK_DGRAM)
    notifications.setblocking(False)  # noqa: FBT003 - the standard library's own signature
    readings: list[LinksChanged | ObserveError] = [
        changed("docker0"),
        ObserveError("not now"),
        changed("docker0 br-1"),
    ]

    async def read(_: LinkWatch) -> LinksChanged:
        now = readings.pop(0)
        if isinstance(now, ObserveError):
            raise now
        return now

    monkeypatch.setattr(links, "_RETRY", 0)
    monkeypatch.setattr(links, "_notifications", lambda: notifications)
    monkeypatch.setattr(LinkWatch, "read", read)
    async with asyncio.timeout(5), aclosing(LinkWatch(PATTERNS).changes()) as changes:
        assert await anext(changes) == changed("docker0")
        assert await anext(changes) == changed("docker0 br-1")


async def test_this_namespace_can_be_read() -> None:
    """A real dump: whatever there is, the loopback fits its own name and leads nowhere."""
    assert (await LinkWatch(("lo",)).read()).bridges == {"lo"}
