"""One fact about the machine."""

from __future__ import annotations

from dataclasses import dataclass

OK = "ok"
NOTE = "note"
"""ramfw works, but something is to be known or could be better."""
MISSING = "missing"
"""ramfw does not work without it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact, its state, what follows from it, and the command or line that mends it.

    The last two may be empty where all is well.
    """

    fact: str
    state: str
    follows: str = ""
    mend: str = ""
