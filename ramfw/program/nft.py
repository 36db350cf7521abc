"""The kernel through libnftables, by Debian's binding of it.

libnftables keeps state in its context and may end the process on a netlink surprise, so each
context lives in one thread and nothing forks while one is open. A killed daemon leaves its rules.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from socket import socket
from typing import Any

from ramfw.core.permit_rules import CONNECTIONS
from ramfw.core.ruleset import Match, NamedSet, Ruleset, SetRef
from ramfw.core.tablestate import Counts, HeldGrant, TableState
from ramfw.core.transaction import AddRule, AddTable, FlushSet, Operation, Transaction
from ramfw.core.turn_rules import EXPLAINER_PORT, TURN_PRIORITY, UNHEARD, Turning
from ramfw.core.watch_rules import ANSWER_GROUP, NAME, QUEUE_NUMBER, WatchForm
from ramfw.errors import KernelError, MissingError
from ramfw.program.batches import Batches, needs_hand
from ramfw.program.lock import Lock, is_locked, is_orphan
from ramfw.program.nft_process import NftProcess, Ports, find_nft
from ramfw.wire.nft_reader import read as read_listing
from ramfw.wire.nft_writer import OWN, kind, write, write_rule

PROBE_TABLE = "ramfw_probe"
PROBE = f"add table inet {PROBE_TABLE}\nadd chain inet {PROBE_TABLE} probe\n"
LARGE, MANY_ENTRIES, MANY_ELEMENTS = 1 << 17, 1000, 500
"""Bytes of a transaction's text, from which on nft gets a process of its own; entries that the
table has, for libnftables may load them all; and elements of a set that is listed."""
ABSENT = "No such file or directory"
_NUMBER = struct.Struct("=I")
NOT_PERMITTED = "Operation not permitted"


def _open_context() -> Any:  # noqa: ANN401 - the binding has no types
    try:
        import nftables  # noqa: PLC0415 - so that a missing binding is told in words
    except ImportError as error:
        raise MissingError(
            "the nftables binding for Python is not installed: apt-get install python3-nftables"
        ) from error
    try:
        return nftables.Nftables()
    except OSError as error:
        raise MissingError(
            f"libnftables cannot be loaded ({error}): apt-get install nftables"
        ) from error


def _text_context() -> Any:  # noqa: ANN401
    context = _open_context()
    context.set_stateless_output(True)
    context.set_numeric_prio_output(True)
    return context


def _open_large() -> NftProcess | None:
    nft = find_nft()
    return None if nft is None else NftProcess(nft)


def _is_held(name: str, most: int) -> bool:
    """Whether a set of the table has more than so many elements, or may have."""
    try:
        with Batches() as batches:
            return any(number >= most for number, _ in enumerate(batches.counted(name)))
    except KernelError as error:
        return error.errno != errno.ENOENT


class Nft:
    """The table `inet ramfw` of the network namespace that the process is in."""

    def __init__(self) -> None:
        """Raises MissingError where libnftables or its binding is not installed."""
        self._lock: Lock | None = None
        self._text = _text_context()
        self._large = _open_large() or self._text
        self._lists = _open_large() or _open_context()
        self._lists.set_stateless_output(True)
        self._lists.set_numeric_prio_output(True)
        self._by_hand: Batches | None = None
        self._answers: dict[str, bool] = {}
        self._by_xt = False
        self._holds_much = _is_held("live", MANY_ENTRIES)
        """Whether libnftables would load much of the table before it changes anything."""

    def run(self, transaction: Transaction) -> None:
        """See `Kernel.run`. What nft's text cannot say follows in a batch of its own.

        Until then DNS answers pass unheld, which opens nothing, and flows are settled later.
        """
        by_hand = [op for op in transaction if isinstance(op, AddRule) and needs_hand(op)]
        by_text = tuple(self._locked(op) for op in transaction if not needs_hand(op))
        if by_text:
            self._change(write(by_text))
        if by_hand:
            self._hand().append(by_hand)

    def _hand(self) -> Batches:
        """One socket for life: by its port its changes are known as ours."""
        if self._by_hand is None:
            self._by_hand = Batches(self.shared_socket())
        return self._by_hand

    # -- the lock ------------------------------------------------------------------------------

    def can_lock(self) -> bool:
        """Whether a table can be owned, and stay when its owner ends. Changes nothing."""
        return self._can(f"add table inet {PROBE_TABLE} {{ flags owner, persist; }}\n")

    def lock_table(self, inherited: socket | None) -> str:
        """See `Kernel.lock_table`. A plain table becomes owned when it is made anew."""
        if not self.can_lock():
            if inherited is not None:
                inherited.close()
            return "a table can be locked from Linux 6.9 and nftables 1.1.0 on"
        self._lock = Lock(inherited)
        self._by_hand = None
        self._speak_by_lock()
        return ""

    def shared_socket(self) -> socket | None:
        """See `Kernel.shared_socket`."""
        return self._lock.shared() if self._lock else None

    def _speak_by_lock(self) -> None:
        """Have libnftables use the socket that owns the table, and adopt one that nobody owns."""
        if self._lock is None:
            return
        self._text = self._lock.given_to(_text_context)
        try:
            foreign = read_listing(self._terse_listing()).foreign
        except KernelError as error:
            if ABSENT not in error.detail:
                raise
            return
        if any(map(is_orphan, foreign)):
            self._command(self._text, write((AddTable(locked=True),)), "nft adopt")

    def _locked(self, operation: Operation) -> Operation:
        if self._lock is not None and isinstance(operation, AddTable):
            return AddTable(locked=True)
        return operation

    def _change(self, text: str) -> None:
        if self._lock is None:
            self._holds_much = self._holds_much or len(text) > LARGE
            context = self._large if self._holds_much else self._text
            self._command(context, text, "nft transaction")
            return
        self._lock.drain()
        try:
            self._command(self._text, text, "nft transaction")
        except KernelError as error:
            if NOT_PERMITTED not in error.detail:
                raise
            # libnftables opens a new socket when a listing was interrupted by others' changes.
            self._speak_by_lock()
            self._command(self._text, text, "nft transaction")

    def tell_ports(self, tell: Callable[[Ports], None]) -> None:
        """See `Kernel.tell_ports`."""
        if isinstance(self._large, NftProcess):
            self._large.tell = tell

    def watch_form(self) -> tuple[WatchForm, str]:
        """How this kernel can show DNS answers, and what hinders a better way. Changes nothing."""
        native = f"{PROBE}add rule inet {PROBE_TABLE} probe queue flags bypass to {QUEUE_NUMBER}\n"
        if self._can(native):
            return WatchForm.NATIVE, ""
        try:
            self._hand().ask_for_nfqueue()
        except KernelError:
            pass
        else:
            self._by_xt = True
            return WatchForm.XT, ""
        if self._can(f"{PROBE}add rule inet {PROBE_TABLE} probe log group {ANSWER_GROUP}\n"):
            return WatchForm.COPY, "the kernel has no NFQUEUE (CONFIG_NFT_QUEUE)"
        return WatchForm.NONE, "the kernel has neither NFQUEUE nor NFLOG"

    def turning(self) -> tuple[Turning, str]:
        """Which refused connections can be turned, and what hinders more. Changes nothing."""
        rule = f"add rule inet {PROBE_TABLE} probe"
        hook = f"type nat hook output priority {TURN_PRIORITY};"
        turn = (
            f"{rule} ct status dnat meta l4proto tcp redirect to :{EXPLAINER_PORT}\n"
            f"add chain inet {PROBE_TABLE} turn {{ {hook} }}\n"
        )
        route = f"{rule} fib daddr type local fib daddr oifname lo accept\n"
        if self._can(f"{PROBE}{turn}{route}"):
            return Turning.ALL, ""
        if not self._can(f"{PROBE}{turn}"):
            return Turning.NONE, "the kernel cannot redirect (CONFIG_NFT_NAT, CONFIG_NFT_REDIR)"
        if not self._can(f"{PROBE}{route}"):
            return Turning.SOCKETS, "the kernel has no fib expression (CONFIG_NFT_FIB_INET)"
        return Turning.ALL, ""

    def matches_cgroups(self) -> bool:
        """See `Kernel.matches_cgroups`. WSL's kernels from 6.6 on have no CONFIG_NFT_SOCKET."""
        named = f"add set inet {PROBE_TABLE} probe {{ type cgroupsv2; }}\n"
        rule = f"add rule inet {PROBE_TABLE} probe socket cgroupv2 level 1 @probe\n"
        return self._can(f"{PROBE}{named}{rule}")

    def compares_names(self) -> bool:
        """See `Kernel.compares_names`. Sets of raw bits need a word that old nft has not."""
        named = f"add set inet {PROBE_TABLE} probe {{ typeof {NAME.kind}; }}\n"
        compared = write_rule((Match(NAME, SetRef("probe")),))
        return self._can(f"{PROBE}{named}add rule inet {PROBE_TABLE} probe {compared}\n")

    def _can(self, text: str) -> bool:
        """Asked once: what a kernel can does not change while a daemon lives."""
        if text not in self._answers:
            self._answers[text] = self._could(text)
        return self._answers[text]

    def _could(self, text: str) -> bool:
        context = self._apart(self._large, much=self._holds_much)
        context.set_dry_run(True)
        try:
            self._command(context, text, "nft check")
        except KernelError:
            return False
        finally:
            context.set_dry_run(False)
        return True

    def check(self, transaction: Transaction) -> None:
        """Have the kernel judge the transaction without committing it; raises KernelError."""
        self._text.set_dry_run(True)
        try:
            self._command(self._text, write(transaction), "nft check")
        finally:
            self._text.set_dry_run(False)

    def read(self, *, with_grants: bool, known: Ruleset | None = None) -> TableState | None:
        """See `Kernel.read`."""
        try:
            ruleset = read_listing(self._terse_listing(), self._listing_of, known)
        except KernelError as error:
            if ABSENT in error.detail:
                return None
            raise
        self._holds_much = any(len(named.elements or ()) > MANY_ENTRIES for named in ruleset.sets)
        ruleset = self._judge_lock(ruleset)
        if not with_grants:
            return TableState(ruleset)
        grants: dict[str, dict[bytes, HeldGrant]] = {}
        unnamed = set()
        alike: dict[HeldGrant, HeldGrant] = {}  # most are of answers that came together
        with Batches() as batches:
            for name in (named.name for named in ruleset.sets if named.holds_grants):
                held_here = grants.setdefault(name, {})
                for key, held in batches.elements(name):
                    if key is None:
                        unnamed.add(f"an element of {name}")
                    else:
                        held_here[key] = alike.setdefault(held, held)
        return TableState(replace(ruleset, foreign=ruleset.foreign | unnamed), grants)

    def _judge_lock(self, ruleset: Ruleset) -> Ruleset:
        """Where the table is to be locked, one that is not is not as it is meant."""
        if self._lock is None:
            return ruleset
        others = frozenset(line for line in ruleset.foreign if not is_locked(line))
        if others == ruleset.foreign:
            others |= {"no lock"}
        return replace(ruleset, foreign=others)

    def _listing_of(self, named: NamedSet) -> Iterator[str]:
        # One command a set: of several in one batch, nft 1.0.6 finds only the last.
        much = _is_held(named.name, MANY_ELEMENTS)
        return self._lines(f"list {kind(named)} {OWN} {named.name}", much=much)

    def _terse_listing(self) -> Iterator[str]:
        # Of an xt target libxtables has something to say to stderr, each time.
        much = self._holds_much or self._by_xt
        yield from self._lines(f"list table {OWN}", much=much, terse=True)

    @staticmethod
    def _apart(process: Any, *, much: bool) -> Any:  # noqa: ANN401
        """Where to ask what changes nothing.

        A process takes ten times as long, so only where there is much. Else a context that was
        never used: nft 1.0.6 takes what it has only tried, or listed in part, for what is there.
        """
        return process if much else _text_context()

    def _lines(self, command: str, *, much: bool, terse: bool = False) -> Iterator[str]:
        context = self._apart(self._lists, much=much)
        context.set_terse_output(terse)
        if isinstance(context, NftProcess):
            yield from context.lines(command)
        else:
            yield from self._command(context, command, "nft list").splitlines()

    def counts(self) -> Counts:
        """See `Kernel.counts`. What counted nothing is left out."""
        with Batches() as batches:
            try:
                live = {_NUMBER.unpack(k)[0]: n for k, n in batches.counted("live") if n.packets}
                named = {name: count for name, count in batches.counters() if count.packets}
                connections = {
                    _NUMBER.unpack(k)[0]: n for k, n in batches.counted(CONNECTIONS) if n.packets
                }
            except KernelError as error:
                if error.errno == errno.ENOENT:
                    return Counts({}, {})
                raise
            unheard = self._unheard(batches)
        return Counts(named, live, unheard, connections)

    def forget_unheard(self) -> bool:
        """See `Kernel.forget_unheard`."""
        with Batches() as batches:
            if not self._unheard(batches):
                return False
        self.run((FlushSet(UNHEARD),))
        return True

    @staticmethod
    def _unheard(batches: Batches) -> frozenset[str]:
        try:
            names = (name.rstrip(b"\0").decode() for name, _ in batches.counted(UNHEARD))
            return frozenset(names)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            return frozenset()

    @staticmethod
    def _command(context: Any, text: str, operation: str) -> str:  # noqa: ANN401
        code, output, error = context.cmd(text)
        if code != 0:
            raise KernelError(0, operation, str(error))
        return str(output)
