"""Places: an address or a range as bytes, for what is kept by the hundred thousand.

Pure. An address is its 4 or 16 bytes, in network order; a range is its first address and one byte
more, the length of its prefix.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Place = bytes


def place(what: IPv4Address | IPv6Address | IPv4Network | IPv6Network) -> Place:
    """The address or range as bytes; a range of one address is that address."""
    if isinstance(what, IPv4Address | IPv6Address):
        return what.packed
    first = what.network_address.packed
    return first if what.prefixlen == what.max_prefixlen else first + bytes((what.prefixlen,))


def is_range(where: Place) -> bool:
    """Whether it is more than one address."""
    return len(where) % 2 == 1


def network(where: Place) -> IPv4Network | IPv6Network:
    """The place as a network; raises ValueError for bytes that are none."""
    if not is_range(where):
        return ip_network(where)
    return ip_network((where[:-1], where[-1]))
