"""Who settles a flow: the kernel, by the server's acknowledgement, or the daemon by its copies.

Told by how many packets of the client were shown: where the kernel settles a connection, none
behind its hello.
"""

from __future__ import annotations

import pytest

from tests.lab.addresses import CDN_BAD, CDN_GOOD
from tests.lab.container import Container
from tests.lab.host import Host
from tests.lab.opener import HEAR, Step, get, hello, opens
from tests.lab.policies import OFF, STRICT, policy
from tests.lab.test_names import GOOD, names

AGAIN: tuple[Step, ...] = (("send", "\x15\x03\x03\0\x02\x01\0"), HEAR)
"""More of the client, which passes only where the flow is permitted."""
OTHERS_MARK = (
    "table inet other { chain marks { type filter hook prerouting priority -300;"
    " tcp sport 443 meta mark set 0x10000; }; }"
)


def started(host: Host, where: str) -> Host | Container:
    """Who connects: the engine, or a container; the policy is in force for both."""
    who = host if where == "engine" else host.container()
    host.start_ramfw(policy(GOOD, containers=STRICT, host=OFF))
    return who


@pytest.mark.parametrize("address", CDN_GOOD.addresses, ids=["v4", "v6"])
@pytest.mark.parametrize("where", ["engine", "container"])
def test_kernel_settles_what_was_judged_well(host: Host, where: str, address: str) -> None:
    who = started(host, where)

    met = opens(who, address, 443, ("send", hello(CDN_GOOD.name)), HEAR, *AGAIN)

    assert met.is_tls
    assert names(host)["openings"] == 1, "the hello alone was shown"
    assert names(host)["permitted"] == 1
    refused = opens(who, address, 443, ("send", hello(CDN_BAD.name)), HEAR)
    assert not refused.is_tls


def test_daemon_settles_where_others_mark_the_server_s_packets(host: Host) -> None:
    """Their mark has to stay, so the kernel has no room to bring the flow's id in."""
    who = started(host, "engine")
    host.namespace.run("nft", OTHERS_MARK, check=True)
    try:
        met = opens(who, CDN_GOOD.v4, 443, ("send", hello(CDN_GOOD.name)), HEAR, *AGAIN)
    finally:
        host.namespace.run("nft", "delete table inet other", check=True)

    assert met.is_tls
    assert names(host)["openings"] == 2, "and what came behind the hello"


def test_more_that_follows_at_once_is_settled_all_the_same(host: Host) -> None:
    """A hello in two parts and bytes behind it: the server may acknowledge all of it together."""
    who = started(host, "engine")
    whole = hello(CDN_GOOD.name)
    parts: tuple[Step, ...] = (("send", whole[:100]), ("send", whole[100:]), AGAIN[0], HEAR)

    assert opens(who, CDN_GOOD.v4, 443, *parts).is_tls
    assert not opens(who, CDN_GOOD.v4, 443, ("send", get(CDN_GOOD.name, "/")), HEAR).is_tls
