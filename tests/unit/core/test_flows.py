"""Of each new flow the first bytes, put together; a judgement counts when the server took them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramfw.core import flows as module
from ramfw.core.assembly import MAX_GAPS, MAX_STREAM
from ramfw.core.flows import (
    DROP,
    LONGEST_EXPECTED,
    LONGEST_OPENING,
    LONGEST_REFUSED,
    LONGEST_SETTLED,
    LONGEST_SILENCE,
    LONGEST_UNSETTLED,
    MAX_SEGMENTS,
    PASS_ON,
    Expired,
    Flags,
    Flows,
    Judge,
    Reason,
    Refuse,
    Verdict,
)
from ramfw.core.opening import Hello, Opening, Other, Unfinished

FIRST = 0xFFFFFFF0  # the sequence numbers wrap soon
KEY = "client"


def read_name(stream: bytes, _before: Unfinished | None = None) -> Unfinished | Opening:
    """A protocol of the tests: a name, and a dot at its end."""
    end = stream.find(b".") + 1
    return Hello(stream[: end - 1].decode("latin-1"), False, (), end) if end else Unfinished()  # noqa: FBT003


def ended(stream: bytes) -> Opening:
    return Other(stream.decode("latin-1"))


def name_of(verdict: Verdict) -> str | None:
    """The name that is to be judged; None where there is nothing to judge."""
    if not isinstance(verdict, Judge):
        return None
    assert isinstance(verdict.opening, Hello)
    return verdict.opening.server_name


@dataclass
class Story:
    """One flow, and what comes by of it."""

    flows: Flows = field(default_factory=lambda: Flows(read_name, ended))
    now: float = 1000.0

    def opens(self, first: int = FIRST) -> Story:
        self.flows.opened(KEY, first, self.now)
        return self

    def sends(self, offset: int, payload: bytes, **flags: bool) -> Verdict:
        sequence = (FIRST + offset) % (1 << 32)
        return self.flows.segment(KEY, sequence, payload, self.now, Flags(**flags))

    def permits(self) -> bool:
        return self.flows.permitted(KEY, self.now)

    def acknowledges(self, offset: int) -> bool:
        return self.flows.acknowledged(KEY, (FIRST + offset) % (1 << 32), self.now)

    def expires_after(self, seconds: float) -> list[Expired]:
        self.now += seconds
        return self.flows.expire(self.now)


# -- the normal case -----------------------------------------------------------------------------


def test_a_hello_in_one_segment() -> None:
    story = Story().opens()

    assert name_of(story.sends(0, b"ghcr.io.")) == "ghcr"
    assert story.permits()
    assert story.acknowledges(5)
    assert story.flows.held_bytes == 0


def test_a_hello_in_two_segments_in_either_order() -> None:
    """The one that completes it waits; the one before went on, and the server acknowledged it."""
    for places in ((0, 4), (4, 0)):
        story = Story().opens()
        pieces = {0: b"regi", 4: b"stry.more"}

        assert story.sends(places[0], pieces[places[0]]) == PASS_ON
        assert name_of(story.sends(places[1], pieces[places[1]])) == "registry"
        assert story.permits()
        assert [story.acknowledges(at) for at in (4, 8, 9)] == [False, False, True]


def test_a_client_that_waits_for_an_acknowledgement_before_it_goes_on_is_not_stuck() -> None:
    story = Story().opens()

    assert story.sends(0, b"r") == PASS_ON
    assert not story.acknowledges(1)
    assert name_of(story.sends(1, b"egistry.")) == "registry"


def test_a_segment_without_payload_changes_nothing() -> None:
    story = Story().opens()

    assert story.sends(0, b"") == PASS_ON
    assert name_of(story.sends(0, b"a.")) == "a"
    assert story.sends(2, b"") == PASS_ON


def test_a_keepalive_sends_a_byte_from_before_which_no_server_reads() -> None:
    story = Story().opens()

    assert story.sends(-1, b"\0") == PASS_ON
    assert story.sends(-1, b"") == PASS_ON
    assert name_of(story.sends(-3, b"???a.")) == "a"


def test_what_is_sent_again_is_not_judged_again() -> None:
    story = Story().opens()
    story.sends(0, b"regi")

    assert story.sends(0, b"regi") == PASS_ON
    assert name_of(story.sends(2, b"gistry.")) == "registry"
    assert story.sends(0, b"registry.") == DROP  # it is being judged
    assert story.permits()
    assert story.sends(0, b"registry.") == PASS_ON
    assert story.sends(9, b"whatever comes behind") == PASS_ON
    assert story.sends(20, b"is the client's own") == PASS_ON
    assert story.acknowledges(30)


def test_packets_that_were_on_their_way_when_the_flow_was_settled_pass() -> None:
    story = Story().opens()
    story.sends(0, b"a.")
    story.permits()
    assert story.acknowledges(2)
    assert not story.acknowledges(2)

    assert story.sends(0, b"a.") == PASS_ON
    assert story.sends(2, b"b") == PASS_ON
    assert story.expires_after(LONGEST_SETTLED) == []
    assert story.sends(3, b"c") == Refuse(Reason.UNSEEN)


# -- the attacks ---------------------------------------------------------------------------------


def test_a_decoy_that_the_server_never_takes_does_not_settle_the_flow() -> None:
    """permitted. dies on the way; then refused. comes for the same place."""
    story = Story().opens()
    assert name_of(story.sends(0, b"permitted.")) == "permitted"
    assert story.permits()

    assert not story.acknowledges(0)
    assert story.sends(0, b"refused...") == Refuse(Reason.CONFLICT)
    assert not story.acknowledges(10)
    assert story.sends(0, b"permitted.") == Refuse(Reason.CONFLICT)


def test_a_decoy_in_pieces_is_found_at_its_first_different_byte() -> None:
    story = Story().opens()

    assert story.sends(0, b"perm") == PASS_ON
    assert story.sends(3, b"Mitted.") == Refuse(Reason.CONFLICT)


def test_a_decoy_beyond_a_gap_counts_too() -> None:
    overlapping, same_place, filled = Story().opens(), Story().opens(), Story().opens()
    for story in (overlapping, same_place, filled):
        assert story.sends(4, b"itted.") == PASS_ON

    assert overlapping.sends(2, b"rmXt") == Refuse(Reason.CONFLICT)
    assert same_place.sends(4, b"ittex.") == Refuse(Reason.CONFLICT)
    assert filled.sends(0, b"refused...") == Refuse(Reason.CONFLICT)


def test_bytes_from_before_the_connection_are_no_part_of_it() -> None:
    """The server would acknowledge its own place to them, which looks like taking them."""
    story = Story().opens()

    assert story.sends(-10, b"permitted.") == PASS_ON
    assert not story.acknowledges(0)
    assert name_of(story.sends(0, b"refused.")) == "refused"


def test_a_flow_whose_beginning_was_not_seen_is_refused() -> None:
    story = Story()

    assert story.sends(0, b"a.") == Refuse(Reason.UNSEEN)
    assert not story.permits()
    assert not story.acknowledges(2)
    assert name_of(story.opens().sends(0, b"a.")) == "a"


def test_urgent_data_ends_a_flow_even_without_payload() -> None:
    """The receiver takes the urgent byte out of the stream: gXhcr.io becomes ghcr.io."""
    for payload in (b"", b"gXhcr."):
        story = Story().opens()
        assert story.sends(0, payload, urgent=True) == Refuse(Reason.URGENT)
        assert story.sends(0, b"a.") == Refuse(Reason.URGENT)

    later = Story().opens()
    later.sends(0, b"a.")
    later.permits()
    assert later.sends(2, b"", urgent=True) == Refuse(Reason.URGENT)


def test_data_in_a_syn_waits_for_the_plain_one() -> None:
    story = Story()

    assert story.sends(0, b"a.", syn=True) == DROP
    assert name_of(story.opens().sends(0, b"b.")) == "b"


def test_an_acknowledgement_of_what_never_passed_is_not_believed() -> None:
    story = Story().opens()
    story.sends(0, b"a.")
    story.permits()

    assert story.sends(9, b"") == PASS_ON
    assert not story.acknowledges(4)
    assert story.acknowledges(3)  # its FIN


def test_another_connection_on_the_same_ports_is_judged_anew() -> None:
    story = Story().opens()
    story.sends(0, b"permitted.")
    story.permits()
    story.acknowledges(10)

    story.opens(FIRST - 10)
    assert story.sends(-10, b"refused") == PASS_ON
    assert name_of(story.sends(-3, b".")) == "refused"


def test_the_same_handshake_told_again_changes_nothing() -> None:
    story = Story().opens()
    story.sends(0, b"ab")

    assert name_of(story.opens().sends(2, b".")) == "ab"


def test_a_refused_flow_stays_refused() -> None:
    story = Story().opens()
    story.sends(0, b"refused.")
    story.flows.refused(KEY, story.now)

    assert not story.permits()
    assert story.sends(0, b"refused.") == Refuse(Reason.NOT_PERMITTED)
    assert story.sends(8, b"more") == Refuse(Reason.NOT_PERMITTED)
    assert not story.acknowledges(8)
    story.flows.refused(KEY, story.now, Reason.CONFLICT)
    assert story.sends(8, b"more") == Refuse(Reason.NOT_PERMITTED)


def test_a_request_that_the_stream_ends_in_is_judged_unfinished() -> None:
    """Some servers answer it: half a line, and then no more."""
    with_payload, alone = Story().opens(), Story().opens()

    assert with_payload.sends(0, b"half", fin=True) == Judge(Other("half"))
    assert alone.sends(0, b"half") == PASS_ON
    assert alone.sends(4, b"", fin=True) == Judge(Other("half"))
    assert alone.sends(4, b"", fin=True) == DROP
    assert alone.sends(4, b"") == PASS_ON
    assert alone.permits()
    assert alone.sends(4, b"", fin=True) == PASS_ON
    assert not alone.acknowledges(4)
    assert alone.acknowledges(5)


def test_a_decoy_of_an_end_is_found_out_by_what_comes_behind_it() -> None:
    story = Story().opens()
    assert story.sends(0, b"half", fin=True) == Judge(Other("half"))
    assert story.permits()

    assert not story.acknowledges(4)
    assert story.sends(4, b"refused.") == Refuse(Reason.CONFLICT)


def test_the_end_of_what_is_whole_or_empty_is_nothing_to_judge() -> None:
    whole, empty, later = Story().opens(), Story().opens(), Story().opens()

    assert name_of(whole.sends(0, b"a.", fin=True)) == "a"
    assert empty.sends(0, b"", fin=True) == PASS_ON
    assert name_of(later.sends(0, b"a.")) == "a"
    assert later.permits()
    assert later.sends(2, b"", fin=True) == PASS_ON


def test_an_end_beyond_a_gap_is_asked_for_again() -> None:
    story = Story().opens()

    assert story.sends(1, b".", fin=True) == DROP
    assert story.sends(1, b"", fin=True) == DROP
    assert story.sends(0, b"a") == PASS_ON
    assert name_of(story.sends(1, b".", fin=True)) == "a"


# -- bounds --------------------------------------------------------------------------------------


def test_what_never_becomes_whole_is_refused() -> None:
    story = Story().opens()
    story.now += 200
    story.sends(0, b"a")
    due = story.now + LONGEST_OPENING
    story.now += 5
    story.sends(1, b"b")

    assert story.flows.next_deadline() == due
    assert story.expires_after(4.9) == []
    assert story.expires_after(0.1) == [Expired(KEY, Reason.TOO_SLOW)]
    assert story.sends(2, b".") == Refuse(Reason.TOO_SLOW)
    assert story.expires_after(LONGEST_REFUSED) == []
    assert story.sends(2, b".") == Refuse(Reason.UNSEEN)
    assert len(story.flows) == 0
    assert story.flows.next_deadline() is None


def test_what_is_not_judged_or_never_taken_is_refused() -> None:
    asked, unsettled = Story().opens(), Story().opens()
    asked.sends(0, b"a.")
    unsettled.sends(0, b"a.")
    unsettled.permits()

    assert asked.expires_after(LONGEST_OPENING) == [Expired(KEY, Reason.NOT_JUDGED)]
    assert not asked.permits()
    assert unsettled.expires_after(LONGEST_UNSETTLED - 1) == []
    assert unsettled.expires_after(1) == [Expired(KEY, Reason.NOT_TAKEN)]
    assert not unsettled.acknowledges(2)


def test_what_the_server_will_acknowledge_is_told_of_what_waits_for_its_judgement() -> None:
    story = Story().opens()
    assert story.flows.expected(KEY, story.now) == 0, "nothing was judged"
    story.sends(0, b"ab")
    story.sends(2, b".behind")

    assert story.flows.expected(KEY, story.now) == (FIRST + 3) % (1 << 32)
    assert story.flows.expected(KEY, story.now) == 0, "it waits no longer"
    assert story.sends(0, b"abx") == Refuse(Reason.CONFLICT), (
        "until it is settled nothing may differ"
    )


def test_what_the_kernel_was_to_settle_is_settled_by_copies_where_it_did_not() -> None:
    story, quiet = Story().opens(), Story().opens()
    for one in (story, quiet):
        one.sends(0, b"ab.")
        one.flows.expected(KEY, one.now)
    assert story.sends(3, b"more") == PASS_ON

    assert quiet.expires_after(LONGEST_EXPECTED) == [], "the latest are remembered longer"
    assert not story.acknowledges(2)
    assert story.acknowledges(7)
    assert quiet.acknowledges(3)


def test_what_the_kernel_has_settled_long_since_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ramfw.core.flows.MOST_EXPECTED", 1)
    flows = Flows(read_name, ended)
    for key in ("first", "second", "third"):
        flows.opened(key, 0, 0)
        flows.segment(key, 0, b"a.", 0)
        assert flows.expected(key, 0) == 2
    assert flows.next_deadline() == LONGEST_EXPECTED
    assert flows.expire(LONGEST_EXPECTED) == [Expired("first", None), Expired("second", None)]
    assert flows.next_deadline() == LONGEST_UNSETTLED
    assert flows.expire(LONGEST_UNSETTLED) == [Expired("third", None)]
    assert (len(flows), flows.held_bytes) == (0, 0)


def test_what_the_kernel_settles_makes_room_before_others_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ramfw.core.flows.MAX_BYTES", 10)
    flows = Flows(read_name, ended)
    for key in ("reads", "settled", "judged"):
        flows.opened(key, 0, 0)
    flows.segment("reads", 0, b"aaaa", 0)
    flows.segment("settled", 0, b"bbb.", 0)
    assert flows.expected("settled", 0) == 4

    assert isinstance(flows.segment("judged", 0, b"ccc.", 0), Judge)
    assert flows.segment("settled", 4, b"more", 0) == Refuse(Reason.UNSEEN)
    assert flows.segment("reads", 4, b"a", 0) == PASS_ON


def test_a_silent_connection_may_stay_so_for_minutes() -> None:
    patient, too_long = Story().opens(), Story().opens()

    assert patient.expires_after(LONGEST_SILENCE - 1) == []
    assert name_of(patient.sends(0, b"a.")) == "a"
    assert too_long.expires_after(LONGEST_SILENCE) == []
    assert too_long.sends(0, b"a.") == Refuse(Reason.UNSEEN)


def test_too_many_segments_or_bytes_are_refused() -> None:
    pieces, bytes_ = Story().opens(), Story().opens()

    assert all(pieces.sends(at, b"x") == PASS_ON for at in range(MAX_SEGMENTS))
    assert pieces.sends(MAX_SEGMENTS, b"x") == Refuse(Reason.TOO_MANY_SEGMENTS)
    assert bytes_.sends(0, b"x" * (MAX_STREAM - 1)) == PASS_ON
    assert bytes_.sends(MAX_STREAM - 1, b"xy") == Refuse(Reason.TOO_LONG)
    assert pieces.flows.held_bytes == bytes_.flows.held_bytes == 0


def test_a_large_first_segment_is_judged_by_its_beginning() -> None:
    story = Story().opens()

    assert name_of(story.sends(0, b"a." + b"x" * 65000)) == "a"
    assert story.flows.held_bytes == 2
    assert story.permits()
    assert story.acknowledges(65002)


def test_what_waits_beyond_a_gap_is_bounded_and_asked_for_again() -> None:
    places, far = Story().opens(), Story().opens()

    assert all(places.sends(2 * at + 2, b"x") == PASS_ON for at in range(MAX_GAPS))
    assert places.sends(2 * MAX_GAPS + 2, b"x") == DROP
    assert places.sends(0, b"xx") == PASS_ON
    assert far.sends(1, b"x" * MAX_STREAM) == DROP
    assert far.sends(1, b"x" * (MAX_STREAM - 1)) == PASS_ON
    assert far.sends(2, b"xx") == DROP
    assert name_of(far.sends(0, b".")) == ""


def test_the_oldest_loses_its_place_when_all_flows_hold_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    flows = Flows(read_name, ended)
    for key in range(5):
        flows.opened(key, 0, 0)
        assert flows.segment(key, 0, b"x" * 30, 0) == PASS_ON

    assert flows.held_bytes == 90
    assert flows.segment(1, 30, b".", 0) == Refuse(Reason.CROWDED)
    assert name_of(flows.segment(4, 30, b".", 0)) == "x" * 30
    assert flows.segment(4, 0, b"x" * 101, 0) == Refuse(Reason.CONFLICT)
    flows.opened("large", 0, 0)
    assert flows.segment("large", 0, b"x" * 101, 0) == Refuse(Reason.CROWDED)
    assert flows.held_bytes == 0


def test_the_oldest_silent_flow_makes_room_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_FLOWS", 3)
    flows = Flows(read_name, ended)
    for key in range(3):
        flows.opened(key, 0, 0)
    assert name_of(flows.segment(0, 0, b"a.", 0)) == "a"

    flows.opened("new", 0, 0)

    assert len(flows) == 3
    assert flows.segment(1, 0, b"b.", 0) == Refuse(Reason.UNSEEN)
    assert flows.permitted(0, 0)
    assert name_of(flows.segment("new", 0, b"c.", 0)) == "c"


# -- whatever clients do -------------------------------------------------------------------------


def test_end_before_what_came_already_is_a_conflict() -> None:
    """The byte behind the end may be lost on its way: then the server answers what is before."""
    early, judged, rightly = (Story().opens() for _ in range(3))
    assert early.sends(4, b"y") == PASS_ON
    assert early.sends(0, b"half", fin=True) == Refuse(Reason.CONFLICT)
    assert name_of(judged.sends(0, b"whole.")) == "whole"
    assert judged.permits()
    assert judged.sends(0, b"who", fin=True) == Refuse(Reason.CONFLICT)
    assert rightly.sends(4, b"y", fin=False) == PASS_ON
    assert rightly.sends(0, b"half") == PASS_ON
    assert rightly.sends(5, b"", fin=True) == Judge(Other("halfy"))


class Server:
    """What a TCP server takes: of each byte the first copy that reaches it, or the last."""

    def __init__(self, *, keeps_first: bool) -> None:
        self.keeps_first = keeps_first
        self.bytes: dict[int, int] = {}
        self.read = 0  # what the application has, and no copy changes
        self.fin: int | None = None

    def takes(self, offset: int, payload: bytes, *, fin: bool) -> None:
        if self.ended:
            return
        for place, byte in enumerate(payload, offset):
            if place >= self.read and not (self.keeps_first and place in self.bytes):
                self.bytes[place] = byte
        if fin:
            self.fin = offset + len(payload)
        while self.read in self.bytes and not self.ended:
            self.read += 1

    @property
    def ended(self) -> bool:
        return self.read == self.fin

    @property
    def stream(self) -> bytes:
        return bytes(self.bytes[place] for place in range(self.read))


@dataclass(frozen=True)
class Sent:
    """A segment, and whether it gets from ramfw to the server."""

    offset: int
    text: str
    arrives: bool
    fin: bool = False


SENT = st.builds(
    Sent,
    st.integers(-3, 12),
    st.text("abp.", max_size=6),
    st.booleans(),
    st.integers(0, 5).map(lambda number: number == 0),
)
SEGMENTS = st.lists(SENT, max_size=14)


@given(SEGMENTS, st.booleans(), st.booleans())
def test_no_server_takes_another_opening_than_the_one_that_was_judged(
    segments: list[Sent],
    keeps_first: bool,  # noqa: FBT001
    acknowledges: bool,  # noqa: FBT001
) -> None:
    """Anyone sends anything, of which any part is lost on its way behind ramfw."""
    story, server, settled = Story().opens(), Server(keeps_first=keeps_first), False
    judged = b""
    for sent in segments:
        verdict = story.sends(sent.offset, sent.text.encode(), fin=sent.fin)
        if isinstance(verdict, Judge):
            judged = (
                verdict.opening.protocol.encode()
                if isinstance(verdict.opening, Other)
                else f"{name_of(verdict)}.".encode()
            )
            if not judged.startswith(b"p"):
                story.flows.refused(KEY, story.now)
                continue
            assert story.permits()
        elif verdict != PASS_ON:
            continue
        if sent.arrives:
            server.takes(sent.offset, sent.text.encode(), fin=sent.fin)
        answers = b"." in server.stream or (server.ended and server.stream != b"")
        assert not answers or (server.stream.startswith(judged) and judged.startswith(b"p"))
        if acknowledges and not settled:
            settled = story.acknowledges(server.read + server.ended)
            assert answers or not settled


@given(SEGMENTS)
def test_what_is_held_is_counted(segments: list[Sent]) -> None:
    story = Story().opens()
    for sent in segments:
        verdict = story.sends(sent.offset, sent.text.encode(), fin=sent.fin)
        if isinstance(verdict, Judge) and sent.arrives:
            story.permits()
        flow = story.flows._flows[KEY]
        assert story.flows.held_bytes == flow.size
        assert sum(map(len, story.flows._by_state.values())) == 1
        assert story.flows._by_state[flow.state] == {KEY: flow}


@given(st.lists(st.integers(1, 9), max_size=9), st.randoms(use_true_random=False))
def test_a_hello_cut_anywhere_in_any_order_is_the_same(sizes: list[int], random: Random) -> None:
    name = b"registry-with-a-long-name.example"
    stream = name.replace(b".", b"-") + b"."
    ends = [min(sum(sizes[:at]), len(stream)) for at in range(len(sizes) + 1)] + [len(stream)]
    pieces = [(start, stream[start:end]) for start, end in pairwise(ends)]
    pieces = [piece for piece in pieces if piece[1]]
    random.shuffle(pieces)
    story = Story().opens()

    verdicts = [story.sends(*piece) for piece in pieces]

    assert name_of(verdicts[-1]) == stream[:-1].decode()
    assert set(map(type, verdicts[:-1])) <= {type(PASS_ON)}
