"""Entry ids: kept while an entry lives, over restarts too, and not given again too early."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.compiler import Machine, compile_ruleset
from ramfw.core.marks import FIRST_ENTRY_ID
from ramfw.core.numbering import RETIREMENT, Numbering
from ramfw.core.policy import Entry, EntryKind, Policy, ScopeName, Target
from ramfw.core.ruleset import Chain, Ruleset
from tests.unit.core.policies import policy

NOBODY: frozenset[int] = frozenset()
HUB, GHCR, NEXUS = "hub.example", "ghcr.example", "nexus.example"


def entries(*hosts: str) -> tuple[Entry, ...]:
    return policy("", *hosts).entries


def assigned(*hosts: str) -> Numbering:
    numbering = Numbering()
    numbering.assign(entries(*hosts), NOBODY, now=0)
    return numbering


def ids(numbering: Numbering) -> dict[str, int]:
    return {entry.label: entry_id for entry_id, entry in numbering.entries.items()}


def left_by(numbering: Numbering, meant: Policy) -> Ruleset:
    """The table that a daemon with these ids leaves behind, as it is read."""
    retired = [entry for entry, _ in numbering.retired.values()]
    numbered = numbering.numbered.values()
    return compile_ruleset(meant, Machine(), numbered, retired).as_read()


def test_ids_begin_after_the_reserved_ones_in_the_policy_s_order() -> None:
    assert ids(assigned(HUB, GHCR)) == {HUB: FIRST_ENTRY_ID, GHCR: FIRST_ENTRY_ID + 1}


def test_ids_stay_with_their_entries_whatever_their_order() -> None:
    numbering = assigned(HUB, GHCR)
    numbering.assign(entries(NEXUS, GHCR, HUB), NOBODY, now=1)
    assert list(numbering.entries) == list(numbering.numbered) == [18, 17, 16]
    assert ids(numbering) == {NEXUS: 18, GHCR: 17, HUB: 16}
    assert numbering.retired == {}


def test_a_removed_entry_retires_and_its_id_rests_for_a_while() -> None:
    numbering = assigned(HUB, GHCR)
    numbering.assign(entries(GHCR), NOBODY, now=100)
    assert numbering.next_release() == 100 + RETIREMENT
    assert not numbering.release(100 + RETIREMENT - 0.1)
    numbering.assign(entries(GHCR, NEXUS), NOBODY, now=100 + RETIREMENT - 0.1)
    assert ids(numbering)[NEXUS] == 18
    assert numbering.release(100 + RETIREMENT)
    assert numbering.next_release() is None
    numbering.assign(entries(GHCR, HUB), frozenset({16}), now=200)
    assert ids(numbering)[HUB] == 19, "a flow still carries the id, and 18 retires now"
    numbering.release(1000)
    numbering.assign(entries(GHCR, HUB, NEXUS), NOBODY, now=1000)
    assert ids(numbering)[NEXUS] == 16


def test_an_entry_that_comes_back_is_a_new_one() -> None:
    numbering = assigned(HUB)
    numbering.assign((), NOBODY, now=1)
    numbering.assign(entries(HUB), NOBODY, now=2)
    assert ids(numbering) == {HUB: 17}


def with_ports(*ports: int) -> Entry:
    return Entry(EntryKind.HOST, HUB, (Target(HUB, ports),))


def test_an_entry_that_permits_more_keeps_its_id_and_one_that_permits_less_does_not() -> None:
    numbering = Numbering()
    numbering.assign([with_ports(443)], NOBODY, now=0)
    numbering.assign([with_ports(443, 8443)], NOBODY, now=1)
    assert ids(numbering) == {HUB: 16}
    numbering.assign([with_ports(8443)], NOBODY, now=2)
    assert ids(numbering) == {HUB: 17}
    assert set(numbering.retired) == {16}


def test_an_entry_for_fewer_scopes_is_another_one() -> None:
    numbering = Numbering()
    numbering.assign([with_ports(443)], NOBODY, now=0)
    fewer = replace(with_ports(443), scopes=frozenset({ScopeName.HOST}))
    numbering.assign([fewer], NOBODY, now=1)
    assert ids(numbering) == {HUB: 17}


def test_two_entries_that_permit_the_same_both_keep_their_ids() -> None:
    twice = (with_ports(443), replace(with_ports(443), kind=EntryKind.REGISTRY, label="hub"))
    numbering = Numbering()
    numbering.assign(twice, NOBODY, now=0)
    before = ids(numbering)
    numbering.assign(twice, NOBODY, now=1)
    assert ids(numbering) == before == {HUB: 16, "hub": 17}


def test_a_daemon_that_starts_again_takes_over_the_ids_of_the_table() -> None:
    meant = policy("", HUB, GHCR)
    table = left_by(assigned(HUB, GHCR), meant)
    again = Numbering()
    again.adopt(table, now=0)
    again.assign(entries(GHCR, NEXUS, HUB), NOBODY, now=0)
    assert ids(again) == {GHCR: 17, NEXUS: 18, HUB: 16}
    assert left_by(again, policy("", GHCR, NEXUS, HUB)).chains[:3] == table.chains[:3]


def test_what_the_new_policy_leaves_out_of_an_adopted_table_retires() -> None:
    again = Numbering()
    again.adopt(left_by(assigned(HUB, GHCR), policy("", HUB, GHCR)), now=0)
    again.assign(entries(GHCR, NEXUS), NOBODY, now=5)
    assert ids(again) == {GHCR: 17, NEXUS: 18}
    assert again.next_release() == 5 + RETIREMENT


def test_an_entry_that_was_retired_before_the_restart_is_not_brought_back_to_life() -> None:
    before = assigned(HUB, GHCR)
    before.assign(entries(GHCR), NOBODY, now=1)
    again = Numbering()
    again.adopt(left_by(before, policy("", GHCR)), now=50)
    again.assign(entries(GHCR, HUB), NOBODY, now=50)
    assert ids(again) == {GHCR: 17, HUB: 18}
    assert again.next_release() == 50 + RETIREMENT


def test_chains_that_are_no_entry_s_are_left_alone() -> None:
    names = ("entry_4", "entry_x", "entry_", "judge_output", "entry")
    chains = tuple(Chain(name, (), comment="0123456789abcdef x") for name in names)
    numbering = Numbering()
    numbering.adopt(Ruleset(chains, (), frozenset()), now=0)
    numbering.assign(entries(HUB), NOBODY, now=0)
    assert (ids(numbering), numbering.retired) == ({HUB: 16}, {})


RELOADS = st.lists(
    st.tuples(
        st.lists(st.sampled_from([f"h{i}.example" for i in range(6)]), unique=True),
        st.frozensets(st.integers(16, 22), max_size=4),
        st.floats(0, 40),
        st.booleans(),
    ),
    max_size=12,
)


@given(RELOADS)
def test_an_id_is_never_another_entry_s_while_it_is_held_or_retired(
    reloads: list[tuple[list[str], frozenset[int], float, bool]],
) -> None:
    numbering, now, hosts = Numbering(), 0.0, list[str]()
    last: dict[int, tuple[str, float]] = {}
    for wanted, held, seconds, restarts in reloads:
        now += seconds
        numbering.release(now)
        if restarts:
            table = left_by(numbering, policy("", *hosts))
            numbering = Numbering()
            numbering.adopt(table, now)
        before, hosts = ids(numbering), wanted
        numbering.assign(entries(*wanted), held, now)
        after = ids(numbering)
        assert list(after) == wanted
        assert len(set(after.values())) == len(wanted)
        for host, entry_id in after.items():
            if host in before:
                assert entry_id == before[host]
            owner, until = last.get(entry_id, (host, now))
            if owner != host:
                assert entry_id not in held
                assert until + RETIREMENT <= now
        last |= {entry_id: (host, now) for host, entry_id in after.items()}
        assert not set(after.values()) & set(numbering.retired)
