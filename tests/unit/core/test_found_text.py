"""What was found outlives the daemon, and a bad file is only told."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.found_text import read, write
from ramfw.core.probe import Found, Place
from ramfw.core.registry_check import Evidence

NOW, DAY = 5000.0, 1_800_000_000.0
NAMED = Found(
    Place("registry.example", ip_address("203.0.113.1").packed, 443),
    Evidence.HEADER,
    NOW - 60,
    everywhere=True,
)
UNNAMED = Found(Place("", ip_address("2001:db8::1").packed, 5000), Evidence.EMPTY, NOW - 10)
TEXT = write((UNNAMED, NAMED), NOW, DAY)


def test_it_is_read_as_it_was_written_on_another_clock() -> None:
    later = 100.0
    unnamed, named = read(TEXT, later, DAY + 30)
    assert (named.place, named.evidence, named.everywhere) == (
        NAMED.place,
        Evidence.HEADER,
        True,
    )
    assert later - named.when == 90
    assert (unnamed.place, unnamed.everywhere) == (UNNAMED.place, False)
    assert later - unnamed.when == 40


def test_a_clock_that_was_set_back_makes_nothing_last_longer_than_if_it_were_found_now() -> None:
    assert [one.when for one in read(TEXT, NOW, 0.0)] == [NOW, NOW]


def row(**changes: object) -> str:
    kept = json.loads(TEXT)
    kept["registries"][1] |= changes
    return json.dumps(kept)


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "null", "[" * 100_000, '{"version":2,"registries":[]}',
        '{"version":1,"registries":[1]}', '{"version":1,"registries":{"a":1}}',
        row(name=1), row(name=""), row(port=0), row(port="443"), row(port=70_000),
        row(address="nowhere"), row(address=None), row(evidence="because"), row(everywhere=1),
        row(found_at="now"), row(found_at=None), row(found_at=[]),
    ],
)  # fmt: skip
def test_what_was_not_written_so_is_told(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        read(text, NOW, DAY)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(
            ["version", "registries", "name", "port", "found_at"]), inner),
    )
)  # fmt: skip
def test_whatever_is_in_the_file_only_one_error_is_raised(value: object) -> None:
    for kept in (value, {"version": 1, "registries": value}):
        try:
            read(json.dumps(kept), NOW, DAY)
        except ValueError:
            continue
