"""Which addresses a name may never lead to, and which IPv4 address an IPv6 one carries.

Pure. The table is written out and does not lean on `ipaddress.is_global`, whose answer changes
with Python's version. Sources: the IANA special-purpose registries (RFC 6890, RFC 8190 and what
was registered since), RFC 5771 and RFC 4291 for multicast, and the clouds' own pages for metadata.

Not in the table, on purpose: RFC 1918, CGNAT and unique local addresses, where on-prem registries
are; documentation and benchmarking ranges, which laboratories and some tunnels use and where
nothing of a machine's own answers; AS112 and AMT, which are globally reachable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA = "cloud metadata service"

# Ordered: the first that overlaps gives the reason, so a single address goes before its range.
_SPECIAL: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(prefix), reason)
    for prefix, reason in (
        ("169.254.169.254/32", METADATA),  # AWS, Google, Azure, Oracle, OpenStack and others
        ("169.254.170.2/32", METADATA),  # AWS ECS task credentials
        ("169.254.170.23/32", METADATA),  # AWS EKS pod identity
        ("168.63.129.16/32", METADATA),  # Azure wire server
        ("100.100.100.200/32", METADATA),  # Alibaba
        ("192.0.0.192/32", METADATA),  # Oracle Cloud Classic
        ("0.0.0.0/8", "unspecified"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("192.0.0.0/24", "IETF protocol assignment"),
        ("192.88.99.0/24", "6to4 relay"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("fd00:ec2::254/128", METADATA),  # AWS
        ("fd00:ec2::23/128", METADATA),  # AWS EKS pod identity
        ("fd20:ce::254/128", METADATA),  # Google
        ("fd00:42::42/128", METADATA),  # Scaleway
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fe80::/10", "link-local"),
        ("ff00::/8", "multicast"),
        ("100::/64", "discard"),
        ("5f00::/16", "segment routing"),
    )
)


@dataclass(frozen=True, slots=True)
class _Carrier:
    """An IPv6 range whose addresses carry IPv4 ones: where its four octets lie."""

    prefix: IPv6Network
    octets: tuple[int, int, int, int]
    inverted: bool = False

    def inside(self, network: IPv6Network) -> IPv4Network | None:
        """The IPv4 addresses that a range carries; None where this carrier has no part in it."""
        if not network.overlaps(self.prefix):
            return None
        packed = network.network_address.packed
        value, known = 0, 0
        for octet in self.octets:
            value = value << 8 | packed[octet] ^ (0xFF if self.inverted else 0)
            known += min(max(network.prefixlen - 8 * octet, 0), 8)
        return IPv4Network((value, known), strict=False)


# ISATAP (RFC 5214) is left out: its form is that of an interface identifier, which any range
# contains and which means something only inside a site's own tunnel.
_CARRIERS: tuple[_Carrier, ...] = (
    _Carrier(IPv6Network("::/96"), (12, 13, 14, 15)),  # IPv4-compatible, RFC 4291
    _Carrier(IPv6Network("::ffff:0:0/96"), (12, 13, 14, 15)),  # IPv4-mapped, RFC 4291
    _Carrier(IPv6Network("::ffff:0:0:0/96"), (12, 13, 14, 15)),  # IPv4-translated, RFC 2765
    _Carrier(IPv6Network("64:ff9b::/96"), (12, 13, 14, 15)),  # NAT64, RFC 6052
    _Carrier(IPv6Network("2002::/16"), (2, 3, 4, 5)),  # 6to4, RFC 3056
    _Carrier(IPv6Network("2001::/32"), (12, 13, 14, 15), inverted=True),  # Teredo client, RFC 4380
    _Carrier(IPv6Network("2001::/32"), (4, 5, 6, 7)),  # Teredo server
)
# A site's own NAT64 (RFC 8215) may use any prefix length of RFC 6052 in here; the address does not
# tell which, so each reading is judged, but not one that only finds the zeroes of another.
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_LOCAL_NAT64_CARRIERS: tuple[_Carrier, ...] = tuple(
    _Carrier(_LOCAL_NAT64, octets)
    for octets in ((12, 13, 14, 15), (6, 7, 9, 10), (7, 9, 10, 11), (9, 10, 11, 12))
)
_THIS_NETWORK = IPv4Network("0.0.0.0/8")


def _first_octets(networks: Iterable[Network]) -> frozenset[int]:
    return frozenset(
        octet
        for network in networks
        for octet in range(
            network.network_address.packed[0], network.broadcast_address.packed[0] + 1
        )
    )


# Most addresses begin with none of these, and a DNS answer waits while its addresses are judged.
_FIRST_OCTETS = {
    4: _first_octets(network for network, _ in _SPECIAL if network.version == 4),  # noqa: PLR2004
    6: _first_octets(
        [
            *(network for network, _ in _SPECIAL if network.version == 6),  # noqa: PLR2004
            *(carrier.prefix for carrier in (*_CARRIERS, *_LOCAL_NAT64_CARRIERS)),
        ]
    ),
}

_FIRST_OF_PACKED = {4: _FIRST_OCTETS[4], 16: _FIRST_OCTETS[6]}


def embedded_ipv4(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one carries: mapped, NAT64, 6to4, Teredo and their like.

    Of Teredo it is the client's. None for IPv4, and for IPv6 that carries none (`::` and `::1`
    among them).
    """
    if isinstance(address, IPv4Address) or int(address) <= 1:
        return None
    inside = _carried(IPv6Network(int(address)))
    return inside[0].network_address if inside else None


def special_use(address: Address) -> str | None:
    """Why an address may never be opened by a name, in words ("loopback"); None if it may.

    An IPv6 address that carries an IPv4 one is judged by the IPv4 inside too.
    """
    number = int(address)
    if isinstance(address, IPv4Address):
        ordinary = number >> 24 not in _FIRST_OCTETS[4]
        return None if ordinary else special_use_in(IPv4Network(number))
    if number >> 120 not in _FIRST_OCTETS[6]:
        return None
    return special_use_in(IPv6Network(int(address)))


def may_open(packed: bytes) -> bool:
    """Whether a name may open this packed address: it has no special use."""
    return packed[0] not in _FIRST_OF_PACKED[len(packed)] or special_use(ip_address(packed)) is None


def special_use_in(network: Network) -> str | None:
    """Why a range may not be permitted: the special use that it holds or overlaps; None if none."""
    for special, reason in _SPECIAL:
        if special.version == network.version and special.overlaps(network):
            return reason
    if isinstance(network, IPv6Network):
        for inside in _carried(network):
            reason_inside = special_use_in(inside)
            if reason_inside:
                return reason_inside
    return None


def _carried(network: IPv6Network) -> list[IPv4Network]:
    readings = [inside for carrier in _CARRIERS if (inside := carrier.inside(network)) is not None]
    local = [
        inside
        for carrier in _LOCAL_NAT64_CARRIERS
        if (inside := carrier.inside(network)) is not None
    ]
    plausible = [inside for inside in local if not inside.subnet_of(_THIS_NETWORK)]
    return readings + (plausible or local)
