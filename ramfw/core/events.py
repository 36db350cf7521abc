"""What the engine is told. Frozen values, made by `observe` and by completions of `program`.

An event says what is, never what to do about it. Sets are whole (what there is now), not
differences, so that a lost event is mended by the next one.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from ramfw.core.flows import Flags
from ramfw.core.lease_text import LeasesRecalled
from ramfw.core.policy import Policy, ScopeName
from ramfw.core.probe import Probed, Recalled
from ramfw.core.tablestate import HeldGrant, TableState
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class PolicyLoaded:
    """A valid policy was read, at start or on reload.

    `held_ids` are the entry ids that conntrack's marks still hold: they are not given anew.
    """

    policy: Policy
    held_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class PolicyRefused:
    """A policy was read that cannot be used: the last good one stays."""

    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """One address that a trusted server gave for the name that was asked."""

    address: Address
    ttl: int
    server: str


@dataclass(frozen=True, slots=True)
class ServerReply:
    """How one server took the question: `ok`, or a short word for what went wrong."""

    server: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """All servers have answered or failed for one name; their addresses, united.

    `answers` is empty where no server gave an address that may be used.
    """

    name: str
    answers: tuple[Answer, ...]
    replies: tuple[ServerReply, ...]


class HeldAnswer(NamedTuple):
    """A DNS answer on its way to somebody in a scope, who asked a trusted server for the name.

    It waits in the kernel under `handle` until it is released (0: only a copy, nothing waits).
    `addresses` are packed; `ttl` is in seconds.
    """

    handle: int
    name: str
    addresses: tuple[bytes, ...]
    ttl: int
    server: str


class AnswersHeld(NamedTuple):
    """Answers that arrived together."""

    answers: tuple[HeldAnswer, ...]


class Copied(NamedTuple):
    """What a server said on a flow whose first bytes are awaited; `opens`: it was a SYN-ACK.

    `number` is the packet's own sequence number.
    """

    key: Hashable
    acknowledged: int
    opens: bool
    number: int = 0


class HeldSegment(NamedTuple):
    """A packet with data of a flow whose first bytes are awaited; it waits under `handle`.

    `key` is the flow's, the same in both directions; `destination` is the packed address, `packet`
    the whole of it, from its IP header on.
    """

    handle: int
    key: Hashable
    scope: ScopeName
    destination: bytes
    port: int
    sequence: int
    payload: bytes
    flags: Flags
    packet: bytes = b""


class OpeningsHeld(NamedTuple):
    """Packets that arrived together, and what servers had said before; `lost`: not all of it."""

    segments: tuple[HeldSegment, ...]
    copies: tuple[Copied, ...]
    lost: bool = False


@dataclass(frozen=True, slots=True)
class WatchChanged:
    """How DNS answers can be shown to ramfw on this machine, and what hinders a better way.

    `names` tells that first bytes can be held too, `tells_answers` that answers which open nothing
    can be copied instead of held, and `tells_problem` why not.
    """

    form: WatchForm
    problem: str = ""
    names: bool = False
    tells_answers: bool = False
    tells_problem: str = ""


@dataclass(frozen=True, slots=True)
class ServersChanged:
    """The addresses of the trusted DNS servers, as they are now.

    `upstream` are the servers of the local stub: containers are given them in its place. `former`
    were taken out a moment ago: programs that have not read the file again still ask them.
    """

    servers: tuple[Address, ...]
    problem: str = ""
    upstream: tuple[Address, ...] = ()
    former: tuple[Address, ...] = ()

    @property
    def trusted(self) -> tuple[Address, ...]:
        """All servers whose answers count."""
        return tuple(dict.fromkeys((*self.servers, *self.upstream, *self.former)))


@dataclass(frozen=True, slots=True)
class LinksChanged:
    """The network interfaces that matter, as they are now.

    `bridges` carry containers, `uplinks` fit a pattern of the policy but lead out (a route with
    a gateway, a port that is no container's): they are no container bridges. `unfollowed`
    (macvlan, ipvlan) reach the wire without passing this host's hooks.
    """

    bridges: frozenset[str]
    uplinks: frozenset[str]
    unfollowed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup of a scope; `path` is below the v2 root, without a leading slash."""

    path: str
    scope: ScopeName

    @property
    def level(self) -> int:
        return self.path.count("/") + 1


@dataclass(frozen=True, slots=True)
class CgroupsChanged:
    """The cgroups that fit the policy's patterns, as they are now.

    Inodes are part of it: a cgroup that is made again under its old path is another one.
    """

    cgroups: frozenset[tuple[Cgroup, int]]
    problem: str = ""
    nft_prefix: str = ""
    """What nft must be given before each path: it looks below /sys/fs/cgroup only."""


class Reason(StrEnum):
    """Why a connection was refused."""

    NOT_PERMITTED = "not permitted"
    QUIC = "UDP 443 is never permitted"
    NOT_A_BEGINNING = "neither a new connection nor a permitted name in its first bytes"
    REVOKED = "what permitted it was taken out of the policy"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connection that was refused, or in audit mode would have been.

    `scope` is None where it had been permitted before. `source` tells a container; `uid` whose
    socket it was and `cgroup` in which cgroup, None where the kernel does not know, or no longer.
    `names` are those for which a trusted
    server gave this address lately, to this client if that is known; they may be several. `after`
    is the permitted name that this client had asked for some seconds before, if it had.
    """

    scope: ScopeName | None
    reason: Reason
    audited: bool
    source: Address
    source_port: int
    destination: Address
    port: int
    protocol: str
    uid: int | None = None
    cgroup: int | None = None
    names: tuple[str, ...] = ()
    after: str = ""
    detail: str = ""

    @property
    def flow(self) -> bytes:
        """Its flow's key, as a `HeldSegment` has it."""
        ports = self.source_port.to_bytes(2, "big") + self.port.to_bytes(2, "big")
        return self.source.packed + self.destination.packed + ports

    @property
    def why(self) -> str:
        """What was wrong with its first bytes, if they were read, or the reason."""
        return self.detail or str(self.reason)


@dataclass(frozen=True, slots=True)
class RefusalsSeen:
    """Refusals that the kernel has shown together."""

    refusals: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class TurningChanged:
    """Which refused connections this kernel can turn to the explainer, and what hinders more."""

    turning: Turning
    problem: str = ""


@dataclass(frozen=True, slots=True)
class TableRead:
    """What the kernel holds of ramfw's table; None where there is no table."""

    state: TableState | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The transaction under way is in the kernel, whole."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The transaction under way was refused, whole; nothing of it is in the kernel."""

    reason: str


@dataclass(frozen=True, slots=True)
class NoCgroupMatch:
    """This kernel cannot tell sockets by their cgroup, so it cannot tell engines from the host."""


@dataclass(frozen=True, slots=True)
class TableTouched:
    """Somebody else committed a change of the table; no `program` where it is not known whether.

    `pid` is as the kernel counts, outside of any PID namespace.
    """

    pid: int
    program: str


@dataclass(frozen=True, slots=True)
class OtherRulesChanged:
    """Somebody else committed a change of rules that are not ramfw's."""


@dataclass(frozen=True, slots=True)
class CanaryReported:
    """The filter was tried from inside the engines' slice: whether it holds, and what was seen."""

    holds: bool
    detail: str


class ElementsSeen(NamedTuple):
    """A piece of a map, as the kernel holds it (the slow audit): keys, and what they open."""

    map: str
    elements: tuple[tuple[bytes | None, HeldGrant], ...]


class MapAudited(NamedTuple):
    """All pieces of the map have been seen."""

    map: str


@dataclass(frozen=True, slots=True)
class Tick:
    """A deadline passed, and nothing else happened."""


Event = (
    PolicyLoaded
    | PolicyRefused
    | Resolved
    | AnswersHeld
    | OpeningsHeld
    | Probed
    | Recalled
    | LeasesRecalled
    | WatchChanged
    | ServersChanged
    | LinksChanged
    | CgroupsChanged
    | RefusalsSeen
    | TurningChanged
    | TableRead
    | Committed
    | Rejected
    | CanaryReported
    | TableTouched
    | OtherRulesChanged
    | NoCgroupMatch
    | ElementsSeen
    | MapAudited
    | Tick
)
