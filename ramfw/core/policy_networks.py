"""The `address` of an entry: an address or a range, without a name, that root permits.

Pure. Each wrong form has the words that mend it.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network

from ramfw.core import addresses, fqdn
from ramfw.core.policy import Network
from ramfw.core.policy_tables import Table, shown

_MAPPED = IPv6Network("::ffff:0:0/96")


def read_network(table: Table, text: str) -> Network | None:
    """The range or single address in an entry's `address`; None if the report says what is wrong.

    A single loopback address is permitted: a registry on this machine is the administrator's
    word. No other special use is, nor a range that holds one.
    """
    network = _parsed_network(table, text)
    if network is None:
        return None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        inside = IPv4Network((network.network_address.packed[12:], network.prefixlen - 96))
        message = "this is an IPv4 address in IPv6 form; the kernel sends it as IPv4"
        table.error("address", message, f'address = "{written(inside)}"')
        return None
    reason = addresses.special_use_in(network)
    if reason is None or (network.num_addresses == 1 and network.is_loopback):
        return network
    if network.num_addresses == 1:
        table.error("address", f"`{written(network)}` is never permitted: {reason}")
    else:
        message = f"`{network}` holds addresses that are never permitted: {reason}"
        hint = "write smaller ranges that leave them out"
        if network.is_loopback:
            hint = f'address = "{network.network_address + 1}"'
        table.error("address", message, hint)
    return None


def _parsed_network(table: Table, text: str) -> Network | None:
    address, slash, length = text.partition("/")
    if "%" in text:
        table.error("address", "an address with an interface (`%`) is link-local: never permitted")
        return None
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        message, hint = _no_address(text)
        table.error("address", message, hint)
        return None
    if slash and not (length.isascii() and length.isdigit()):
        message = f"`{shown(text)}`: a range is written with the length of its prefix"
        table.error("address", message, f'address = "{network}"')
        return None
    if (
        slash
        and network.num_addresses > 1
        and ip_network(address).network_address != network.network_address
    ):
        message = f"`{text}` has bits set below its prefix"
        hint = f'address = "{network}" for the range, address = "{address}" for the one address'
        table.error("address", message, hint)
        return None
    return network


def _no_address(text: str) -> tuple[str, str]:
    """What is wrong with a text that is no address, and what to write."""
    host, _, port = text.rpartition(":")
    if port.isascii() and port.isdigit():
        try:
            network = ip_network(host.strip("[]"))
        except ValueError:
            pass
        else:
            hint = f'address = "{written(network)}" and ports = [{port}]'
            return "the port does not belong in `address`", hint
    try:
        return f"`{shown(text)}` is a name", f'host = "{fqdn.canonical(text)}"'
    except ValueError:
        return f"`{shown(text)}` is not an address", 'address = "192.0.2.10" or "192.0.2.0/24"'


def written(network: Network) -> str:
    """A range as people write it: a single address without its prefix."""
    return str(network.network_address) if network.num_addresses == 1 else str(network)
