"""Ids under the policy's mask: they come back whole, and leave other people's bits alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.marks import (
    AUDITED,
    FIRST_ENTRY_ID,
    LAST_ID,
    REFUSED,
    RESOLVERS,
    UNDECIDED,
    MarkLayout,
)


@pytest.mark.parametrize(
    ("mask", "shift", "others"),
    [(0x0000FFFF, 0, 0xFFFF0000), (0x00FFFF00, 8, 0xFF0000FF), (0xFFFF0000, 16, 0x0000FFFF)],
)
def test_the_mask_tells_where_an_id_stands(mask: int, shift: int, others: int) -> None:
    layout = MarkLayout(mask)
    assert (layout.shift, layout.others) == (shift, others)
    assert layout.value(0x1234) == 0x1234 << shift


@given(st.integers(0, 16), st.integers(0, LAST_ID), st.integers(0, 0xFFFFFFFF))
def test_an_id_comes_back_from_a_mark_with_other_people_s_bits(
    shift: int, entry_id: int, before: int
) -> None:
    layout = MarkLayout(0xFFFF << shift)
    mark = (before & layout.others) | layout.value(entry_id)
    assert (mark & layout.mask) >> layout.shift == entry_id
    assert mark & layout.others == before & layout.others
    assert mark <= 0xFFFFFFFF


def test_reserved_ids_differ_and_no_entry_can_have_one() -> None:
    reserved = {REFUSED, UNDECIDED, AUDITED, RESOLVERS}
    assert len(reserved) == 4
    assert 0 not in reserved, "no mark at all means not judged"
    assert max(reserved) < FIRST_ENTRY_ID
