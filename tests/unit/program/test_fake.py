"""The fake kernel refuses what the real one refuses, and then nothing has changed."""

from __future__ import annotations

import errno
from dataclasses import replace
from ipaddress import ip_network

import pytest

from ramfw.core.ruleset import (
    ACCEPT,
    IDS,
    VERDICTS,
    Chain,
    Count,
    Dispatch,
    Field,
    Jump,
    MarkedId,
    Match,
    NamedSet,
    NumberedElement,
    Rule,
    SetRef,
    Tag,
    jump,
)
from ramfw.core.tablestate import Counts, HeldGrant
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
)
from ramfw.errors import KernelError
from ramfw.program.fake import FakeKernel

MAP = NamedSet("m", ("ipv4_addr", "inet_proto", "inet_service"), frozenset({"timeout"}), data=IDS)
ENTRIES = NamedSet("entries", ("classid",), data=VERDICTS)
RANGES = replace(MAP, name="r", flags=frozenset({"interval", "timeout"}))
KEY = GrantKey.of("m", ip_network("192.0.2.10"), "tcp", 443)
RANGE = GrantKey.of("r", ip_network("10.0.0.0/24"), "tcp", 443)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def made(*more: Operation) -> tuple[FakeKernel, Clock]:
    clock = Clock()
    kernel = FakeKernel(clock)
    kernel.run(
        (
            AddTable(),
            AddCounter("seen"),
            AddSet(MAP),
            AddSet(RANGES),
            AddSet(ENTRIES),
            AddSet(NamedSet("s", ("mark",))),
            AddChain(Chain("entry_16", ())),
            AddChain(Chain("entry_17", ())),
            AddChain(Chain("judge", ())),
            *more,
        )
    )
    return kernel, clock


def refused(kernel: FakeKernel, *transaction: Operation) -> int:
    before, committed = kernel.read(with_grants=True), list(kernel.committed)
    with pytest.raises(KernelError) as error:
        kernel.run(transaction)
    assert kernel.read(with_grants=True) == before
    assert kernel.committed == committed
    return error.value.errno


@pytest.mark.parametrize(
    "operation",
    [
        AddRule("nobody", (ACCEPT,)),
        AddRule("judge", (jump("nobody"),)),
        AddRule("judge", (Match(Field.CT_MARK, SetRef("nobody")),)),
        AddRule("judge", (Tag((Field.IP_DADDR,), "nobody"),)),
        AddRule("judge", (Dispatch("nobody"),)),
        AddRule("judge", (Count("nobody"),)),
        FlushChain("nobody"),
        DeleteChain("nobody"),
        DeleteSet("nobody"),
        FlushSet("nobody"),
        DeleteCounter("nobody"),
        AddElements("nobody", frozenset({1})),
        DeleteElements("s", frozenset({1})),
        AddElements("entries", frozenset({Jump(99, "entry_99")})),
        AddGrant(KEY._replace(map="nobody"), 16, 10),
        DeleteGrant(KEY),
    ],
    ids=lambda operation: str(operation)[:60],
)
def test_what_is_not_there_is_refused_and_the_whole_transaction_with_it(
    operation: Operation,
) -> None:
    kernel, _ = made()
    assert refused(kernel, AddElements("s", frozenset({7})), operation) == errno.ENOENT


@pytest.mark.parametrize(
    "operation", [AddCounter("c"), AddChain(Chain("c", ())), DeleteTable(), FlushSet("s")]
)
def test_without_a_table_only_a_table_can_be_made(operation: Operation) -> None:
    kernel = FakeKernel(Clock())
    assert refused(kernel, operation) == errno.ENOENT
    assert kernel.read(with_grants=True) is None


USES: tuple[tuple[Rule, Operation], ...] = (
    ((jump("entry_16"),), DeleteChain("entry_16")),
    ((Match(Field.CT_MARK, SetRef("s")),), DeleteSet("s")),
    ((Tag((Field.IP_DADDR,), "m"),), DeleteSet("m")),
    ((Dispatch("entries"),), DeleteSet("entries")),
    ((Count("seen"),), DeleteCounter("seen")),
    ((ACCEPT,), DeleteChain("judge")),
)


@pytest.mark.parametrize(("rule", "delete"), USES, ids=lambda value: str(value)[:40])
def test_what_a_rule_uses_is_busy_until_the_rule_is_gone(rule: Rule, delete: Operation) -> None:
    kernel, _ = made(AddRule("judge", rule))
    assert refused(kernel, delete) == errno.EBUSY
    kernel.run((FlushChain("judge"), delete))
    assert refused(kernel, delete) == errno.ENOENT


def test_what_is_there_already_is_left_as_it_is() -> None:
    kernel, _ = made(AddRule("judge", (ACCEPT,)), AddElements("s", frozenset({1})))
    before = kernel.read(with_grants=True)
    kernel.run(
        (
            AddTable(),
            AddCounter("seen"),
            AddChain(Chain("judge", ())),
            AddSet(NamedSet("s", ("mark",))),
        )
    )
    assert kernel.read(with_grants=True) == before


def test_elements_come_and_go() -> None:
    kernel, _ = made(AddElements("s", frozenset({1, 2})))
    kernel.run((AddElements("s", frozenset({2, 3})), DeleteElements("s", frozenset({1}))))
    assert kernel.elements("s") == {2, 3}
    kernel.run((FlushSet("s"),))
    assert kernel.elements("s") == frozenset()


def test_a_grant_lives_for_its_timeout() -> None:
    kernel, clock = made(AddGrant(KEY, 16, 10))
    clock.now += 9
    assert kernel.grants() == {KEY: HeldGrant(16, 1.0)}
    clock.now += 1
    assert kernel.grants() == {}
    assert refused(kernel, DeleteGrant(KEY)) == errno.ENOENT


def test_adding_a_grant_again_changes_no_timeout_and_no_verdict() -> None:
    kernel, clock = made(AddGrant(KEY, 16, 10))
    clock.now += 5
    kernel.run((AddGrant(KEY, 16, 100),))
    assert kernel.grants()[KEY].remaining == 5
    assert refused(kernel, AddGrant(KEY, 17, 100)) == errno.EEXIST
    kernel.run((DeleteGrant(KEY), AddGrant(KEY, 17, 100)))
    assert kernel.grants()[KEY] == HeldGrant(17, 100)


def test_an_element_with_a_jump_keeps_its_chain_busy() -> None:
    to_16, to_17 = Jump(16, "entry_16"), Jump(16, "entry_17")
    kernel, _ = made(AddElements("entries", frozenset({to_16})))
    assert refused(kernel, DeleteChain("entry_16")) == errno.EBUSY
    assert refused(kernel, AddElements("entries", frozenset({to_17}))) == errno.EEXIST
    kernel.run((DeleteElements("entries", frozenset({to_16})), DeleteChain("entry_16")))
    kernel.run((AddElements("entries", frozenset({to_17})),))
    assert kernel.elements("entries") == {to_17}


def test_an_id_that_is_there_keeps_its_comment_and_a_mark_its_id() -> None:
    kernel, _ = made(AddElements("s", frozenset({NumberedElement(16, "old")})))
    kernel.run((AddElements("s", frozenset({NumberedElement(16, "new")})),))
    assert kernel.elements("s") == {NumberedElement(16, "old")}
    kernel.run((AddElements("m", frozenset({MarkedId(16, 16)})),))
    assert refused(kernel, AddElements("m", frozenset({MarkedId(16, 17)}))) == errno.EEXIST


def test_a_map_goes_with_its_grants_and_a_table_with_all() -> None:
    kernel, _ = made(AddGrant(KEY, 16, 10), AddGrant(RANGE, 17, 10))
    kernel.run((DeleteSet("m"), DeleteChain("entry_16")))
    assert set(kernel.grants()) == {RANGE}
    kernel.run((DeleteTable(),))
    assert kernel.read(with_grants=True) is None
    kernel.run((AddTable(),))
    assert kernel.grants() == {}


def test_it_refuses_when_told_to_one_error_after_the_other() -> None:
    kernel, _ = made()
    kernel.failures += [KernelError(n, "nft transaction") for n in (errno.ENOMEM, errno.ENOBUFS)]
    add = AddElements("s", frozenset({1}))
    assert [refused(kernel, add), refused(kernel, add)] == [errno.ENOMEM, errno.ENOBUFS]
    kernel.run((add,))
    assert kernel.elements("s") == {1}


def test_it_reads_grants_only_where_they_are_asked_for_and_counts_nothing() -> None:
    kernel, _ = made(AddGrant(KEY, 16, 10))
    without, with_ = kernel.read(with_grants=False), kernel.read(with_grants=True)
    assert without is not None
    assert with_ is not None
    assert without.grants is None
    assert with_.grants == {KEY.map: {KEY.packed: HeldGrant(16, 10)}}
    assert without.ruleset == with_.ruleset
    assert kernel.counts() == Counts({}, {})


def test_somebody_else_may_flush_or_change_it() -> None:
    kernel, _ = made()
    kernel.tamper(lambda chains: chains.update(judge=Chain("judge", ((ACCEPT,),))))
    state = kernel.read(with_grants=False)
    assert state is not None
    assert Chain("judge", ((ACCEPT,),)) in state.ruleset.chains
    kernel.flush()
    assert kernel.read(with_grants=False) is None
