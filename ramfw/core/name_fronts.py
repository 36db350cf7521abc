"""By what the kernel itself tells which DNS answers over UDP may be to a permitted name.

Pure. The name in a message's only question begins at a fixed place, in wire form: each label behind
its length byte, a zero at the end (RFC 1035, section 3.1). Its *front*, the first eight bytes, is
looked up among those of the policy's names; of a wildcard it is the front of what follows the
labels that may be any, looked up at every place where that may begin. One bit of each byte is left
out, which makes letters of either case one (0x20). So a permitted name always fits, and another
one seldom: then its answer waits for nothing, and that is all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

FRONT = 8
"""Bytes of a name that are compared, its length bytes among them."""
FOLD = 0xDF
"""The bits of each that count: not the one by which upper case differs from lower case."""
FIRST_PLACE = 2
LAST_PLACE = 64
"""Bytes of a name before which a wildcard's own part may begin; longer names always fit."""


@dataclass(frozen=True, slots=True)
class Fronts:
    """The fronts of a policy's names, as numbers; `firsts` are the first bytes of `below`."""

    exact: frozenset[int]
    below: frozenset[int] = frozenset()
    firsts: frozenset[int] = frozenset()


def wire_form(name: str) -> bytes:
    """A canonical name as DNS messages have it, up to the zero at its end."""
    labels = name.encode("ascii").split(b".")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def too_short(patterns: Iterable[str]) -> str:
    """The first of the patterns that is shorter than a front; empty where none is.

    What stands behind such a name belongs to the question and may be anything.
    """
    # A name takes two bytes more than its letters and dots.
    return next((p for p in patterns if len(p.removeprefix("*.")) + 2 < FRONT), "")


# The rules are compiled anew with each change of the machine, for the same policy.
@lru_cache(maxsize=2)
def fronts(patterns: tuple[str, ...]) -> Fronts:
    """The fronts of canonical patterns, none of which is too short."""
    exact: set[int] = set()
    below: set[int] = set()
    firsts: set[int] = set()
    for pattern in patterns:
        wire = wire_form(pattern.removeprefix("*."))
        if pattern.startswith("*."):
            below.add(_front(wire))
            firsts.add(wire[0])
        else:
            exact.add(_front(wire))
    return Fronts(frozenset(exact), frozenset(below), frozenset(firsts))


def _front(wire: bytes) -> int:
    return int.from_bytes(bytes(byte & FOLD for byte in wire[:FRONT]))
