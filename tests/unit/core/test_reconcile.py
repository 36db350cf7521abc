"""From any ruleset to any other, in one transaction that the kernel takes; then nothing is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ramfw.core.compiler import compile_ruleset
from ramfw.core.permitted import NumberedEntry
from ramfw.core.plan import Machine
from ramfw.core.policy import ScopeName
from ramfw.core.reconcile import MOST_STALE_CGROUPS, after, diff, replaces_table
from ramfw.core.ruleset import (
    ACCEPT,
    IDS,
    CgroupElement,
    Chain,
    Count,
    Element,
    Hook,
    Match,
    NamedSet,
    NumberedElement,
    Ruleset,
    SetRef,
    SocketCgroup,
    goto,
)
from ramfw.core.transaction import (
    AddChain,
    AddElements,
    AddRule,
    AddTable,
    DeleteElements,
    DeleteTable,
    FlushChain,
    Operation,
)
from ramfw.program.fake import FakeKernel
from tests.golden.cases import CASES
from tests.unit.core.policies import policy

SAME = ((), ())
NAMES = [f"h{i}.example" for i in range(4)]


def loaded(ruleset: Ruleset) -> FakeKernel:
    kernel = FakeKernel(lambda: 0.0)
    change(kernel, ruleset, None)
    return kernel


def change(kernel: FakeKernel, desired: Ruleset, actual: Ruleset | None) -> None:
    first, last = diff(desired, actual)
    kernel.run((*first, *last))


def read(kernel: FakeKernel) -> Ruleset:
    state = kernel.read(with_grants=False)
    assert state is not None
    return state.ruleset


def held(kernel: FakeKernel, ruleset: Ruleset) -> dict[str, frozenset[Element]]:
    """The elements as they were given, cgroups by their numbers."""
    return {
        named.name: kernel.elements(named.name) for named in ruleset.sets if not named.holds_grants
    }


def elements(ruleset: Ruleset) -> dict[str, frozenset[Element]]:
    return {n.name: n.elements or frozenset() for n in ruleset.sets if not n.holds_grants}


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    """A golden case's, or that of some policy on some machine."""
    uplinks = draw(st.frozensets(st.sampled_from(["br-lan", "br-wan"])))
    paths = st.sampled_from(["engines.slice", "system.slice/docker.service"])
    cgroups = {
        CgroupElement(path, path.count("/") + 1, inode)
        for path, inode in draw(st.sets(st.tuples(paths, st.integers(1, 3))))
    }
    machine = Machine(uplinks, {ScopeName.ENGINES: frozenset(cgroups)})
    if draw(st.booleans()):
        return draw(st.sampled_from(CASES)).compile(machine)
    modes = [draw(st.sampled_from(["strict", "off"])) for _ in ScopeName]
    body = "".join(
        f'[scopes.{scope}]\nmode = "{mode}"\n' for scope, mode in zip(ScopeName, modes, strict=True)
    )
    body += f'[enforcement]\nmode = "{draw(st.sampled_from(["enforce", "audit"]))}"\n'
    if draw(st.booleans()):
        body += '[[allow]]\naddress = "10.0.0.0/24"\nports = [514]\nscopes = ["engines"]\n'
    meant = policy(body, *draw(st.lists(st.sampled_from(NAMES), unique=True)))
    ids = draw(st.permutations(range(16, 24)))
    entries = [
        NumberedEntry(entry_id, entry.label, entry.digest)
        for entry_id, entry in zip(ids, meant.entries, strict=False)
    ]
    return compile_ruleset(meant, machine, entries)


@given(rulesets(), rulesets())
@settings(max_examples=200)
def test_the_difference_leads_to_what_is_desired_and_then_nothing_differs(
    actual: Ruleset, desired: Ruleset
) -> None:
    kernel = loaded(actual)
    change(kernel, desired, actual)
    believed = after(desired, actual)
    assert held(kernel, desired) == elements(believed), "what is believed is what is there"
    assert read(kernel) == believed.as_read()
    assert diff(desired, believed) == SAME
    assert diff(desired.as_read(), read(kernel)) == SAME


@given(rulesets(), rulesets())
@settings(max_examples=100)
def test_the_difference_to_what_a_listing_tells_leads_there_too(
    actual: Ruleset, desired: Ruleset
) -> None:
    """A daemon that starts again knows no inodes, only paths."""
    kernel = loaded(actual)
    change(kernel, desired, read(kernel))
    assert diff(desired.as_read(), read(kernel)) == SAME
    for name, wanted in elements(desired).items():
        assert wanted <= kernel.elements(name)


@given(rulesets())
def test_a_ruleset_does_not_differ_from_itself(ruleset: Ruleset) -> None:
    assert diff(ruleset, ruleset) == SAME
    assert diff(ruleset.as_read(), ruleset.as_read()) == SAME
    assert after(ruleset, ruleset) == ruleset


@given(rulesets(), rulesets())
def test_a_ruleset_that_shares_another_s_parts_is_the_same(one: Ruleset, other: Ruleset) -> None:
    shared = one.sharing(other)
    assert shared == one
    held = {chain.name: chain for chain in other.chains}
    for chain in shared.chains:
        assert chain is held.get(chain.name) or chain != held.get(chain.name)
    again = replace(one, chains=tuple(replace(chain) for chain in one.chains))
    mine = again.sharing(one)
    assert all(a is b for a, b in zip(mine.chains, one.chains, strict=True))
    assert all(a is b for a, b in zip(mine.sets, one.sets, strict=True))


def simple(**changes: object) -> Ruleset:
    base = Ruleset(
        chains=(
            Chain("refusal", ((ACCEPT,),)),
            Chain("judge", ((Count("seen"), goto("refusal")),), Hook("output", -150)),
        ),
        sets=(NamedSet("uplinks", ("ifname",), elements=frozenset({"br-lan"})),),
        counters=frozenset({"seen"}),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_chain_that_does_not_differ_is_not_touched() -> None:
    refusal, judge = simple().chains
    other = replace(judge, rules=((ACCEPT,),))
    first, last = diff(simple(chains=(refusal, other)), simple())
    assert first == (FlushChain("judge"), AddRule("judge", (ACCEPT,)))
    assert last == ()


def test_an_entry_that_has_another_comment_is_taken_out_before_it_is_put_in() -> None:
    def entry(comment: str) -> Ruleset:
        known = frozenset({NumberedElement(16, comment), NumberedElement(17, "other")})
        return Ruleset((), (NamedSet("connections", (IDS,), elements=known),), frozenset())

    first, last = diff(entry("new"), entry("old"))
    assert first == (
        DeleteElements("connections", frozenset({NumberedElement(16, "old")})),
        AddElements("connections", frozenset({NumberedElement(16, "new")})),
    )
    assert last == ()


def test_only_the_elements_that_differ_are_sent() -> None:
    other = NamedSet("uplinks", ("ifname",), elements=frozenset({"br-wan"}))
    first, last = diff(simple(sets=(other,)), simple())
    assert set(first) == {
        AddElements("uplinks", frozenset({"br-wan"})),
        DeleteElements("uplinks", frozenset({"br-lan"})),
    }
    assert last == ()


def kinds(operations: tuple[Operation, ...]) -> list[type]:
    return [type(operation) for operation in operations]


def test_without_a_table_all_is_made() -> None:
    first, last = diff(simple(), None)
    assert kinds(first)[0] is AddTable
    assert DeleteTable not in kinds(first)
    assert last == ()
    assert not replaces_table(first)


@pytest.mark.parametrize(
    "actual",
    [
        simple(foreign=frozenset({"flags dormant"})),
        simple(chains=(simple().chains[0], replace(simple().chains[1], hook=Hook("output", 0)))),
        simple(chains=(simple().chains[0], replace(simple().chains[1], hook=None))),
        simple(chains=(simple().chains[0], replace(simple().chains[1], policy="drop"))),
        simple(chains=(replace(simple().chains[0], comment="other"), simple().chains[1])),
        simple(sets=(NamedSet("uplinks", ("mark",), elements=frozenset({1})),)),
        simple(sets=(NamedSet("uplinks", ("ifname",), frozenset({"interval"})),)),
        simple(sets=(NamedSet("uplinks", ("ifname",), counted=True),)),
    ],
    ids=["dormant", "priority", "hook", "policy", "comment", "type", "flags", "counter"],
)
def test_what_cannot_be_changed_in_place_is_made_anew_in_one_batch(actual: Ruleset) -> None:
    first, last = diff(simple(), actual)
    assert kinds(first)[:2] == [DeleteTable, AddTable]
    assert replaces_table(first)
    assert last == ()
    assert after(simple(), actual) == simple()
    kernel = loaded(replace(actual, foreign=frozenset()))
    kernel.run(first)
    assert read(kernel) == simple().as_read()


def test_what_somebody_added_goes() -> None:
    kernel = loaded(
        simple(
            chains=(
                *simple().chains,
                Chain("theirs", ((goto("refusal"),),), Hook("output", 5)),
                Chain("empty", ()),
            ),
            sets=(*simple().sets, NamedSet("more", ("mark",), elements=frozenset({1}))),
            counters=frozenset({"seen", "theirs"}),
        )
    )
    change(kernel, simple(), read(kernel))
    assert read(kernel) == simple().as_read()


def with_cgroups(*inodes: int) -> Ruleset:
    found = frozenset(CgroupElement(f"{i}.slice", 1, i) for i in inodes)
    rule = (Match(SocketCgroup(1), SetRef("engines_1")), ACCEPT)
    return simple(
        chains=(Chain("judge", (rule,), Hook("output", -150)),),
        sets=(NamedSet("engines_1", ("cgroupsv2",), elements=found),),
        counters=frozenset(),
    )


def test_a_cgroup_that_is_gone_stays_until_there_are_too_many() -> None:
    few, many = range(2, MOST_STALE_CGROUPS + 2), range(2, MOST_STALE_CGROUPS + 3)
    assert diff(with_cgroups(1), with_cgroups(1, *few)) == SAME
    for desired in (with_cgroups(1), with_cgroups()):
        actual = with_cgroups(1, *many)
        kernel = loaded(actual)
        change(kernel, desired, actual)
        assert kernel.elements("engines_1") == elements(desired)["engines_1"]
        assert after(desired, actual) == desired
        assert all(op.elements for op in kernel.committed[-1] if isinstance(op, AddElements))


def test_a_cgroup_s_set_is_never_emptied_to_be_filled_again() -> None:
    first, last = diff(with_cgroups(2), with_cgroups(1))
    assert first == (AddElements("engines_1", frozenset({CgroupElement("2.slice", 1, 2)})),)
    assert last == ()


def test_a_cgroup_that_was_gone_when_the_table_was_made_anew_is_added_when_it_is_back() -> None:
    """Stale ones are not carried into a new table, so they must not be believed to be there."""
    gone = replace(with_cgroups(), chains=(replace(with_cgroups().chains[0], hook=None),))
    believed = after(gone, with_cgroups(1))
    first, _ = diff(replace(with_cgroups(1), chains=gone.chains), believed)
    assert kinds(first) == [AddElements]


def test_new_things_come_before_what_points_to_them() -> None:
    first, _ = diff(simple(), replace(simple(), chains=(), sets=(), counters=frozenset()))
    order = kinds(first)
    assert order.index(AddRule) > max(i for i, kind in enumerate(order) if kind is AddChain)
