"""diff(desired, actual) -> Transaction: how the rules get from what is to what is meant.

Pure. An empty transaction means that the two are the same, so this is also the comparison after
a read-back. Chains and sets that do not differ are left as they are, with their counters.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ramfw.core.ruleset import IDS, Chain, Element, NamedSet, Ruleset
from ramfw.core.transaction import (
    AddChain,
    AddCounter,
    AddElements,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteSet,
    DeleteTable,
    FlushChain,
    FlushSet,
    Operation,
    Transaction,
)

CGROUPS = ("cgroupsv2",)
"""The key of a set of cgroups."""

MOST_STALE_CGROUPS = 1000
"""Ids of cgroups that are gone stay in their set up to this many.

nft names a cgroup by its path, so one that is gone cannot be named; its id is never given again,
so it does no harm. Flushing the set each time could, for an instant, match nothing (kernels
before 6.17 may miss an element that a commit replaces), and a miss here lets a packet out.
"""


def diff(desired: Ruleset, actual: Ruleset | None) -> tuple[Transaction, Transaction]:
    """The operations before and after the grants' own, in one batch; both empty if nothing differs.

    The first part makes the maps that grants go to; the second removes what is no longer meant.
    Where a thing cannot be changed in place (a hook, a set's type, something foreign in the table),
    the table is made anew, in the same batch.
    """
    if actual is None:
        return _whole(desired), ()
    if not _fits_in_place(desired, actual):
        return (DeleteTable(), *_whole(desired)), ()
    chains = {chain.name: chain for chain in actual.chains}
    sets = {named.name: named for named in actual.sets}
    wanted_chains = {chain.name for chain in desired.chains}
    wanted_sets = {named.name for named in desired.sets}
    gone_chains = [name for name in chains if name not in wanted_chains]
    gone_sets = [name for name in sets if name not in wanted_sets]
    changed = [c for c in desired.chains if c.name in chains and c.rules != chains[c.name].rules]
    new = [c for c in desired.chains if c.name not in chains]

    first: list[Operation] = []
    first += (AddCounter(name) for name in sorted(desired.counters - actual.counters))
    first += (AddSet(named.shape) for named in desired.sets if named.name not in sets)
    first += (AddChain(chain) for chain in new)
    first += (FlushChain(chain.name) for chain in changed)
    first += (FlushChain(name) for name in gone_chains if chains[name].rules)
    for named in desired.sets:
        first += _elements(named, sets.get(named.name))
    first += (AddRule(chain.name, rule) for chain in new + changed for rule in chain.rules)

    last: list[Operation] = []
    last += (DeleteSet(name) for name in gone_sets)
    last += (DeleteChain(name) for name in gone_chains)
    last += (DeleteCounter(name) for name in sorted(actual.counters - desired.counters))
    return tuple(first), tuple(last)


def replaces_table(transaction: Transaction) -> bool:
    """Whether the transaction makes the table anew, so that all grants must be given again."""
    return any(isinstance(op, DeleteTable) for op in transaction[:1])


def after(desired: Ruleset, actual: Ruleset | None) -> Ruleset:
    """What the kernel holds once the difference is committed: as desired, and stale cgroups."""
    if actual is None or not _fits_in_place(desired, actual):
        return desired
    before = {named.name: named for named in actual.sets}
    return replace(
        desired, sets=tuple(_with_stale(named, before.get(named.name)) for named in desired.sets)
    )


def _with_stale(desired: NamedSet, actual: NamedSet | None) -> NamedSet:
    if desired.key != CGROUPS or actual is None or desired.elements is None:
        return desired
    stale = (actual.elements or frozenset()) - desired.elements
    if len(stale) > MOST_STALE_CGROUPS:
        return desired
    return replace(desired, elements=desired.elements | stale)


def _whole(desired: Ruleset) -> Transaction:
    return (
        AddTable(),
        *(AddCounter(name) for name in sorted(desired.counters)),
        *(AddSet(named.shape) for named in desired.sets),
        *(AddChain(chain) for chain in desired.chains),
        *(op for named in desired.sets for op in _elements(named, None)),
        *(AddRule(chain.name, rule) for chain in desired.chains for rule in chain.rules),
    )


def _fits_in_place(desired: Ruleset, actual: Ruleset) -> bool:
    sets = {named.name: named.shape for named in actual.sets}
    chains = {chain.name: _frame(chain) for chain in actual.chains}
    return (
        not actual.foreign
        and all(sets.get(named.name, named.shape) == named.shape for named in desired.sets)
        and all(chains.get(chain.name, _frame(chain)) == _frame(chain) for chain in desired.chains)
    )


def _frame(chain: Chain) -> tuple[object, ...]:
    return (chain.hook, chain.policy, chain.comment)


def _elements(desired: NamedSet, actual: NamedSet | None) -> Iterable[Operation]:
    if desired.elements is None:
        return
    present = (actual.elements or frozenset()) if actual else frozenset()
    missing = desired.elements - present
    extra = present - desired.elements
    if desired.key == CGROUPS:
        yield from _cgroups(desired.name, desired.elements, missing, extra)
        return
    # An element cannot be added while its key is there with other data, or another comment.
    in_the_way = bool(desired.data) or desired.key == (IDS,)
    if extra and in_the_way:
        yield DeleteElements(desired.name, extra)
    if missing:
        yield AddElements(desired.name, missing)
    if extra and not in_the_way:
        yield DeleteElements(desired.name, extra)


def _cgroups(
    name: str, wanted: frozenset[Element], missing: frozenset[Element], extra: frozenset[Element]
) -> Iterable[Operation]:
    if len(extra) > MOST_STALE_CGROUPS:
        yield FlushSet(name)
        missing = wanted
    if missing:
        yield AddElements(name, missing)
