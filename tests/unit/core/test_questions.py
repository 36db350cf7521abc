"""An answer counts only for a question that was asked: of that server, in every detail."""

from __future__ import annotations

from typing import Any

import pytest

from ramfw.core import questions
from ramfw.core.questions import PATIENCE, Asked, Questions

CLIENT, SERVER = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 53))

ASKED: Asked = (CLIENT, 40_000, SERVER, 17, 0x1234, "hub.example", 1)
PARTS = ("client", "port", "server", "protocol", "ident", "name", "kind")


def asked(**others: Any) -> Asked:  # noqa: ANN401 - the parts are of several types
    """The question with other parts."""
    return tuple(others.get(part, value) for part, value in zip(PARTS, ASKED, strict=True))


def noted(*asked: Asked, now: float = 100.0) -> Questions:
    found = Questions()
    for one in asked:
        found.note(one, now)
    return found


def test_what_was_asked_is_known_until_nobody_waits_for_it_any_more() -> None:
    known = noted(ASKED)
    assert known.was_asked(ASKED, 100.0)
    assert known.was_asked(ASKED, 100.0 + PATIENCE)
    assert not known.was_asked(ASKED, 100.0 + PATIENCE + 0.01)


def test_a_question_that_is_repeated_is_waited_for_anew() -> None:
    known = noted(ASKED)
    known.note(ASKED, 120.0)
    assert known.was_asked(ASKED, 120.0 + PATIENCE)


@pytest.mark.parametrize(
    "other",
    [
        asked(client=bytes((192, 0, 2, 3))),
        asked(client=bytes(12) + CLIENT),
        asked(port=40_001),
        asked(server=bytes((192, 0, 2, 54))),
        asked(protocol=6),
        asked(ident=0x1235),
        asked(name="hub.example.org"),
        asked(kind=28),
    ],
)
def test_what_differs_in_one_thing_was_not_asked(other: Asked) -> None:
    assert not noted(ASKED).was_asked(other, 100.0)
    assert noted(ASKED, other).was_asked(other, 100.0)


def test_the_oldest_is_forgotten_first_and_one_that_was_repeated_is_young(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(questions, "MOST_QUESTIONS", 3)
    one, two, three, four = (asked(ident=number) for number in range(4))
    known = noted(one, two, three, one, four)
    assert [known.was_asked(each, 100.0) for each in (one, two, three, four)] == [
        True,
        False,
        True,
        True,
    ]
