"""When names are asked for: at once, before their TTL ends, and after failures ever more rarely."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core.events import Answer, Resolved, ServerReply
from ramfw.core.names import FIRST_RETRY, LAST_RETRY, REFRESH_AT, Names

HUB, GHCR = "hub.example", "ghcr.example"
SERVER = "192.0.2.53"


def good(name: str, *ttls: int) -> Resolved:
    answers = tuple(
        Answer(ip_address(f"192.0.2.{n}"), ttl, SERVER) for n, ttl in enumerate(ttls, start=1)
    )
    return Resolved(name, answers, (ServerReply(SERVER, "ok"),))


def failed(name: str) -> Resolved:
    return Resolved(name, (), (ServerReply(SERVER, "timeout"),))


def following(*names: str, jitter: float = 1.0) -> Names:
    followed = Names(lambda: jitter)
    followed.replace(names, now=0)
    return followed


def due(names: Names, name: str = HUB) -> float:
    state = names.state(name)
    assert state is not None
    return state.due


def test_new_names_are_asked_for_at_once_and_each_once() -> None:
    names = following(HUB, GHCR)
    assert names.next_due() == 0
    assert names.take_due(0) == [GHCR, HUB]
    assert names.take_due(1000) == []
    assert names.next_due() is None


def test_a_name_is_asked_again_before_the_shortest_ttl_ends() -> None:
    names = following(HUB)
    names.take_due(0)
    names.answered(good(HUB, 300, 100), now=2)
    assert due(names) == names.next_due() == 2 + 100 * REFRESH_AT
    assert names.take_due(due(names) - 0.01) == []
    assert names.take_due(due(names)) == [HUB]


@given(st.floats(0, 1), st.integers(0, 100_000))
def test_jitter_asks_earlier_and_never_later(jitter: float, ttl: int) -> None:
    names = following(HUB, jitter=jitter)
    names.answered(good(HUB, ttl), now=0)
    counted = min(max(ttl, 10), 3600)
    assert 0.899 * REFRESH_AT * counted <= due(names) <= REFRESH_AT * counted


def test_failures_are_tried_again_less_and_less_often_until_one_answers() -> None:
    names = following(HUB)
    now, waits = 0.0, []
    for _ in range(2000):
        assert names.take_due(now) == [HUB]
        state = names.answered(failed(HUB), now)
        assert state is not None
        waits.append(state.due - now)
        now = state.due
    assert waits[:6] == pytest.approx([2, 4, 8, 16, 32, 60])
    assert waits[0] == FIRST_RETRY
    assert {round(wait, 6) for wait in waits[6:]} == {LAST_RETRY}
    state = names.answered(good(HUB, 100), now)
    assert state is not None
    assert (state.failures, state.last_good) == (0, now)


def test_a_failure_keeps_when_the_last_good_answer_was_and_what_servers_said() -> None:
    names = following(HUB)
    names.answered(good(HUB, 100), now=5)
    state = names.answered(failed(HUB), now=80)
    assert state is not None
    assert (state.last_good, state.failures) == (5, 1)
    assert state.replies == (ServerReply(SERVER, "timeout"),)


def test_all_are_tried_once_the_last_one_answered_or_failed() -> None:
    names = following(HUB, GHCR)
    assert not names.all_tried()
    names.answered(good(HUB, 100), now=0)
    assert not names.all_tried()
    names.answered(failed(GHCR), now=0)
    assert names.all_tried()


def test_names_that_stay_keep_their_time_and_those_that_go_are_told() -> None:
    names = following(HUB, GHCR)
    names.take_due(0)
    names.answered(good(HUB, 100), now=0)
    assert names.replace([HUB, "new.example"], now=10) == {GHCR}
    assert due(names) == 100 * REFRESH_AT
    assert names.take_due(10) == ["new.example"]
    assert names.answered(good(GHCR, 100), now=11) is None, "nobody follows it any more"
    assert names.state(GHCR) is None


def test_other_servers_are_asked_at_once() -> None:
    names = following(HUB)
    names.take_due(0)
    names.answered(good(HUB, 1000), now=0)
    names.ask_all(now=50)
    assert names.next_due() == 50
    assert names.take_due(50) == [HUB]
    names.answered(good(HUB, 1000), now=51)
    assert names.take_due(51 + 1000 * REFRESH_AT - 1) == [], "the time of before does not count"


def test_an_answer_of_the_servers_of_before_does_not_spare_the_new_ones_the_question() -> None:
    names = following(HUB)
    names.take_due(0)
    names.ask_all(now=1)
    assert names.take_due(1) == [], "a question is under way"
    names.answered(good(HUB, 1000), now=2)
    assert names.take_due(2) == [HUB]
    names.answered(good(HUB, 1000), now=3)
    assert names.take_due(100) == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0, 100)),
        st.tuples(st.just("answer"), st.integers(0, 400)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("servers"), st.just(0)),
        st.tuples(st.just("reload"), st.just(0)),
    ),
    max_size=40,
)


@given(STEPS, st.floats(0, 1))
def test_a_name_is_never_asked_twice_at_once_and_never_forgotten(
    steps: list[tuple[str, float]], jitter: float
) -> None:
    names, now, under_way = following(HUB, GHCR, jitter=jitter), 0.0, list[str]()
    for what, number in steps:
        match what:
            case "wait":
                now += number
            case "answer" if under_way:
                names.answered(good(under_way.pop(0), int(number)), now)
            case "fail" if under_way:
                names.answered(failed(under_way.pop(0)), now)
            case "servers":
                names.ask_all(now)
            case "reload":
                assert names.replace([HUB, GHCR], now) == set()
        next_due = names.next_due()
        asked = names.take_due(now)
        assert bool(asked) == (next_due is not None and next_due <= now)
        under_way += asked
        assert len(under_way) == len(set(under_way))
        assert (names.next_due() is None) == (set(under_way) == {HUB, GHCR}), "all have a time"
