"""Addresses that no name may lead to, in every dress that IPv6 has for an IPv4 one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.addresses import embedded_ipv4, special_use, special_use_in


def nat64(address: IPv4Address) -> IPv6Address:
    return IPv6Address(int(IPv6Address("64:ff9b::")) | int(address))


def teredo(client: IPv4Address) -> IPv6Address:
    server = int(IPv4Address("192.0.2.1"))
    return IPv6Address(0x20010000 << 96 | server << 64 | int(client) ^ 0xFFFFFFFF)


WRAPPINGS = {
    "mapped": lambda a: IPv6Address(0xFFFF << 32 | int(a)),
    "compatible": lambda a: IPv6Address(int(a)),
    "translated": lambda a: IPv6Address(0xFFFF << 48 | int(a)),
    "nat64": nat64,
    "6to4": lambda a: IPv6Address(0x2002 << 112 | int(a) << 80 | 1),
    "teredo": teredo,
}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("0.0.0.0", "unspecified"),  # noqa: S104  an address to judge, not to bind
        ("0.1.2.3", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.254", "loopback"),
        ("169.254.0.1", "link-local"),
        ("169.254.169.254", "cloud metadata service"),
        ("168.63.129.16", "cloud metadata service"),
        ("100.100.100.200", "cloud metadata service"),
        ("192.0.0.8", "IETF protocol assignment"),
        ("192.88.99.1", "6to4 relay"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("240.0.0.1", "reserved"),
        ("255.255.255.255", "broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("ff02::1", "multicast"),
        ("fd00:ec2::254", "cloud metadata service"),
        ("100::1", "discard"),
        ("64:ff9b:1::7f00:1", "loopback"),
        ("64:ff9b:1:7f00:0:100::", "loopback"),
        ("64:ff9b:1:00a9:00fe:a9fe::", "cloud metadata service"),
        ("64:ff9b:1:0:7f:0:100:0", "loopback"),
        ("64:ff9b:1::", "unspecified"),
        ("2001:0:7f00:1::3fff:fdfe", "loopback"),
    ],
)
def test_special_addresses_are_known_by_their_use(address: str, reason: str) -> None:
    assert special_use(ip_address(address)) == reason


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "198.18.0.1",
        "1.1.1.1",
        "223.255.255.255",
        "128.0.0.0",
        "fd12:3456::1",
        "2001:db8::1",
        "2606:4700::1",
        "64:ff9b:1::c000:201",
        "64:ff9b:1:c000:2:100::",
    ],
)
def test_private_documentation_and_public_addresses_may_be_opened(address: str) -> None:
    assert special_use(ip_address(address)) is None


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize(
    ("inside", "reason"),
    [
        ("127.0.0.1", "loopback"),
        ("169.254.169.254", "cloud metadata service"),
        ("224.0.0.1", "multicast"),
        ("192.0.2.1", None),
        ("10.0.0.1", None),
    ],
)
def test_an_ipv6_address_is_judged_by_the_ipv4_inside(
    wrapping: str, inside: str, reason: str | None
) -> None:
    address = WRAPPINGS[wrapping](IPv4Address(inside))
    assert embedded_ipv4(address) == IPv4Address(inside)
    assert special_use(address) == reason


@pytest.mark.parametrize("address", ["::", "::1", "2001:db8::1", "192.0.2.1", "fd00::1"])
def test_an_address_that_carries_none_says_so(address: str) -> None:
    assert embedded_ipv4(ip_address(address)) is None


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        ("0.0.0.0/0", "cloud metadata service"),
        ("127.0.0.0/8", "loopback"),
        ("127.5.0.0/16", "loopback"),
        ("126.0.0.0/7", "loopback"),
        ("169.254.0.0/16", "cloud metadata service"),
        ("100.64.0.0/10", "cloud metadata service"),
        ("100.100.0.0/16", "cloud metadata service"),
        ("192.0.0.0/16", "cloud metadata service"),
        ("254.0.0.0/7", "broadcast"),
        ("::/0", "cloud metadata service"),
        ("fc00::/7", "cloud metadata service"),
        ("fe00::/8", "link-local"),
        ("64:ff9b::/96", "cloud metadata service"),
        ("64:ff9b::7f00:0/104", "loopback"),
        ("64:ff9b:1::/64", "cloud metadata service"),
        ("2002::/16", "cloud metadata service"),
        ("2002:7f00::/24", "loopback"),
        ("2001::/32", "cloud metadata service"),
        ("2001::/16", "cloud metadata service"),
        ("10.0.0.0/8", None),
        ("100.64.0.0/16", None),
        ("192.0.2.0/24", None),
        ("2001:db8::/32", None),
        ("fd12::/16", None),
        ("2002:c000:200::/40", None),
        ("64:ff9b::c000:200/120", None),
    ],
)
def test_a_range_is_refused_for_what_it_holds(network: str, reason: str | None) -> None:
    assert special_use_in(ip_network(network)) == reason


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_a_range_with_a_special_address_is_never_clean(value: int, length: int) -> None:
    network = ip_network((value, length), strict=False)
    members = (network[0], network[-1], IPv4Address(value))
    if any(special_use(member) for member in members):
        assert special_use_in(network) is not None


@given(st.integers(0, 2**128 - 1))
def test_every_ipv6_address_is_judged_as_the_range_of_one(value: int) -> None:
    address = IPv6Address(value)
    assert special_use(address) == special_use_in(ip_network(address))
