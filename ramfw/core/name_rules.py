"""The rules that show a connection's first bytes to ramfw before they leave.

Pure. A flow to a permitted address is not yet permitted: it is `unsettled`, its ct mark says in
which scope, and each packet of its client that carries data waits in a queue. The daemon's verdict
comes back in the packet's mark and becomes the flow's id, as a rule by the kernel itself when the
server has taken what was judged (`settle_rules`); from then on no packet of it is shown.
The server's SYN-ACK and the first packet with data of its answer are copied: they tell where the
stream begins and what the server has taken. Where that does not tell it (the server spoke first, or
says nothing), the client's next packet with data has the kernel listen: then what acknowledges
alone is copied too. What a container may have forged is not copied: it comes from a bridge, or over
loopback past the output hook.

Without a listener the packets of strict scopes are dropped, so that TCP sends them again until one
is back; in mode `registries`, and where nothing is enforced, they pass, counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from ramfw.core.marks import (
    ANSWERED,
    LISTEN,
    PASSED,
    REFUSED,
    TOLD,
    UNDECIDED,
    UNSETTLED,
    MarkLayout,
)
from ramfw.core.permit_rules import PERMIT_NAMED, verdict_chain, verdict_sets
from ramfw.core.policy import ScopeMode, ScopeName
from ramfw.core.ruleset import (
    ACCEPT,
    DROP,
    VERDICTS,
    Chain,
    Count,
    Dispatch,
    Field,
    FlagsMatch,
    Hook,
    Jump,
    Log,
    Masked,
    Match,
    NamedSet,
    Queue,
    Rule,
    SetMark,
    SetPacketMark,
    SetRef,
    Untag,
    Verdict,
    goto,
    jump,
)
from ramfw.core.settle_rules import (
    brings_number,
    came_late,
    may_settle,
    settle_chains,
    settle_sets,
)

NAMES_PRIORITY = -15
"""After other people's NAT and the DNS watch, before the guard."""
FIRST_BYTES_QUEUE = 5443
SERVER_GROUP = 5443
"""NFQUEUE's number and NFLOG's group; they are the network namespace's own."""
LONGEST_COPY = 120
"""Bytes of a server's packet that are copied: its headers."""

TELLING = "ramfw*"
"""The device by which a refused client is told why (`program.teller`)."""
HEARD_PRIORITY = 300
"""After other people's filters: what comes by here has got through."""

CHECKED = "named"
"""The map from what a verdict brings to what becomes of the flow, where it is no entry's id."""

_HANDSHAKE = frozenset({"fin", "syn", "rst", "ack"})
_BARE = FlagsMatch(_HANDSHAKE | {"psh"}, frozenset({"ack"}))
_DATA = FlagsMatch(_HANDSHAKE | {"psh"}, frozenset({"ack", "psh"}))
_WORDS = range(5, 16)
"""The lengths that a TCP header can have, in words of four bytes (RFC 9293, section 3.1)."""


@dataclass(frozen=True, slots=True)
class Checks:
    """What the compiler knows of the rest."""

    marks: MarkLayout
    modes: dict[ScopeName, ScopeMode]
    """Of the scopes that are enforced."""
    bridges: str
    by_cgroup: tuple[tuple[Match, ...], ...]
    """Matches of sockets of containers on this host's network, which may forge."""
    is_native: bool
    forwards: bool
    audit: bool


def name_sets(checks: Checks, live: Iterable[int]) -> Iterable[NamedSet]:
    """Which flows are unsettled, and where a verdict leads; `live` are the entries' ids."""
    value = checks.marks.value
    unsettled = {
        Jump(value(entry_id), f"name_{scope}", is_mark=True)
        for scope in checks.modes
        for entry_id in UNSETTLED[scope]
    }
    yield NamedSet("unsettled", ("mark",), data=VERDICTS, elements=frozenset(unsettled))
    yield from verdict_sets(checks.marks, live)
    verdicts = {Jump(value(REFUSED), "refuse_name", is_mark=True)}
    verdicts.add(Jump(value(PASSED), "pass_name", is_mark=True))
    if not checks.audit:
        verdicts.add(Jump(value(ANSWERED), "answer_name", is_mark=True))
    for scope in checks.modes:
        verdicts.add(Jump(value(UNSETTLED[scope][0]), f"unread_{scope}", is_mark=True))
        verdicts.add(Jump(value(LISTEN[scope]), f"listen_{scope}", is_mark=True))
    yield from settle_sets(checks.marks, checks.modes)
    yield NamedSet(CHECKED, ("mark",), data=VERDICTS, elements=frozenset(verdicts))


def name_chains(checks: Checks) -> Iterable[Chain]:
    """All chains of the check of names."""
    marks = checks.marks
    reply = Match(Field.CT_DIRECTION, "reply")
    unsettled = Dispatch("unsettled", Masked(Field.CT_MARK, marks.mask))
    # First, because of nearly all packets this is all that is asked.
    is_settled = replace(is_unsettled(marks), negated=True), ACCEPT
    yield Chain("without_data", tuple(_without_data()))
    yield Chain("server_speaks", tuple(_server_speaks(checks)))
    forging: list[Rule] = [(*match, ACCEPT) for match in checks.by_cgroup]
    yield Chain("server_speaks_here", (*forging, (goto("server_speaks"),)))
    yield Chain("undecided", ((set_mark(marks, UNDECIDED),),))
    for scope, mode in checks.modes.items():
        first, _, listening, unread, _ = UNSETTLED[scope]
        waits = mode is ScopeMode.STRICT and not checks.audit
        yield Chain(f"unsettle_{scope}", ((set_mark(marks, first),),))
        yield Chain(f"listen_{scope}", ((set_mark(marks, listening),),))
        # Counted once: it is a connection that passed so, however much it says.
        counted = (marked(marks, unread), Verdict("return"))
        yield Chain(f"unread_{scope}", (counted, (Count("unread"), set_mark(marks, unread))))
        # The mark tells the listener the scope; what the sender had in it is gone, and what it
        # had in the priority, for both may come back with a verdict. An xt target is put into its
        # chain a moment after the other rules: until then nothing passes.
        yield Chain(
            f"name_{scope}",
            (
                (*_on_bridge(Field.OIFNAME, checks.bridges), ACCEPT),
                (jump("without_data"),),
                (SetPacketMark(marks.others, marks.value(first)), Untag()),
                *(((jump("hold_opening"),), (DROP,)) if waits else ((goto("hold_any_opening"),),)),
            ),
        )
    for chain, bypass in (("hold_opening", False), ("hold_any_opening", True)):
        queue = Queue(FIRST_BYTES_QUEUE, checks.is_native, bypass)
        yield Chain(chain, ((Count("openings"), queue),))
    yield Chain("pass_name", ((Count("passed"), set_mark(marks, PASSED)),))
    yield Chain(
        "refuse_name",
        tuple(
            (marked(marks, entry_id), goto(f"refuse_{scope}"))
            for scope in checks.modes
            for entry_id in UNSETTLED[scope]
        ),
    )
    if not checks.audit:
        yield Chain("answer_name", ((jump("refuse_name"),), (set_mark(marks, TOLD),), (DROP,)))
        yield Chain("answered", tuple(_answered(marks)))
        yield from _heard(checks)
    yield Chain("take_mark", ((is_unsettled(marks), goto("take_verdict")), came_late(marks)))
    yield Chain(
        "take_verdict",
        (
            (jump("without_data"),),
            brings_number(marks),
            (Dispatch(CHECKED, Masked(Field.META_MARK, marks.mask)),),
            (is_unsettled(marks), jump(PERMIT_NAMED)),
            (SetPacketMark(marks.others, 0),),
        ),
    )
    yield verdict_chain(marks)
    yield from settle_chains(marks, checks.modes, is_unsettled(marks), CHECKED)
    yield Chain(
        "name_output",
        (is_settled, (reply, goto("server_speaks_here")), (unsettled,)),
        Hook("output", NAMES_PRIORITY),
    )
    yield Chain(
        "name_input",
        (
            (
                is_unsettled(marks),
                reply,
                Match(Field.IIFNAME, "lo", negated=True),
                goto("from_outside"),
            ),
        ),
        Hook("input", NAMES_PRIORITY),
    )
    yield Chain(
        "from_outside",
        ((*_on_bridge(Field.IIFNAME, checks.bridges), ACCEPT), (goto("server_speaks"),)),
    )
    if checks.forwards:
        yield Chain(
            "name_forward",
            (is_settled, (reply, goto("from_outside")), (unsettled,)),
            Hook("forward", NAMES_PRIORITY),
        )


def awaits_no_answer(marks: MarkLayout) -> Rule:
    """The guard's rule for a refused client that was told why, and acknowledges it.

    A reset would run after the answer, and overtake it in clients that look for errors first. What
    sends its data again, which is pushed, was not told.
    """
    return marked(marks, REFUSED), _BARE, DROP


def awaits_answer(marks: MarkLayout) -> Rule:
    """The guard's rule for a refused client that may not have its answer yet."""
    return marked(marks, TOLD), jump("answered")


def unsettled_ids(modes: Iterable[ScopeName]) -> frozenset[int]:
    """The ids of flows whose first bytes are still awaited; the guard lets them pass."""
    return frozenset(entry_id for scope in modes for entry_id in UNSETTLED[scope])


def takes_verdict(marks: MarkLayout) -> Rule:
    """The guard's rule that makes a verdict the flow's id.

    Only of what was shown: packets with data of the client of an unsettled flow. Whoever may set
    marks, theirs was emptied before.
    """
    is_set = Match(Masked(Field.META_MARK, marks.mask), 0, negated=True)
    of_client = Match(Field.CT_DIRECTION, "original")
    return is_set, of_client, jump("take_mark")


def own_question(marks: MarkLayout) -> Rule:
    """The judge's rule that lets ramfw's own questions to unknown hosts pass, unread.

    The daemon sets the mark of their sockets. So could root; a container with CAP_NET_RAW on the
    host's network could too, so this stands behind the rules that know containers by cgroup.
    """
    is_own = Match(Masked(Field.META_MARK, marks.mask), marks.value(PASSED))
    return is_own, set_mark(marks, PASSED), ACCEPT


def is_unsettled(marks: MarkLayout) -> Match:
    """Whether the flow's first bytes are still awaited."""
    return Match(Masked(Field.CT_MARK, marks.mask), SetRef("awaited"))


def set_mark(marks: MarkLayout, entry_id: int) -> SetMark:
    """Give the flow an id."""
    return SetMark(marks.others, marks.value(entry_id))


def marked(marks: MarkLayout, entry_id: int, *, negated: bool = False) -> Match:
    """Whether the flow has this id."""
    return Match(Masked(Field.CT_MARK, marks.mask), marks.value(entry_id), negated)


def _on_bridge(field: Field, bridges: str) -> tuple[Match, ...]:
    return Match(field, SetRef(bridges)), Match(field, SetRef("uplinks"), negated=True)


def _heard(checks: Checks) -> Iterable[Chain]:
    """Show what refused clients were told, where nothing stands between it and them any more."""
    hooks = ("input", "forward") if checks.forwards else ("input",)
    for hook in hooks:
        yield Chain(
            f"told_{hook}",
            (
                (
                    Match(Field.IIFNAME, TELLING),
                    Match(Field.CT_DIRECTION, "reply"),
                    Log(SERVER_GROUP, LONGEST_COPY),
                ),
            ),
            Hook(hook, HEARD_PRIORITY),
        )


def _answered(marks: MarkLayout) -> Iterable[Rule]:
    """Let lie what a client sent again while the answer to it was on its way, but only once.

    A reset in that moment would come before the answer.
    """
    yield _BARE, DROP
    yield (set_mark(marks, REFUSED),)
    yield _DATA, DROP


def _without_data() -> Iterable[Rule]:
    """Accept a packet of headers alone: its length is theirs.

    But not where it ends the stream, nor where it says that a byte of it is urgent: servers differ
    in what they read then.
    """
    for flag in ("fin", "urg"):
        yield FlagsMatch(frozenset({flag}), frozenset({flag})), Verdict("return")
    for words in _WORDS:
        yield (
            Match(Field.TCP_DOFF, words),
            Match(Field.IP_HDRLENGTH, 5),
            Match(Field.IP_LENGTH, 20 + 4 * words),
            ACCEPT,
        )
        yield (
            Match(Field.TCP_DOFF, words),
            Match(Field.IP6_LENGTH, 4 * words),
            Match(Field.IP6_NEXTHDR, "tcp"),
            ACCEPT,
        )


def _server_speaks(checks: Checks) -> Iterable[Rule]:
    marks, copy = checks.marks, Log(SERVER_GROUP, LONGEST_COPY)
    yield FlagsMatch(_HANDSHAKE, frozenset({"syn", "ack"})), copy, ACCEPT
    yield may_settle(marks)
    for scope in checks.modes:
        yield marked(marks, UNSETTLED[scope][2]), copy
    yield (jump("without_data"),)
    for scope in checks.modes:
        silent, spoke, listening, _, judged = UNSETTLED[scope]
        for state in (silent, judged):
            yield marked(marks, state), copy, set_mark(marks, spoke)
        yield marked(marks, listening), set_mark(marks, spoke)
