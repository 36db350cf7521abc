"""What the engine asks for. Frozen values, carried out by `daemon` with `observe` and `program`.

Each command's completion comes back as a plain event: `Program` as Committed or Rejected,
`ReadTable` as TableRead, `Resolve` as Resolved, `Probe` as Probed. A `Note`, a `Watch` and a
`TellAgain` have none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ramfw.core.opening import Opening
from ramfw.core.policy import ScopeName
from ramfw.core.probe import Probe
from ramfw.core.ruleset import Ruleset
from ramfw.core.transaction import Transaction


class Program(NamedTuple):
    """Put the transaction into the kernel, whole. Only one is ever under way.

    When the kernel has decided, whichever way, the DNS answers of `releases` go on that still
    wait: what was refused stays closed for them. The completion comes after that, and with it
    the keeping of books, for which nobody should wait.
    """

    transaction: Transaction
    releases: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadTable:
    """Read the table back; with its grants only where they are needed (they can be many)."""

    with_grants: bool
    not_before: float = 0.0
    known: Ruleset | None = field(default=None, compare=False, repr=False)
    """What the table should hold: what is read and is the same need not be made again."""


@dataclass(frozen=True, slots=True)
class Resolve:
    """Ask all trusted servers for the addresses of the name."""

    name: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Observe these from now on: cgroups and interfaces by pattern, and DNS servers.

    `servers` is None where those of resolv.conf are to be followed.
    """

    cgroups: Mapping[ScopeName, tuple[str, ...]]
    interfaces: tuple[str, ...]
    servers: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Release:
    """Let held DNS answers go on to those who asked."""

    handles: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TellAgain:
    """Try to tell refused clients why where it did not arrive: what kept it may be gone."""


class Fate(NamedTuple):
    """What becomes of a packet that waits: it goes on, and `entry_id` becomes its flow's id.

    None: the flow stays as it is. With `dropped` the packet does not go on; its sender repeats it.
    With `expects` the id is EXPECTED and the flow's: it gets that when its server acknowledges this
    number.
    """

    handle: int
    entry_id: int | None = None
    dropped: bool = False
    expects: int = 0


class Told(NamedTuple):
    """What the sender of a packet that is refused is to be told, in its server's place.

    `packet` is the one that waits under `handle`, from its IP header on; `opening` tells in which
    protocol, `host` what was asked for.
    """

    handle: int
    scope: ScopeName
    packet: bytes
    opening: Opening
    host: str
    message: str


class Decide(NamedTuple):
    """Let held packets go on, or not, and tell why where that can be done."""

    fates: tuple[Fate, ...]
    told: tuple[Told, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """A line for the journal. `level` is one of syslog's words: info, warning, err.

    `fields` go with it where the journal takes them (systemd.journal-fields(7)).
    """

    level: str
    message: str
    fields: tuple[tuple[str, str], ...] = ()


Command = Program | ReadTable | Resolve | Release | Decide | Probe | Watch | Note | TellAgain
