"""A transaction: what is to change in the kernel, as values, all or nothing.

Pure. `wire.nft_writer` writes it as one nft batch, the fake kernel interprets it. Order matters
and is `reconcile`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from ramfw.core.ruleset import Chain, Element, NamedSet, Rule


@dataclass(frozen=True, slots=True)
class GrantKey:
    """What a grant opens: an address or range, a protocol and a port, in one of the maps."""

    map: str
    network: IPv4Network | IPv6Network
    protocol: str
    port: int
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # A key is looked up several times while a DNS answer waits, and a network's hash is slow.
        number = int(self.network.network_address) + self.network.prefixlen
        object.__setattr__(self, "_hash", hash((self.map, number, self.protocol, self.port)))

    def __hash__(self) -> int:
        return self._hash


@dataclass(frozen=True, slots=True)
class AddTable:
    """Make the table, if it is not there."""


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


@dataclass(frozen=True, slots=True)
class AddGrant:
    """Add an element `key : ID` that lives for `timeout` seconds (whole, > 0)."""

    key: GrantKey
    entry_id: int
    timeout: int


@dataclass(frozen=True, slots=True)
class DeleteGrant:
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
