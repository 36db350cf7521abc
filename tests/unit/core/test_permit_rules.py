"""An id is written into a mark bit by bit, and nobody takes a half-written one for an id."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ramfw.core.marks import ALL_BITS, FIRST_ENTRY_ID, LAST_ID, TOLD, UNSETTLED, WRITING, MarkLayout
from ramfw.core.permit_rules import awaits_id, permit_chain, verdict_chain
from ramfw.core.ruleset import DROP, Field, Masked, Match, SetMark, SetRef, Tag, Untag, jump

LAYOUTS = st.builds(MarkLayout, st.integers(0, 16).map(lambda shift: 0xFFFF << shift))
IDS_OF_ENTRIES = st.integers(FIRST_ENTRY_ID, LAST_ID)


def written(layout: MarkLayout, priority: int, mark: int) -> list[int]:
    """What the mark is before the chain's first rule and after each, as the kernel would do it."""
    seen = [mark]
    for rule in permit_chain(layout).rules:
        for statement in rule:
            match statement:
                case Match(Masked(Field.PRIORITY, bits), int() as value):
                    if priority & bits != value:
                        break
                case SetMark(kept, value):
                    seen.append(seen[-1] & kept | value)
                case _:
                    assert statement == Match(Field.PRIORITY, SetRef("connections"))
    return seen


@given(LAYOUTS, IDS_OF_ENTRIES, st.integers(0, ALL_BITS))
@example(MarkLayout(0xFFFF), LAST_ID, ALL_BITS)
def test_the_id_is_written_whole_and_other_people_s_bits_are_left(
    layout: MarkLayout, entry_id: int, before: int
) -> None:
    *_, after = seen = written(layout, entry_id, before)
    assert after == before & layout.others | layout.value(entry_id)
    assert {mark & layout.others for mark in seen} == {before & layout.others}


@given(LAYOUTS, IDS_OF_ENTRIES, st.integers(0, ALL_BITS))
def test_a_half_written_id_is_no_id(layout: MarkLayout, entry_id: int, before: int) -> None:
    being_written = layout.value(WRITING)
    half_way = written(layout, entry_id, before)[1:-1]
    assert half_way
    assert all(mark & being_written == being_written for mark in half_way)


def test_no_id_looks_half_written() -> None:
    states = {TOLD, *(state for states in UNSETTLED.values() for state in states)}
    beyond = sorted(state for state in states if state > LAST_ID)
    assert beyond == list(range(LAST_ID + 1, WRITING)), "none is left unused"
    assert not any(state & WRITING == WRITING for state in (LAST_ID, *states))


@pytest.mark.parametrize("beyond", [WRITING, 0xFFFF])
def test_what_is_no_id_never_gets_whole(beyond: int) -> None:
    layout = MarkLayout(0xFFFF)
    assert written(layout, beyond, 0)[-1] & WRITING == WRITING


def test_a_packet_that_overtook_its_flow_s_id_is_dropped_and_not_reset() -> None:
    layout = MarkLayout(0x00FFFF00)
    assert awaits_id(layout) == (
        Match(Masked(Field.CT_MARK, 0x00C00000), 0x00C00000),
        Match(Field.CT_STATE, frozenset({"established"})),
        DROP,
    )


def test_a_verdict_s_id_is_looked_up_and_never_taken_as_it_is() -> None:
    first, look_up, permit, last = verdict_chain(MarkLayout(0xFFFF)).rules
    assert first == last == (Untag(),)
    assert look_up == (Tag((Masked(Field.META_MARK, 0xFFFF),), "verdict_ids"),)
    assert permit == (Match(Field.PRIORITY, "none", negated=True), jump("permit"))
