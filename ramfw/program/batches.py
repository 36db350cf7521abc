"""Batches packed by hand, committed over a netlink socket of our own.

Grants take a few microseconds this way, and 60 through libnftables; and nft's grammar has no word
for the xt NFQUEUE target. All other rules are libnftables' business.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Self, cast

from ramfw.core.ruleset import ACKNOWLEDGED, Queue, Statement, Write
from ramfw.core.ruleset import Count as CountIn
from ramfw.core.tablestate import Count
from ramfw.core.transaction import AddGrant, AddRule, DeleteGrant, Transaction
from ramfw.errors import KernelError
from ramfw.wire import nft_counters, nft_elements, nft_rule
from ramfw.wire.netlink import (
    NLM_F_DUMP_INTR,
    NLMSG_DONE,
    NLMSG_ERROR,
    Message,
    error_number,
    errors,
    is_success,
    messages,
)
from ramfw.wire.nft_batch import Batch, batch, pack
from ramfw.wire.nft_elements import Found

_NETLINK_NETFILTER = 12
_SO_SNDBUFFORCE = 32
_SEND = 4 << 20  # bytes: a whole transaction of grants fits
_DATAGRAM, _PIECE = 1 << 16, 1 << 13
_DUMP = "nft elements"
_GRANT = (AddGrant, DeleteGrant)
_PATIENCE = struct.pack("@ll", 5, 0)  # a struct timeval: seconds that the kernel may take


def _nothing() -> None:
    """What nobody waits for."""


class Batches:
    """One socket; its methods commit all or nothing, and raise KernelError with the first errno."""

    def __init__(self, shared: socket.socket | None = None) -> None:
        """Raises KernelError where the socket cannot be had.

        `shared` is the socket that owns the table; whoever else uses it, never does so meanwhile.
        """
        try:
            self._socket = shared or _new()
            with suppress(PermissionError):  # in a user namespace of one's own
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND)
            # The kernel's own timeouts: with Python's, each call would be preceded by a poll.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _PATIENCE)
        except OSError as error:
            raise KernelError(error.errno or 0, "netlink socket") from error
        self._sequence = 1
        self._answer = memoryview(bytearray(_DATAGRAM))

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def grant(
        self, grants: Sequence[AddGrant | DeleteGrant], then: Callable[[], None] = _nothing
    ) -> None:
        """Commit grants to maps of the table, which must be there.

        `then` is called as soon as the kernel has decided, before its word is read, and also
        where nothing could be sent.
        """
        wanted = pack(grants, self._sequence)
        self._sequence = (wanted.last + 2) & 0x7FFFFFFF
        try:
            # nfnetlink works inside send: when it returns, the batch is committed or refused.
            self._send(wanted, "grants")
        finally:
            then()
        self._confirm(wanted, "grants")

    def append(self, rules: Iterable[AddRule]) -> None:
        """Append rules that are packed by hand to their chains."""
        parts = [
            nft_rule.append(added.chain, [_expression(s) for s in added.rule]) for added in rules
        ]
        wanted = batch(parts, self._sequence)
        self._sequence = (wanted.last + 2) & 0x7FFFFFFF
        self._send(wanted, "rule packed by hand")
        self._confirm(wanted, "rule packed by hand")

    def elements(self, name: str) -> Iterator[Found]:
        """All elements of a map, as the kernel tells them. Raises KernelError.

        With EINTR where something changed meanwhile: then some may be missing.
        """
        for datagram, one in self._dump(partial(nft_elements.request, name)):
            if one.flags & NLM_F_DUMP_INTR:
                raise KernelError(errno.EINTR, _DUMP, "they changed meanwhile")
            if nft_elements.is_elements(one.kind):
                yield from nft_elements.elements(datagram, one.start, one.end)

    def pieces(self, name: str) -> Iterator[list[Found]]:
        """The elements of a map, some 75 at a time. Raises KernelError.

        What changes meanwhile may be missing, or told twice.
        """
        # The kernel makes no larger datagrams than it was asked for (netlink_dump).
        for datagram, one in self._dump(partial(nft_elements.request, name), _PIECE):
            if nft_elements.is_elements(one.kind):
                yield list(nft_elements.elements(datagram, one.start, one.end))

    def counters(self) -> Iterator[tuple[str, Count]]:
        """All named counters. Raises KernelError."""
        for datagram, one in self._dump(nft_counters.request_counters):
            yield from nft_counters.counters(one.kind, datagram, one.start, one.end)

    def counted(self, name: str) -> Iterator[tuple[bytes, Count]]:
        """The keys of a set, each with what it counted. Raises KernelError."""
        for datagram, one in self._dump(partial(nft_counters.request_elements, name)):
            yield from nft_counters.elements(one.kind, datagram, one.start, one.end)

    def _dump(
        self, request: Callable[[int], bytes], room: int = _DATAGRAM
    ) -> Iterator[tuple[bytes, Message]]:
        """The messages of a dump, each with the datagram that it stands in."""
        self._sequence += 1
        try:
            self._socket.send(request(self._sequence))
            while True:
                size = self._socket.recv_into(self._answer, room)
                datagram = bytes(self._answer[:size])
                for one in messages(datagram):
                    if one.sequence != self._sequence:
                        continue
                    if one.kind in (NLMSG_DONE, NLMSG_ERROR):
                        if number := error_number(datagram, one):
                            raise KernelError(number, _DUMP, os.strerror(number))
                        if one.flags & NLM_F_DUMP_INTR:
                            yield datagram, one
                        return
                    yield datagram, one
        except (OSError, ValueError) as error:
            number = getattr(error, "errno", 0) or 0
            raise KernelError(number, _DUMP, str(error)) from error

    def ask_for_nfqueue(self) -> None:
        """Raise KernelError where the kernel has no xt NFQUEUE target."""
        self._sequence += 1
        try:
            self._socket.send(nft_rule.ask_for_nfqueue(self._sequence))
            size = self._socket.recv_into(self._answer)
            for _, number in errors(self._answer[:size]):
                if number:
                    raise KernelError(number, "xt NFQUEUE", os.strerror(number))
        except OSError as error:
            raise KernelError(error.errno or 0, "xt NFQUEUE") from error

    def _send(self, wanted: Batch, operation: str) -> None:
        try:
            self._socket.send(wanted.data)
        except OSError as error:
            raise KernelError(error.errno or 0, operation) from error

    def _confirm(self, wanted: Batch, operation: str) -> None:
        """Read the kernel's answers to a batch that was sent."""
        failed = 0
        ended = False
        try:
            while not ended:
                size = self._socket.recv_into(self._answer)
                if is_success(self._answer, size, wanted.last):
                    break
                for sequence, number in errors(self._answer[:size]):
                    if not wanted.first <= sequence <= wanted.last + 1:
                        continue  # of an earlier batch, whose answer came too late
                    failed = failed or number
                    # Until the last: an error that is left unread would be the next batch's.
                    alone = sequence == wanted.first and bool(number)
                    ended = ended or alone or sequence == wanted.last
        except BlockingIOError as error:
            raise KernelError(0, operation, "the kernel did not answer") from error
        except OSError as error:
            raise KernelError(error.errno or 0, operation) from error
        if failed:
            raise KernelError(failed, operation, os.strerror(failed))


def _new() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    made.bind((0, 0))
    return made


def only_grants(transaction: Transaction) -> Sequence[AddGrant | DeleteGrant] | None:
    """The transaction's operations if all are grants."""
    for operation in transaction:
        if not isinstance(operation, _GRANT):
            return None
    return cast("Sequence[AddGrant | DeleteGrant]", transaction)


def needs_hand(operation: object) -> bool:
    """Whether it is a rule that nft's grammar cannot say."""
    return isinstance(operation, AddRule) and any(map(_is_unsayable, operation.rule))


def _is_unsayable(part: Statement) -> bool:
    return (isinstance(part, Queue) and not part.is_native) or part == ACKNOWLEDGED


def _expression(statement: object) -> bytes:
    match statement:
        case CountIn(counter):
            return nft_rule.count(counter)
        case Queue(number, False, bypass):
            return nft_rule.xt_nfqueue(number, bypass=bypass)
        case Write() if statement == ACKNOWLEDGED:
            return nft_rule.acknowledged_to_priority()
        case _:
            raise ValueError(f"nft's grammar can say this: {statement}")
