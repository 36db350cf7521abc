"""The socket that owns the table: how libnftables is made to use it, and what a listing tells."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ramfw.core.transaction import AddTable, DeleteTable
from ramfw.errors import KernelError
from ramfw.program import nft
from ramfw.program.lock import NETLINK_NETFILTER, Lock, _unbound, is_locked, is_orphan
from tests.unit.program.test_nft import ABSENT, opened


def netfilter() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)


@pytest.fixture
def lock() -> Iterator[Lock]:
    made = Lock()
    yield made
    made.socket.close()


def test_a_context_speaks_by_the_lock_s_socket(lock: Lock) -> None:
    with lock.given_to(netfilter) as given:
        assert given.getsockname() == lock.socket.getsockname()
        assert os.fstat(given.fileno()).st_ino == os.fstat(lock.socket.fileno()).st_ino


def test_an_heir_is_the_same_socket(lock: Lock) -> None:
    heir = Lock(lock.shared())
    assert heir.socket.getsockname() == lock.socket.getsockname()
    heir.socket.close()


@pytest.mark.parametrize("opens", [0, 2])
def test_a_context_whose_socket_is_not_certain_gets_none(lock: Lock, opens: int) -> None:
    made: list[socket.socket] = []

    def context() -> None:
        made.extend(netfilter() for _ in range(opens))

    with pytest.raises(KernelError, match="was not found"):
        lock.given_to(context)
    assert all(one.getsockname()[0] == 0 for one in made)
    for one in made:
        one.close()


def open_now() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir()}


def test_looking_for_sockets_leaves_no_descriptor_open() -> None:
    before = open_now()
    for _ in range(10):
        _unbound()
    assert open_now() == before


@pytest.mark.parametrize(
    ("line", "locked", "orphan"),
    [
        ("flags owner,persist", True, False),
        ("flags owner, persist", True, False),
        ("flags persist", False, True),
        ("flags owner", False, False),
        ("flags dormant", False, False),
        ("flags ", False, False),
        ("quota x", False, False),
    ],
)
def test_what_a_listing_tells_of_the_owner(line: str, *, locked: bool, orphan: bool) -> None:
    assert (is_locked(line), is_orphan(line)) == (locked, orphan)


class Owned:
    """A kernel that can lock, whose table has these flags and refuses so many changes."""

    def __init__(self, flags: str, refusals: int = 0) -> None:
        self.flags, self.refusals = flags, refusals
        self.done: list[str] = []

    def answer(self, command: str) -> tuple[int, str, str]:
        if command.startswith("list table"):
            flags = f"\tflags {self.flags}\n" if self.flags else ""
            return (0, f"table inet ramfw {{\n{flags}}}\n", "") if self.flags != "-" else ABSENT
        if "ramfw_probe" in command:
            return 0, "", ""
        if self.refusals:
            self.refusals -= 1
            return -1, "", "Error: Could not process rule: Operation not permitted\n"
        self.done.append(command)
        return 0, "", ""


def locked_table(kernel: Owned, monkeypatch: pytest.MonkeyPatch) -> tuple[nft.Nft, list[object]]:
    table, _ = opened(monkeypatch, kernel.answer)
    lock = FakeLock(None)
    monkeypatch.setattr(nft, "Lock", lambda _: lock)
    assert table.lock_table(None) == ""
    return table, lock.given


class FakeLock:
    def __init__(self, _inherited: object) -> None:
        self.drained = 0
        self.given: list[object] = []

    def drain(self) -> None:
        self.drained += 1

    def given_to(self, open_context: Callable[[], object]) -> object:
        self.given.append(open_context())
        return self.given[-1]


def test_the_table_is_made_owned(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Owned("-")
    table, _ = locked_table(kernel, monkeypatch)
    table.run((AddTable(), DeleteTable()))
    assert kernel.done == [
        "add table inet ramfw { flags owner, persist; }\ndelete table inet ramfw\n"
    ]


def test_an_orphan_is_adopted_and_nothing_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for flags, adopted in (("persist", 1), ("owner,persist", 0), ("", 0), ("-", 0)):
        kernel = Owned(flags)
        locked_table(kernel, monkeypatch)
        assert len(kernel.done) == adopted, flags


def test_a_socket_that_libnftables_changed_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Owned("owner,persist", refusals=1)
    table, given = locked_table(kernel, monkeypatch)
    before = len(given)
    table.run((DeleteTable(),))
    assert kernel.done == ["delete table inet ramfw\n"]
    assert len(given) == before + 1


def test_a_table_of_another_owner_stays_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = locked_table(Owned("owner,persist", refusals=9), monkeypatch)
    with pytest.raises(KernelError, match="Operation not permitted"):
        table.run((DeleteTable(),))


@pytest.mark.parametrize(("flags", "foreign"), [("owner,persist", set()), ("", {"no lock"})])
def test_a_table_that_is_not_locked_is_not_as_meant(
    flags: str, foreign: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, _ = locked_table(Owned(flags), monkeypatch)
    state = table.read(with_grants=False)
    assert state is not None
    assert state.ruleset.foreign == foreign
