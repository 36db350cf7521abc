"""A kernel for tests: interprets transactions as the real one does, and refuses when told to.

It knows what the kernel refuses (a thing that is not there, one in use, an element with other
data), and that a refused transaction changes nothing. What rules mean is tested in the real kernel
only.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from socket import socket
from typing import TypeVar

from ramfw.core.ruleset import (
    Chain,
    Count,
    Dispatch,
    Element,
    InSet,
    Jump,
    MarkedId,
    Match,
    NamedSet,
    NumberedElement,
    Remember,
    Ruleset,
    SetRef,
    Statement,
    Tag,
    Verdict,
)
from ramfw.core.tablestate import Counts, HeldGrant, TableState
from ramfw.core.transaction import (
    AddChain,
    AddCounter,
    AddElements,
    AddGrant,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteGrant,
    DeleteSet,
    DeleteTable,
    FlushChain,
    FlushSet,
    GrantKey,
    Operation,
    Transaction,
)
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import KernelError

T = TypeVar("T")


@dataclass(slots=True)
class _Table:
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, NamedSet] = field(default_factory=dict)
    counters: set[str] = field(default_factory=set)
    grants: dict[GrantKey, tuple[int, float]] = field(default_factory=dict)


class FakeKernel:
    """See `Kernel`. `clock` gives the time by which grants expire."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._table: _Table | None = None
        self.failures: list[KernelError] = []
        """Errors to refuse the next transactions with, first one first."""
        self.committed: list[Transaction] = []
        self.unheard = False
        """Whether there is a place where connections that were turned did not arrive."""

    def run(self, transaction: Transaction) -> None:
        """See `Kernel.run`."""
        if self.failures:
            raise self.failures.pop(0)
        before = deepcopy(self._table)
        try:
            for operation in transaction:
                self._apply(operation)
        except KernelError:
            self._table = before
            raise
        self.committed.append(transaction)

    def read(self, *, with_grants: bool, known: Ruleset | None = None) -> TableState | None:
        """See `Kernel.read`."""
        del known
        if self._table is None:
            return None
        table = self._table
        ruleset = Ruleset(
            tuple(table.chains.values()), tuple(table.sets.values()), frozenset(table.counters)
        )
        return TableState(ruleset.as_read(), self._grants_by_map() if with_grants else None)

    def watch_form(self) -> tuple[WatchForm, str]:
        """See `Kernel.watch_form`: this one shows nothing."""
        return WatchForm.NONE, "a kernel for tests shows no answers"

    def turning(self) -> tuple[Turning, str]:
        """See `Kernel.turning`: this one turns all."""
        return Turning.ALL, ""

    def matches_cgroups(self) -> bool:
        """See `Kernel.matches_cgroups`."""
        return True

    def compares_names(self) -> bool:
        """See `Kernel.compares_names`."""
        return True

    def lock_table(self, inherited: socket | None) -> str:
        """See `Kernel.lock_table`."""
        del inherited
        return "a kernel for tests has no lock"

    def shared_socket(self) -> socket | None:
        """See `Kernel.shared_socket`."""
        return None

    def tell_ports(self, tell: Callable[[frozenset[int]], None]) -> None:
        """See `Kernel.tell_ports`: there are no other processes here."""

    def forget_unheard(self) -> bool:
        """See `Kernel.forget_unheard`."""
        before, self.unheard = self.unheard, False
        return before

    def counts(self) -> Counts:
        """See `Kernel.counts`: nothing is ever counted here."""
        return Counts({}, {})

    def flush(self) -> None:
        """What `nft flush ruleset` does."""
        self._table = None

    def grants(self) -> dict[GrantKey, HeldGrant]:
        """The grants that have not expired."""
        return self._live_grants()

    def elements(self, name: str) -> frozenset[Element]:
        """A set's elements, as they were given."""
        return _of(self._existing().sets, name).elements or frozenset()

    def tamper(self, change: Callable[[dict[str, Chain]], None]) -> None:
        """Let somebody else change the chains."""
        change(self._existing().chains)

    def _live_grants(self) -> dict[GrantKey, HeldGrant]:
        now = self._clock()
        grants = self._existing().grants.items()
        return {key: HeldGrant(i, end - now) for key, (i, end) in grants if end > now}

    def _grants_by_map(self) -> dict[str, dict[bytes, HeldGrant]]:
        found: dict[str, dict[bytes, HeldGrant]] = {}
        for key, held in self._live_grants().items():
            found.setdefault(key.map, {})[key.packed] = held
        return found

    def _existing(self) -> _Table:
        if self._table is None:
            raise KernelError(errno.ENOENT, "nft transaction")
        return self._table

    def _apply(self, operation: Operation) -> None:  # noqa: C901, PLR0912 - a case each
        if isinstance(operation, AddTable):
            self._table = self._table or _Table()
            return
        table = self._existing()
        match operation:
            case DeleteTable():
                self._table = None
            case AddCounter(name):
                table.counters.add(name)
            case DeleteCounter(name):
                self._refuse_if_used("counter", name)
                _remove(table.counters, name)
            case AddChain(chain):
                table.chains.setdefault(chain.name, replace(chain, rules=()))
            case FlushChain(name):
                table.chains[name] = replace(_of(table.chains, name), rules=())
            case DeleteChain(name):
                chain = _of(table.chains, name)
                if chain.rules or any(jump.chain == name for jump in _jumps(table)):
                    raise KernelError(errno.EBUSY, f"delete chain {name}")
                self._refuse_if_used("chain", name)
                del table.chains[name]
            case AddRule(name, rule):
                chain = _of(table.chains, name)
                for statement in rule:
                    self._check_references(statement)
                table.chains[name] = replace(chain, rules=(*chain.rules, rule))
            case AddSet(named):
                empty = None if named.holds_grants else frozenset[Element]()
                table.sets.setdefault(named.name, replace(named, elements=empty))
            case DeleteSet(name):
                _of(table.sets, name)
                self._refuse_if_used("set", name)
                del table.sets[name]
                table.grants = {k: v for k, v in table.grants.items() if k.map != name}
            case FlushSet(name):
                table.sets[name] = replace(_of(table.sets, name), elements=frozenset())
            case AddElements(name, elements):
                held = _of(table.sets, name).elements or frozenset()
                self._add_elements(table, name, held, elements)
            case DeleteElements(name, elements):
                held = _of(table.sets, name).elements or frozenset()
                if not elements <= held:
                    raise KernelError(errno.ENOENT, f"delete element {name}")
                table.sets[name] = replace(table.sets[name], elements=held - elements)
            case AddGrant(key, entry_id, timeout):
                self._add_grant(table, key, entry_id, timeout)
            case DeleteGrant(key):
                if table.grants.get(key, (0, 0.0))[1] <= self._clock():
                    raise KernelError(errno.ENOENT, f"delete element {key}")
                del table.grants[key]

    @staticmethod
    def _add_elements(
        table: _Table, name: str, held: frozenset[Element], added: frozenset[Element]
    ) -> None:
        there = {_key(element): element for element in held}
        for element in added:
            if isinstance(element, Jump):
                _of(table.chains, element.chain)
            same = there.setdefault(_key(element), element)
            # A comment is no data: one that is there stays as it is.
            if same != element and not isinstance(element, NumberedElement):
                raise KernelError(errno.EEXIST, f"add element {name}")
        table.sets[name] = replace(table.sets[name], elements=frozenset(there.values()))

    def _add_grant(self, table: _Table, key: GrantKey, entry_id: int, timeout: int) -> None:
        _of(table.sets, key.map)
        held, end = table.grants.get(key, (entry_id, 0.0))
        if end > self._clock():
            if held != entry_id:
                raise KernelError(errno.EEXIST, f"add element {key}")
            return
        table.grants[key] = (entry_id, self._clock() + timeout)

    def _refuse_if_used(self, kind: str, name: str) -> None:
        for chain in self._existing().chains.values():
            for rule in chain.rules:
                if any((kind, name) in _references(statement) for statement in rule):
                    raise KernelError(errno.EBUSY, f"delete {kind} {name}")

    def _check_references(self, statement: Statement) -> None:
        table = self._existing()
        for kind, name in _references(statement):
            there = {
                "chain": table.chains.keys(),
                "set": table.sets.keys(),
                "counter": table.counters,
            }
            if name not in there[kind]:
                raise KernelError(errno.ENOENT, f"{kind} {name}")


def _key(element: Element) -> object:
    match element:
        case Jump(value):
            return value
        case NumberedElement(entry_id):
            return entry_id
        case MarkedId(mark):
            return mark
        case _:
            return element


def _jumps(table: _Table) -> Iterator[Jump]:
    for named in table.sets.values():
        yield from (e for e in named.elements or () if isinstance(e, Jump))


def _references(statement: Statement) -> Iterator[tuple[str, str]]:
    match statement:
        case Verdict(_, chain) if chain:
            yield "chain", chain
        case (
            Tag(_, name)
            | Dispatch(name, _)
            | Match(_, SetRef(name))
            | InSet(_, name)
            | Remember(_, name)
        ):
            yield "set", name
        case Count(name):
            yield "counter", name


def _of(things: dict[str, T], name: str) -> T:
    if name not in things:
        raise KernelError(errno.ENOENT, name)
    return things[name]


def _remove(names: set[str], name: str) -> None:
    if name not in names:
        raise KernelError(errno.ENOENT, name)
    names.remove(name)
