"""What the daemon needs of the kernel's nftables; `nft` is the real one, `fake` the tests'."""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from typing import Protocol

from ramfw.core.ruleset import Ruleset
from ramfw.core.tablestate import Counts, TableState
from ramfw.core.transaction import Transaction
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm


class Kernel(Protocol):
    """One table in one network namespace. Methods block, and are called from one thread."""

    def run(self, transaction: Transaction) -> None:
        """Commit the transaction whole, or raise KernelError and leave everything as it was."""

    def read(self, *, with_grants: bool, known: Ruleset | None = None) -> TableState | None:
        """What the table holds; None where there is no table. Raises KernelError.

        What is read and equals something of `known` is that value itself: no second one is made.
        """

    def watch_form(self) -> tuple[WatchForm, str]:
        """How DNS answers can be shown, and what hinders a better way. Changes nothing."""

    def turning(self) -> tuple[Turning, str]:
        """Which refused connections can be turned, and what hinders more. Changes nothing."""

    def matches_cgroups(self) -> bool:
        """Whether a rule can match a socket by its cgroup. Changes nothing."""

    def compares_names(self) -> bool:
        """Whether a rule can look a part of the packet up in a set. Changes nothing."""

    def lock_table(self, inherited: socket | None) -> str:
        """From now on own the table, so that nobody else can change it; or why that cannot be.

        `inherited` is the socket by which an earlier daemon owned it. Raises KernelError.
        """

    def shared_socket(self) -> socket | None:
        """The socket that owns the table, for batches of one's own; None where none does."""

    def tell_ports(self, tell: Callable[[frozenset[int]], None]) -> None:
        """Have other processes that change the table for ramfw told of.

        `tell` is called from the kernel's thread with the ports of their netlink sockets, before
        they change anything, and with none when they have ended.
        """

    def forget_unheard(self) -> bool:
        """Turn connections again where they did not arrive; whether there was such a place.

        Raises KernelError.
        """

    def counts(self) -> Counts:
        """All counters, zero where the table is missing. Raises KernelError."""
