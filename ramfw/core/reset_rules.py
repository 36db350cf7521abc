"""The rules by which a container hears of a refusal though somebody's NAT sent it elsewhere.

Pure. Where bridges show their packets to the hooks of IP (br_netfilter, which Docker loads), the
kernel sends a reset from the forward hook straight to the bridge's port, past conntrack: it comes
from the address that NAT put in, with which the client never spoke, so the client ignores it and
waits. An ICMP error is translated, so it tells a first SYN, or its repetition after a second. A
connection that is open takes no word from ICMP: it is reset before NAT, where its addresses are the
client's own, by the next packet of it, and what went unheard is repeated after a fifth of a second.
"""

from __future__ import annotations

from collections.abc import Iterable

from ramfw.core.marks import MarkLayout
from ramfw.core.ruleset import (
    Chain,
    Field,
    Hook,
    Masked,
    Match,
    Reject,
    Rule,
    SetRef,
    goto,
)
from ramfw.core.turn_rules import EXPLAINER_PORT

RESET_PRIORITY = -150
"""After conntrack (-200), before anybody's NAT (-100)."""

_TCP = Match(Field.L4PROTO, "tcp")
_SENT_ELSEWHERE = Match(Field.CT_STATUS, "dnat")


def reset_chain(marks: MarkLayout, bridges: str) -> Chain:
    """Resets what is open and no longer permitted, but for what goes to the explainer."""
    mark = Masked(Field.CT_MARK, marks.mask)
    return Chain(
        "reset_prerouting",
        (
            (
                _SENT_ELSEWHERE,  # first, for it is cheap, and nearly nothing else is
                Match(Field.CT_DIRECTION, "original"),
                _TCP,
                *_from(bridges),
                Match(mark, 0, negated=True),
                Match(mark, SetRef("live"), negated=True),
                Match(Field.CT_REPLY_SPORT, EXPLAINER_PORT, negated=True),
                goto("refuse_marked"),
            ),
        ),
        Hook("prerouting", RESET_PRIORITY),
    )


def told_by_icmp(bridges: str) -> Iterable[Rule]:
    """The refusal of a container's first SYN, if NAT has sent it elsewhere."""
    new = Match(Field.CT_STATE, frozenset({"new"}))
    yield _SENT_ELSEWHERE, new, _TCP, *_from(bridges), Reject("icmpx admin-prohibited")


def _from(bridges: str) -> tuple[Match, Match]:
    return (
        Match(Field.IIFNAME, SetRef(bridges)),
        Match(Field.IIFNAME, SetRef("uplinks"), negated=True),
    )
