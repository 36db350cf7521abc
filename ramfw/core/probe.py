"""One question to a host on which nothing is known, and what came of it, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple

from ramfw.core.registry_check import Evidence


class Place(NamedTuple):
    """Where a connection goes, and the name in its first bytes; empty where none was.

    `address` is packed.
    """

    name: str
    address: bytes
    port: int

    @property
    def host(self) -> str:
        """The name, or the address where there is none."""
        return self.name or str(ip_address(self.address))

    def __str__(self) -> str:
        address = ip_address(self.address)
        shown = f"[{address}]" if ":" in str(address) else str(address)
        where = f"{shown}:{self.port}"
        return f"{self.name} at {where}" if self.name else where


class Outcome(StrEnum):
    """What came of a question."""

    REGISTRY = "registry"
    OTHER = "other"
    """It answered, and not as a registry."""
    SILENT = "silent"
    """It gave no answer that could be read, or none in time."""
    UNASKED = "unasked"
    """There was nobody to ask it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A registry that was found. `everywhere`: its name is refused at every address and port."""

    place: Place
    evidence: Evidence
    when: float
    everywhere: bool = False


class Probe(NamedTuple):
    """Ask the host at this place, once, whether it is a registry."""

    place: Place


class Probed(NamedTuple):
    """What came of it; `problem` tells why it was not asked."""

    place: Place
    outcome: Outcome
    evidence: Evidence | None = None
    problem: str = ""


class Recalled(NamedTuple):
    """The registries that an earlier daemon has found, the latest first."""

    found: tuple[Found, ...]
