"""A transaction: what is to change in the kernel, as values, all or nothing.

Pure. `wire.nft_writer` writes it as one nft batch, the fake kernel interprets it. Order matters
and is `reconcile`'s business.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, Self

from ramfw.core.places import Place, is_range, network, place
from ramfw.core.ruleset import Chain, Element, NamedSet, Rule

PROTOCOLS = {"tcp": 6, "udp": 17}
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_SERVICE = struct.Struct("!B3xH2x")
SERVICE_SIZE = _SERVICE.size


class GrantKey(NamedTuple):
    """What a grant opens: an address or range, a protocol and a port, in one of the maps.

    `packed` is the element's key as the kernel has it: the address, and `SERVICE_SIZE` bytes of
    protocol and port; for a range one byte more, the length of its prefix. It is bytes because
    there may be 100,000 of them, and each is looked up while a DNS answer waits.
    """

    map: str
    packed: bytes

    @classmethod
    def of(cls, name: str, network: IPv4Network | IPv6Network, protocol: str, port: int) -> Self:
        """The key of one element of the map."""
        return cls(name, packed_key(place(network), packed_service(protocol, port)))

    @property
    def is_range(self) -> bool:
        return is_range(self.packed)

    @property
    def network(self) -> IPv4Network | IPv6Network:
        return network(place_of(self.packed))

    @property
    def protocol(self) -> str:
        return _NAMES[self.packed[_service_at(self.packed)]]

    @property
    def port(self) -> int:
        return int(_SERVICE.unpack_from(self.packed, _service_at(self.packed))[1])


def packed_service(protocol: str, port: int) -> bytes:
    """Protocol and port as parts of a key: each fills whole registers of four bytes."""
    return _SERVICE.pack(PROTOCOLS[protocol], port)


def packed_key(where: Place, service: bytes) -> bytes:
    """The key of a place and a service."""
    return where[:-1] + service + where[-1:] if is_range(where) else where + service


def place_of(packed: bytes) -> Place:
    """The place in a key."""
    at = _service_at(packed)
    return packed[:at] + packed[at + SERVICE_SIZE :]


def _service_at(packed: bytes) -> int:
    return len(packed) // 2 * 2 - SERVICE_SIZE


@dataclass(frozen=True, slots=True)
class AddTable:
    """Make the table, if it is not there; `locked`: owned by the socket that does so."""

    locked: bool = False


@dataclass(frozen=True, slots=True)
class DeleteTable:
    """Remove the table and all in it."""


@dataclass(frozen=True, slots=True)
class AddCounter:
    """Make a named counter, at zero; one that is there keeps what it counted."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteCounter:
    """Remove a counter that no rule names."""

    name: str


@dataclass(frozen=True, slots=True)
class AddChain:
    """Make a chain, without its rules."""

    chain: Chain


@dataclass(frozen=True, slots=True)
class FlushChain:
    """Remove all rules of a chain."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteChain:
    """Remove a chain that has no rules and that nothing points to."""

    name: str


@dataclass(frozen=True, slots=True)
class AddRule:
    """Append a rule to a chain."""

    chain: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class AddSet:
    """Make a set, without its elements."""

    named: NamedSet


@dataclass(frozen=True, slots=True)
class DeleteSet:
    """Remove a set, or a map, that no rule names, with its elements."""

    name: str


@dataclass(frozen=True, slots=True)
class FlushSet:
    """Remove all elements of a set."""

    name: str


@dataclass(frozen=True, slots=True)
class AddElements:
    """Add elements to a set of known contents."""

    set: str
    elements: frozenset[Element]


@dataclass(frozen=True, slots=True)
class DeleteElements:
    """Remove elements that are in the set."""

    set: str
    elements: frozenset[Element]


class AddGrant(NamedTuple):
    """Add an element `key : ID` that lives for `timeout` seconds (whole, > 0)."""

    key: GrantKey
    entry_id: int
    timeout: int


class DeleteGrant(NamedTuple):
    """Remove an element of a map, whatever its verdict; it must be there."""

    key: GrantKey


Operation = (
    AddTable
    | DeleteTable
    | AddCounter
    | DeleteCounter
    | AddChain
    | FlushChain
    | DeleteChain
    | AddRule
    | AddSet
    | DeleteSet
    | FlushSet
    | AddElements
    | DeleteElements
    | AddGrant
    | DeleteGrant
)
Transaction = tuple[Operation, ...]
