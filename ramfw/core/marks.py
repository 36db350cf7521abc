"""Entry ids, and how they are kept in a flow's ct mark.

An id is 16 bits, held under the policy's mask so that other users of the mark keep their bits.
Ids below `FIRST_ENTRY_ID` are reserved.
"""

from __future__ import annotations

from dataclasses import dataclass

from ramfw.core.policy import ScopeName

REFUSED = 1
"""The flow was judged and is not permitted."""
UNDECIDED = 2
"""The flow goes to an address that is open to certain names; which scope it is in follows."""
AUDITED = 3
"""The flow is not permitted and passes, because the policy is in audit mode."""
RESOLVERS = 4
"""The flow goes to a trusted DNS server."""

FORGED = 5
"""The flow is to a DNS server, and somebody in a scope sent an answer in the server's place."""

PASSED = 7
"""The flow's first bytes were read, and nothing is known against them (mode `registries`)."""

UNSETTLED = {
    ScopeName.ENGINES: (8, 9, 14, 0xBFFD, 0xBFF9),
    ScopeName.CONTAINERS: (10, 11, 15, 0xBFFE, 0xBFFA),
    ScopeName.HOST: (12, 13, 6, 0xBFFF, 0xBFFB),
}
"""The flow's first bytes are awaited, or its server has not taken them yet: before and after the
server has sent data; where what was judged was followed by more, before it was taken; where some of
it passed unread, because no daemon was there; and where it was judged well, and the kernel knows
what the server will acknowledge."""

FIRST_ENTRY_ID = 16
LAST_ID = 0xBFF8

WRITING = 0xC000
"""While an id is written bit by bit (`permit_rules`), both of these are set; no id has both."""

EXPECTED = 0xC000
"""Of a verdict, never of a flow: with an id in its lower bits, the flow is to get that id as soon
as its server has acknowledged what the verdict says."""

LAST_EXPECTED_ID = 0x3FFE
"""Greater ids have no room in such a verdict."""

LISTEN = {scope: EXPECTED | states[2] for scope, states in UNSETTLED.items()}
"""Of a verdict: more of the client came before the server's word, which is to be listened to."""

ANSWERED = 0xFFFF
"""Of a verdict, never of a flow: it is refused, and the packet goes no further; its client is
answered in the server's place."""

TOLD = 0xBFFC
"""The flow is refused, its client is being told why, and has sent no data since."""

ALL_ID_BITS = 0xFFFF
ALL_BITS = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class MarkLayout:
    """Sixteen neighbouring bits of the 32 of a mark."""

    mask: int

    @property
    def shift(self) -> int:
        return (self.mask & -self.mask).bit_length() - 1

    @property
    def others(self) -> int:
        """The bits that are not ramfw's."""
        return ALL_BITS & ~self.mask

    def value(self, entry_id: int) -> int:
        """The id as it stands in the mark."""
        shift = self.shift
        return entry_id << shift if shift else entry_id
