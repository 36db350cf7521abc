"""ramfw's table as frozen values: what is meant, and what was read back, in the same terms.

Pure. `compiler` makes a `Ruleset` from a policy, `wire.nft_writer` writes it, `wire.nft_reader`
reads nft's listing back into it, and `reconcile` compares two of them by value. Only what ramfw
uses of the nftables grammar is here (nft(8), sections EXPRESSIONS and STATEMENTS).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import TypeVar

TABLE = "ramfw"
T = TypeVar("T")


class Field(StrEnum):
    """What a rule reads of a packet, in nft's words."""

    IIFNAME = "iifname"
    OIFNAME = "oifname"
    L4PROTO = "meta l4proto"
    CT_DIRECTION = "ct direction"
    CT_STATE = "ct state"
    CT_MARK = "ct mark"
    CT_STATUS = "ct status"
    CT_ID = "ct id"
    CT_ORIGINAL_IP_DADDR = "ct original ip daddr"
    CT_ORIGINAL_IP6_DADDR = "ct original ip6 daddr"
    CT_ORIGINAL_DPORT = "ct original proto-dst"
    META_MARK = "meta mark"
    PRIORITY = "meta priority"
    FIB_TYPE = "fib daddr type"
    FIB_OIFNAME = "fib daddr oifname"
    IP_HDRLENGTH = "ip hdrlength"
    IP_LENGTH = "ip length"
    IP6_LENGTH = "ip6 length"
    IP6_NEXTHDR = "ip6 nexthdr"
    TCP_DOFF = "tcp doff"
    IP_SADDR = "ip saddr"
    IP6_SADDR = "ip6 saddr"
    IP_DADDR = "ip daddr"
    IP6_DADDR = "ip6 daddr"
    TCP_SPORT = "tcp sport"
    TCP_SEQUENCE = "tcp sequence"
    TCP_ACKSEQ = "tcp ackseq"
    UDP_SPORT = "udp sport"
    TCP_DPORT = "tcp dport"
    UDP_DPORT = "udp dport"
    TH_DPORT = "th dport"
    TH_SPORT = "th sport"
    TCP_FLAGS = "tcp flags"


@dataclass(frozen=True, slots=True)
class Masked:
    """Some bits of a field."""

    field: Field
    mask: int


@dataclass(frozen=True, slots=True)
class SocketCgroup:
    """The id of the ancestor, at `level`, of the cgroup of the packet's socket."""

    level: int


@dataclass(frozen=True, slots=True)
class RawPayload:
    """So many bits of the packet, from one behind the start of its transport header on.

    With a mask, only some of them. It is compared with sets of the same `kind` (nft(8), RAW
    PAYLOAD EXPRESSION); nft 1.1 lists a comparison with one number under a mask as another.
    """

    offset: int
    length: int
    mask: int = 0

    @property
    def kind(self) -> str:
        """The key of a set that holds such bits."""
        return f"@th,{self.offset},{self.length}"


Expression = Field | Masked | SocketCgroup | RawPayload


@dataclass(frozen=True, slots=True)
class SetRef:
    """A set of the table, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Match:
    """Go on with the rule only where the comparison holds; words are any of, as a set of bits."""

    left: Expression
    right: SetRef | int | str | frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class FlagsMatch:
    """TCP flags: of those in `mask`, exactly those in `value` are set (or not so, negated)."""

    mask: frozenset[str]
    value: frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Tag:
    """Write what a map holds for the fields together into the packet's priority, if it does."""

    key: tuple[Field | Masked, ...]
    map: str


@dataclass(frozen=True, slots=True)
class Untag:
    """Set the packet's priority to none."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Take the verdict that a map holds for the expression."""

    map: str
    left: Expression = Field.PRIORITY


@dataclass(frozen=True, slots=True)
class Count:
    """Count the packet in a named counter."""

    counter: str


@dataclass(frozen=True, slots=True)
class SetMark:
    """Set the ct mark to (mark & kept) | value; `kept` and `value` share no bit."""

    kept: int
    value: int


@dataclass(frozen=True, slots=True)
class SetPacketMark:
    """Set the packet's own mark to (mark & kept) | value; `kept` and `value` share no bit."""

    kept: int
    value: int


@dataclass(frozen=True, slots=True)
class Write:
    """Write what one field says into another, or into the packet's priority; checksums follow."""

    field: Field
    source: Field


ACKNOWLEDGED = Write(Field.PRIORITY, Field.TCP_ACKSEQ)
"""What a segment acknowledges, in the packet's priority, with its bytes in network order."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the packet: accept, drop, return, or jump and goto to a chain."""

    kind: str
    chain: str = ""


@dataclass(frozen=True, slots=True)
class Reject:
    """Refuse and tell the sender at once: `tcp reset` or `icmpx admin-prohibited`."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Queue:
    """Hold the packet for a listener; without one it passes (`bypass`) or is dropped.

    Native, or the xt NFQUEUE target. Some listings tell no more of the target than that it is
    there: that is number 0, and equals every other.
    """

    number: int
    is_native: bool
    bypass: bool = True

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Queue) or self.is_native != other.is_native:
            return False
        untold = not self.is_native and 0 in (self.number, other.number)
        return untold or (self.number, self.bypass) == (other.number, other.bypass)

    def __hash__(self) -> int:
        return hash(self.is_native)


UNTOLD = Queue(0, is_native=False)


@dataclass(frozen=True, slots=True)
class InSet:
    """Go on only where the set holds (or not, negated) the fields together."""

    key: tuple[Field, ...]
    set: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Remember:
    """Put the fields together into a set, for the set's own time."""

    key: tuple[Field, ...]
    set: str


@dataclass(frozen=True, slots=True)
class RememberMark:
    """Put the fields into a map, for the map's own time, with some bits of the packet's mark."""

    key: tuple[Field, ...]
    map: str
    mask: int


@dataclass(frozen=True, slots=True)
class MarkFrom:
    """Set the packet's mark to what a map holds for the fields together, if it does."""

    key: tuple[Field, ...]
    map: str


@dataclass(frozen=True, slots=True)
class Log:
    """Copy the packet's first `length` bytes to NFLOG's group, at once; `prefix` is one word."""

    group: int
    length: int
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Limit:
    """Go on only so often."""

    per_second: int
    burst: int


@dataclass(frozen=True, slots=True)
class Redirect:
    """Turn the connection to a port of this host (in a nat chain)."""

    port: int


Statement = (
    Match
    | FlagsMatch
    | Tag
    | Untag
    | Dispatch
    | Count
    | SetMark
    | SetPacketMark
    | Write
    | Verdict
    | Reject
    | Queue
    | Log
    | Limit
    | Redirect
    | InSet
    | Remember
    | RememberMark
    | MarkFrom
)
Rule = tuple[Statement, ...]

ACCEPT = Verdict("accept")
DROP = Verdict("drop")


def jump(chain: str) -> Verdict:
    """Go to the chain and come back."""
    return Verdict("jump", chain)


def goto(chain: str) -> Verdict:
    """Go to the chain and do not come back."""
    return Verdict("goto", chain)


@dataclass(frozen=True, slots=True)
class Hook:
    """Where the kernel calls a base chain; its policy is always accept: verdicts refuse."""

    hook: str
    priority: int
    kind: str = "filter"
    """Or `nat`, whose chains see only the first packet of a connection."""


@dataclass(frozen=True, slots=True)
class Chain:
    """A base chain where it has a hook, else one that rules go to. ramfw writes no comments."""

    name: str
    rules: tuple[Rule, ...]
    hook: Hook | None = None
    comment: str = ""
    policy: str = "accept"


@dataclass(frozen=True, slots=True)
class CgroupElement:
    """A cgroup in a set: nft takes its path, the kernel keeps its inode number.

    A listing tells only the path, so zeros stand for what was read.
    """

    path: str
    level: int = 0
    inode: int = 0


@dataclass(frozen=True, slots=True)
class Jump:
    """An element of a map to verdicts: for this value, go to the chain and come back.

    The value is an id in a packet's priority, or a mark.
    """

    value: int
    chain: str
    is_mark: bool = False


@dataclass(frozen=True, slots=True)
class NumberedElement:
    """An entry's id in a set; its comment tells whose it is."""

    entry_id: int
    comment: str


@dataclass(frozen=True, slots=True)
class MarkedId:
    """An element of a map from marks to ids: the id that the mark stands for."""

    mark: int
    entry_id: int


Element = str | int | CgroupElement | Jump | NumberedElement | MarkedId | IPv4Address | IPv6Address

IDS = "classid"
"""An id of an entry, in nft's word for 32 bits of a packet's priority, as a key or as data."""
VERDICTS = "verdict"
"""The data of a map to verdicts."""
MARKS = "meta mark"
"""The data of a map to packets' marks, whose key is fields."""


@dataclass(frozen=True, slots=True)
class NamedSet:
    """A set, or with `data` a map to ids or verdicts.

    `key` are types, or fields where a part of it has no type of its own, or the `kind` of raw bits.

    `elements` is None where the elements are grants, which come and go beside the rules.
    """

    name: str
    key: tuple[str, ...]
    flags: frozenset[str] = frozenset()
    data: str = ""
    counted: bool = False
    lifetime: int = 0
    """Seconds that what rules put into the set stays; then `size` bounds their number."""
    size: int = 0
    elements: frozenset[Element] | None = None

    @property
    def holds_grants(self) -> bool:
        """Whether its elements are grants: ids for a time."""
        return self.data == IDS and "timeout" in self.flags

    @property
    def is_typed(self) -> bool:
        """Whether its key is given as types."""
        return self.key[0].isidentifier()

    @property
    def shape(self) -> NamedSet:
        """The set without its contents: what cannot be changed while it exists."""
        return replace(self, elements=None)


@dataclass(frozen=True, slots=True)
class Ruleset:
    """All of ramfw's table but its grants. Chains, sets and counters are unique by name.

    `foreign` names what was read and has no other place here (`flags dormant`, `quota x`).
    """

    chains: tuple[Chain, ...]
    sets: tuple[NamedSet, ...]
    counters: frozenset[str]
    foreign: frozenset[str] = frozenset()

    def chain_names(self) -> Iterator[str]:
        """The names of the chains, in order."""
        return (chain.name for chain in self.chains)

    def sharing(self, other: Ruleset) -> Ruleset:
        """The same, made of the other's chains and sets where those are equal.

        So 10,000 of them are held once where two rulesets hardly differ.
        """
        chains = {chain.name: chain for chain in other.chains}
        sets = {named.name: named for named in other.sets}
        return replace(
            self,
            chains=tuple(_either(chains.get(chain.name), chain) for chain in self.chains),
            sets=tuple(_either(sets.get(named.name), named) for named in self.sets),
        )

    def as_read(self) -> Ruleset:
        """The same, in the terms a listing can tell: by name, no inodes, no grants."""
        return Ruleset(
            chains=tuple(sorted(self.chains, key=lambda chain: chain.name)),
            sets=tuple(_as_read(s) for s in sorted(self.sets, key=lambda s: s.name)),
            counters=self.counters,
            foreign=self.foreign,
        )


def _either(held: T | None, meant: T) -> T:
    return held if held is not None and held == meant else meant


def _as_read(named: NamedSet) -> NamedSet:
    if named.elements is None:
        return named
    return replace(named, elements=frozenset(_without_inode(named.elements)))


def _without_inode(elements: Iterable[Element]) -> Iterator[Element]:
    for element in elements:
        yield CgroupElement(element.path) if isinstance(element, CgroupElement) else element
