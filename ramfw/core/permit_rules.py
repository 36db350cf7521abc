"""The rules that give a flow the id of the entry that permits it: the same for all entries.

Pure. A commit of nf_tables walks every chain of every table (0.1 ms for 10,000), and each answer
that opens an address is a commit. So entries are elements and have no chains. What a map holds
cannot be combined with the other bits of a ct mark (nft 1.0.6 has no words for it), so the id,
which stands in the packet's priority, is written into the mark by a rule for each of its bits. On
another processor a packet of the same flow may see the mark meanwhile: until all bits are there, it
is a value that no id has.
"""

from __future__ import annotations

from collections.abc import Iterable

from ramfw.core.marks import ALL_BITS, WRITING, MarkLayout
from ramfw.core.ruleset import (
    DROP,
    IDS,
    Chain,
    Field,
    MarkedId,
    Masked,
    Match,
    NamedSet,
    NumberedElement,
    Rule,
    SetMark,
    SetRef,
    Tag,
    Untag,
    jump,
)

PERMIT = "permit"
"""The chain that marks a flow as permitted by the entry whose id is in the packet's priority."""
PERMIT_NAMED = "permit_named"
"""The chain that does so by the id in the packet's mark, as a verdict brings it."""
CONNECTIONS = "connections"
"""The set of all entries' ids, which counts the connections that each permits."""

_VERDICT_IDS = "verdict_ids"
_BITS = tuple(1 << bit for bit in range(16) if not WRITING >> bit & 1)
_ENDS = (0, 0x4000, 0x8000)
"""What the bits of WRITING are at last."""


def permit_sets(entries: Iterable[tuple[int, str]]) -> Iterable[NamedSet]:
    """The entries by id, each with the comment by which a daemon that starts again knows it."""
    known = frozenset(NumberedElement(entry_id, comment) for entry_id, comment in entries)
    yield NamedSet(CONNECTIONS, (IDS,), counted=True, elements=known)


def permit_chain(marks: MarkLayout) -> Chain:
    """Reached only with a live entry's id in the packet's priority; the id keeps standing there."""

    def write(bits: int, value: int) -> Rule:
        kept = ALL_BITS & ~marks.value(bits)
        return Match(Masked(Field.PRIORITY, bits), value), SetMark(kept, marks.value(value))

    return Chain(
        PERMIT,
        (
            (Match(Field.PRIORITY, SetRef(CONNECTIONS)),),
            (SetMark(marks.others, marks.value(WRITING)),),
            *(write(bit, bit) for bit in _BITS),
            *(write(WRITING, end) for end in _ENDS),
        ),
    )


def verdict_sets(marks: MarkLayout, ids: Iterable[int]) -> Iterable[NamedSet]:
    """The entries by the mark that a verdict brings; a verdict for any other permits nothing."""
    known = frozenset(MarkedId(marks.value(entry_id), entry_id) for entry_id in ids)
    yield NamedSet(_VERDICT_IDS, ("mark",), data=IDS, elements=known)


def verdict_chain(marks: MarkLayout) -> Chain:
    """Leaves the packet's priority empty; whoever sent the packet may have set it before."""
    return Chain(
        PERMIT_NAMED,
        (
            (Untag(),),
            (Tag((Masked(Field.META_MARK, marks.mask),), _VERDICT_IDS),),
            (Match(Field.PRIORITY, "none", negated=True), jump(PERMIT)),
            (Untag(),),
        ),
    )


def awaits_id(marks: MarkLayout) -> Rule:
    """The guard's rule for a packet that overtook the writing of its flow's id.

    It is sent again. Only of flows that are established: of a new one nobody else sees the mark,
    and who has written these bits into it is refused as ever.
    """
    is_written = Match(Masked(Field.CT_MARK, marks.value(WRITING)), marks.value(WRITING))
    return is_written, Match(Field.CT_STATE, frozenset({"established"})), DROP
