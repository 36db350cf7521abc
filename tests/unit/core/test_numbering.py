"""Entry ids: kept while an entry lives, over restarts too, and not given again too early."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.compiler import compile_ruleset
from ramfw.core.marks import FIRST_ENTRY_ID, LAST_ID
from ramfw.core.numbering import Numbering, OutOfIdsError
from ramfw.core.plan import Machine
from ramfw.core.policy import Entry, EntryKind, Grant, Policy, ScopeName, Target
from ramfw.core.policy_entries import MOST_ENTRIES
from ramfw.core.ruleset import NamedSet, NumberedElement, Ruleset
from tests.unit.core.policies import policy

NOBODY: frozenset[int] = frozenset()
NONE: frozenset[str] = frozenset()
HUB, GHCR, NEXUS = "hub.example", "ghcr.example", "nexus.example"


def entries(*hosts: str) -> tuple[Entry, ...]:
    return policy("", *hosts).entries


def assigned(*hosts: str) -> Numbering:
    numbering = Numbering()
    numbering.assign(entries(*hosts), NOBODY)
    return numbering


def ids(numbering: Numbering) -> dict[str, int]:
    return {entry.label: entry_id for entry_id, entry in numbering.entries.items()}


def left_by(numbering: Numbering, meant: Policy) -> Ruleset:
    """The table that a daemon with these ids leaves behind, as it is read."""
    return compile_ruleset(meant, Machine(), numbering.numbered.values()).as_read()


def known(table: Ruleset) -> set[NumberedElement]:
    """The entries that the table tells."""
    found = (element for named in table.sets for element in named.elements or ())
    return {element for element in found if isinstance(element, NumberedElement)}


def test_ids_begin_after_the_reserved_ones_in_the_policy_s_order() -> None:
    assert ids(assigned(HUB, GHCR)) == {HUB: FIRST_ENTRY_ID, GHCR: FIRST_ENTRY_ID + 1}


def test_ids_stay_with_their_entries_whatever_their_order() -> None:
    numbering = assigned(HUB, GHCR)
    numbering.assign(entries(NEXUS, GHCR, HUB), NOBODY)
    assert list(numbering.entries) == list(numbering.numbered) == [18, 17, 16]
    assert ids(numbering) == {NEXUS: 18, GHCR: 17, HUB: 16}


def test_a_removed_entry_s_id_is_not_given_in_the_same_reload_nor_while_a_flow_carries_it() -> None:
    numbering = assigned(HUB, GHCR)
    numbering.assign(entries(GHCR, NEXUS), NOBODY)
    assert ids(numbering)[NEXUS] == 18, "packets may still be given 16 while this is committed"
    numbering.assign(entries(GHCR, HUB), frozenset({16}))
    assert ids(numbering)[HUB] == 19, "a flow still carries 16, and 18 was another's until now"
    numbering.assign(entries(GHCR, HUB, NEXUS), NOBODY)
    assert ids(numbering)[NEXUS] == 16


def test_an_entry_that_comes_back_is_a_new_one() -> None:
    numbering = assigned(HUB)
    numbering.assign((), NOBODY)
    numbering.assign(entries(HUB), frozenset({16}))
    assert ids(numbering) == {HUB: 17}


def with_ports(*ports: int) -> Entry:
    return Entry(EntryKind.HOST, HUB, (Target(HUB, ports),))


def test_an_entry_that_permits_more_keeps_its_id_and_one_that_permits_less_does_not() -> None:
    numbering = Numbering()
    numbering.assign([with_ports(443)], NOBODY)
    numbering.assign([with_ports(443, 8443)], NOBODY)
    assert ids(numbering) == {HUB: 16}
    numbering.assign([with_ports(8443)], NOBODY)
    assert ids(numbering) == {HUB: 17}


def test_an_entry_for_fewer_scopes_is_another_one() -> None:
    numbering = Numbering()
    numbering.assign([with_ports(443)], NOBODY)
    fewer = replace(with_ports(443), scopes=frozenset({ScopeName.HOST}))
    numbering.assign([fewer], NOBODY)
    assert ids(numbering) == {HUB: 17}


def test_two_entries_that_permit_the_same_both_keep_their_ids() -> None:
    twice = (with_ports(443), replace(with_ports(443), kind=EntryKind.REGISTRY, label="hub"))
    numbering = Numbering()
    numbering.assign(twice, NOBODY)
    before = ids(numbering)
    numbering.assign(twice, NOBODY)
    assert ids(numbering) == before == {HUB: 16, "hub": 17}


ANY = st.builds(
    lambda label, ports, host: Entry(EntryKind.HOST, label, (Target(host, tuple(sorted(ports))),)),
    st.sampled_from("ab"),
    st.frozensets(st.integers(1, 4), max_size=3),
    st.sampled_from(["x.example", "y.example"]),
)


@given(st.lists(ANY, max_size=6), st.lists(ANY, max_size=6))
def test_entries_are_found_again_as_by_comparing_each_with_each(
    earlier: list[Entry], later: list[Entry]
) -> None:
    numbering = Numbering()
    numbering.assign(earlier, NOBODY)
    before = dict(numbering.entries)
    expected: list[int] = []
    for entry in later:
        same = [i for i, old in before.items() if old.grants == entry.grants]
        grown = [
            i
            for i, old in before.items()
            if (old.kind, old.label) == (entry.kind, entry.label) and old.grants <= entry.grants
        ]
        expected.append(next((i for i in same + grown if i not in expected), -1))
    numbering.assign(later, NOBODY)
    found = [i if i in before else -1 for i in numbering.entries]
    assert found == expected


def test_a_changed_policy_of_thousands_of_entries_compares_few_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each entry's grants are made a few times, not once for each other entry."""
    made = 0
    grants: Callable[[Entry], frozenset[Grant]] = vars(Entry)["grants"].fget

    def counting(entry: Entry) -> frozenset[Grant]:
        nonlocal made
        made += 1
        return grants(entry)

    numbering = assigned(*(f"h{n}.example" for n in range(1000)))
    changed = entries(*(f"h{n}.example" for n in range(500, 1500)))
    monkeypatch.setattr(Entry, "grants", property(counting))
    numbering.assign(changed, NOBODY)
    assert list(numbering.entries)[:500] == list(range(516, 1016))
    assert made < 8 * 1000


def test_a_daemon_that_starts_again_takes_over_the_ids_of_the_table() -> None:
    meant = policy("", HUB, GHCR)
    table = left_by(assigned(HUB, GHCR), meant)
    again = Numbering()
    again.adopt(table)
    again.assign(entries(GHCR, NEXUS, HUB), NOBODY)
    assert ids(again) == {GHCR: 17, NEXUS: 18, HUB: 16}
    kept = known(table) & known(left_by(again, policy("", GHCR, NEXUS, HUB)))
    assert {element.entry_id for element in kept} == {4, 16, 17}


def test_what_the_new_policy_leaves_out_of_an_adopted_table_keeps_its_id_from_others() -> None:
    again = Numbering()
    again.adopt(left_by(assigned(HUB, GHCR), policy("", HUB, GHCR)))
    again.assign(entries(GHCR, NEXUS), NOBODY)
    assert ids(again) == {GHCR: 17, NEXUS: 18}


def test_without_a_free_id_nothing_changes() -> None:
    numbering = assigned(HUB)
    with pytest.raises(OutOfIdsError, match="1 entries are new, and 0 ids are free"):
        numbering.assign(entries(HUB, GHCR), frozenset(range(FIRST_ENTRY_ID, LAST_ID + 1)))
    assert ids(numbering) == {HUB: FIRST_ENTRY_ID}


def test_every_entry_of_the_largest_policy_can_be_replaced_at_once() -> None:
    assert 2 * MOST_ENTRIES < LAST_ID - FIRST_ENTRY_ID


@pytest.mark.parametrize("of_no_entry", [0, 4, 15, 0xC000, 0x10010])
def test_what_is_no_entry_s_id_is_not_adopted(of_no_entry: int) -> None:
    digest = next(iter(entries(HUB))).digest
    there = frozenset({NumberedElement(of_no_entry, f"{digest} docker.io")})
    numbering = Numbering()
    numbering.adopt(Ruleset((), (NamedSet("connections", ("classid",), elements=there),), NONE))
    numbering.assign(entries(HUB), NOBODY)
    assert ids(numbering) == {HUB: 16}


def test_an_id_in_another_set_is_not_adopted() -> None:
    digest = next(iter(entries(HUB))).digest
    there = frozenset({NumberedElement(20, f"{digest} docker.io")})
    numbering = Numbering()
    numbering.adopt(Ruleset((), (NamedSet("others", ("classid",), elements=there),), NONE))
    numbering.assign(entries(HUB), NOBODY)
    assert ids(numbering) == {HUB: 16}


RELOADS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([f"h{i}.example" for i in range(6)]), unique=True),
        st.frozensets(st.integers(16, 22), max_size=4),
        st.booleans(),
    ),
    max_size=12,
)


@given(RELOADS)
def test_an_id_is_never_another_entry_s_while_it_is_held_or_in_force(
    reloads: list[tuple[list[str], frozenset[int], bool]],
) -> None:
    numbering, hosts = Numbering(), list[str]()
    for wanted, held, restarts in reloads:
        if restarts:
            table = left_by(numbering, policy("", *hosts))
            numbering = Numbering()
            numbering.adopt(table)
        before, hosts = ids(numbering), wanted
        numbering.assign(entries(*wanted), held)
        after = ids(numbering)
        assert list(after) == wanted
        assert len(set(after.values())) == len(wanted)
        owners = {entry_id: host for host, entry_id in before.items()}
        for host, entry_id in after.items():
            if host in before:
                assert entry_id == before[host]
            elif not restarts:
                assert entry_id not in owners
                assert entry_id not in held
