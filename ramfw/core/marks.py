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
    ScopeName.ENGINES: (8, 9, 14, 0xBFFD),
    ScopeName.CONTAINERS: (10, 11, 15, 0xBFFE),
    ScopeName.HOST: (12, 13, 6, 0xBFFF),
}
"""The flow's first bytes are awaited, or its server has not taken them yet: before and after the
server has sent data; where what was judged was followed by more, before it was taken; and where
some of it passed unread, because no daemon was there."""

FIRST_ENTRY_ID = 16
LAST_ID = 0xBFFB

WRITING = 0xC000
"""While an id is written bit by bit (`permit_rules`), both of these are set; no id has both."""

ANSWERED = 0xFFFF
"""Of a verdict, never of a flow: it is refused, and the packet goes no further; its client is
answered in the server's place."""

TOLD = 0xBFFC
"""The flow is refused, its client is being told why, and has sent no data since."""

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
