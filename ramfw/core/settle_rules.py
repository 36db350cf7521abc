"""The rules by which the kernel itself settles a flow whose first bytes were judged well.

Pure. The verdict on the packet that completes an opening brings the entry's id in the packet's
mark, and in its priority the number that the server will acknowledge once it has taken just what
was judged. The number is remembered with the flow's addresses and ports, the id with conntrack's
own number of the flow. The packet of the server that acknowledges it gives the flow its id, and no
other packet is shown. What is acknowledged otherwise (with more that followed, or much later), and
all where the kernel sets no priority (before 5.18), the daemon settles by its copies.

What is remembered may outlive its connection, and whoever writes raw packets can open another with
the same numbers. So it settles only flows in a state of their own, `judged`, and no verdict brings
a flow into it whose addresses and ports another had while that may still be there
(`core.expected`).
"""

from __future__ import annotations

from collections.abc import Iterable

from ramfw.core.marks import ALL_ID_BITS, EXPECTED, UNSETTLED, MarkLayout
from ramfw.core.permit_rules import PERMIT_NAMED
from ramfw.core.policy import ScopeName
from ramfw.core.ruleset import (
    ACCEPT,
    ACKNOWLEDGED,
    IDS,
    MARKS,
    Chain,
    Dispatch,
    Field,
    InSet,
    MarkFrom,
    Masked,
    Match,
    NamedSet,
    Remember,
    RememberMark,
    Rule,
    SetMark,
    SetPacketMark,
    SetRef,
    Untag,
    goto,
    jump,
)

REMEMBERED_FOR = 5
"""Seconds within which the server is to acknowledge what was judged."""
MOST_REMEMBERED = 1 << 16

EXPECT = "expect"
"""The chain that remembers what a verdict brings."""
SETTLE = "settle"
"""The chain that looks whether a server's packet acknowledges it."""

_IDS = "judged"
_STATES = "judged_states"
_ADDRESSES = {4: "ipv4_addr", 6: "ipv6_addr"}
_OF_CLIENT = {
    4: (Field.IP_DADDR, Field.TCP_DPORT, Field.IP_SADDR, Field.TCP_SPORT, Field.PRIORITY),
    6: (Field.IP6_DADDR, Field.TCP_DPORT, Field.IP6_SADDR, Field.TCP_SPORT, Field.PRIORITY),
}
_OF_SERVER = {
    4: (Field.IP_SADDR, Field.TCP_SPORT, Field.IP_DADDR, Field.TCP_DPORT, Field.PRIORITY),
    6: (Field.IP6_SADDR, Field.TCP_SPORT, Field.IP6_DADDR, Field.TCP_DPORT, Field.PRIORITY),
}
_DYNAMIC = frozenset({"dynamic", "timeout"})


def settle_sets(marks: MarkLayout, scopes: Iterable[ScopeName]) -> Iterable[NamedSet]:
    """What is remembered, and the states of flows that may be settled by it."""
    for family, address in _ADDRESSES.items():
        yield NamedSet(
            _numbers(family),
            (address, "inet_service", address, "inet_service", IDS),
            _DYNAMIC,
            lifetime=REMEMBERED_FOR,
            size=MOST_REMEMBERED,
        )
    yield NamedSet(
        _IDS, ("ct id",), _DYNAMIC, data=MARKS, lifetime=REMEMBERED_FOR, size=MOST_REMEMBERED
    )
    states = frozenset(marks.value(UNSETTLED[scope][4]) for scope in scopes)
    yield NamedSet(_STATES, ("mark",), elements=states)


def settle_chains(
    marks: MarkLayout, scopes: Iterable[ScopeName], is_unsettled: Match, named: str
) -> Iterable[Chain]:
    """The chains; `named` is the map of what becomes of a flow by what its verdict brings."""
    own_id = marks.value(ALL_ID_BITS & ~EXPECTED)
    yield Chain(
        EXPECT,
        tuple(
            # What does not fit ends the rule, and the flow stays in the state that it is in.
            (
                Remember(_OF_CLIENT[family], _numbers(family)),
                RememberMark((Field.CT_ID,), _IDS, own_id),
                goto("expected"),
            )
            for family in _ADDRESSES
        ),
    )
    yield Chain("expected", tuple(_become_judged(marks, scope) for scope in scopes))
    # By itself, because it is packed by hand, and so follows what nft's text says.
    yield Chain("acknowledged", ((ACKNOWLEDGED,),))
    yield Chain(
        SETTLE,
        (
            (jump("acknowledged"),),
            *((InSet(_OF_SERVER[f], _numbers(f)), goto("settled")) for f in _ADDRESSES),
            (Untag(),),
        ),
    )
    yield Chain(
        "settled",
        (
            (Untag(),),
            (MarkFrom((Field.CT_ID,), _IDS),),
            (Dispatch(named, Masked(Field.META_MARK, marks.mask)),),
            (is_unsettled, jump(PERMIT_NAMED)),
            (SetPacketMark(marks.others, 0),),
            (ACCEPT,),
        ),
    )


def brings_number(marks: MarkLayout) -> Rule:
    """The rule for a verdict that has the kernel settle its flow."""
    is_expected = Match(Masked(Field.META_MARK, marks.value(EXPECTED)), marks.value(EXPECTED))
    return is_expected, Match(Field.PRIORITY, "none", negated=True), jump(EXPECT)


def may_settle(marks: MarkLayout) -> Rule:
    """The rule for packets of the server of a flow that is judged.

    Its id comes by the packet's mark; where others have set that, it is left alone.
    """
    is_judged = Match(Masked(Field.CT_MARK, marks.mask), SetRef(_STATES))
    return is_judged, Match(Field.META_MARK, 0), jump(SETTLE)


def came_late(marks: MarkLayout) -> Rule:
    """The rule for a verdict on a packet whose flow was settled while it waited.

    It leaves as it would have come: others' marks have no such value.
    """
    is_verdict = Match(Masked(Field.META_MARK, marks.value(EXPECTED)), marks.value(EXPECTED))
    return is_verdict, SetPacketMark(marks.others, 0)


def _numbers(family: int) -> str:
    return f"expected{family}"


def _become_judged(marks: MarkLayout, scope: ScopeName) -> Rule:
    silent, *_, judged = UNSETTLED[scope]
    is_silent = Match(Masked(Field.CT_MARK, marks.mask), marks.value(silent))
    return is_silent, SetMark(marks.others, marks.value(judged))
