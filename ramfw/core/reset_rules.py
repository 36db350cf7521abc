"""The rules by which a container hears of a refusal though somebody's NAT sent it elsewhere.

Pure. Where bridges show their packets to the hooks of IP (br_netfilter, which Docker loads), the
kernel sends a reset from the forward hook straight to the bridge's port, past conntrack: it would
come from the address that NAT put in, with which the client never spoke. So the packet that is
refused, which goes no further, is first written as its client sent it: the reset answers that.
Where the reset does pass conntrack, it is given the same address once more.
"""

from __future__ import annotations

from collections.abc import Iterable

from ramfw.core.ruleset import Chain, Field, Match, Rule, SetRef, Write, jump

_AS_SENT = "as_sent"
_WRITTEN = (
    (Field.IP_DADDR, Field.CT_ORIGINAL_IP_DADDR),
    (Field.IP6_DADDR, Field.CT_ORIGINAL_IP6_DADDR),
    (Field.TCP_DPORT, Field.CT_ORIGINAL_DPORT),
)


def as_sent() -> Chain:
    """Writes a packet's destination as it was before any NAT."""
    return Chain(_AS_SENT, tuple((Write(field, original),) for field, original in _WRITTEN))


def undo_nat(bridges: str) -> Iterable[Rule]:
    """What comes before a container's connection is reset, if NAT has sent it elsewhere."""
    yield (
        Match(Field.CT_STATUS, "dnat"),
        Match(Field.CT_DIRECTION, "original"),
        Match(Field.L4PROTO, "tcp"),
        Match(Field.IIFNAME, SetRef(bridges)),
        Match(Field.IIFNAME, SetRef("uplinks"), negated=True),
        jump(_AS_SENT),
    )
