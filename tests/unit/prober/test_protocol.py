"""One line each way, and nothing that a stranger wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.probe import Outcome
from ramfw.core.registry_check import Evidence
from ramfw.prober.protocol import (
    LONGEST_LINE,
    answer,
    question,
    read_answer,
    read_question,
)


@pytest.mark.parametrize("host", ["registry.example", "2001:db8::1", "a" * 253])
def test_a_question_is_read_as_it_was_put(host: str) -> None:
    line = question(host, 5000)
    assert read_question(line) == (host, 5000)
    assert len(line) < LONGEST_LINE


@pytest.mark.parametrize("outcome", [Outcome.OTHER, Outcome.SILENT])
def test_an_answer_is_read_as_it_was_given(outcome: Outcome) -> None:
    assert read_answer(answer(outcome, None)) == (outcome, None)


@pytest.mark.parametrize("evidence", Evidence)
def test_a_registry_comes_with_its_evidence(evidence: Evidence) -> None:
    line = answer(Outcome.REGISTRY, evidence)
    assert read_answer(line) == (Outcome.REGISTRY, evidence)
    assert len(line) < LONGEST_LINE


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"{}\n", b"[]\n", b"[" * 5000, b'"registry"', b"null", b"\xff\n",
        b'{"outcome":"registry","evidence":null}', b'{"outcome":"other","evidence":"HEADER"}',
        b'{"outcome":"unasked","evidence":null}', b'{"outcome":"registry","evidence":"because"}',
        b'{"outcome":"maybe","evidence":null}', b'{"outcome":"other"}',
        b'{"outcome":["other"],"evidence":null}',
        b'{"outcome":"registry","evidence":["HEADER"]}', b'{"outcome":"registry","evidence":{}}',
    ],
)  # fmt: skip
def test_what_is_no_answer_is_none(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        read_answer(line)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{}", b'{"host":1,"port":443}', b'{"host":"a","port":"443"}', b"[]",
        b'{"host":"a","port":0}', b'{"host":"a","port":65536}', b'{"host":"a","port":true}',
    ],
)  # fmt: skip
def test_what_is_no_question_is_none(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        read_question(line)


@given(st.binary(max_size=300))
def test_a_prober_that_was_taken_over_can_say_nothing_else(line: bytes) -> None:
    try:
        outcome, evidence = read_answer(line)
    except ValueError:
        return
    assert (outcome is Outcome.REGISTRY) == isinstance(evidence, Evidence)
