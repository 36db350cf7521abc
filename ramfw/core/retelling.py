"""When it is tried again to tell refused clients why, where what they were told did not arrive.

Pure. A host's own firewall keeps it from them; whenever somebody changes rules, that may have
ended. Rules come in several commits, and each trial that fails costs one client a second: so it is
tried a moment after the last one, and not too often. Where no change is seen (iptables-legacy tells
of none), what is remembered of the failure ends by itself.
"""

from __future__ import annotations

SETTLES_WITHIN = 1.0
"""Seconds without another change."""
NOT_MORE_OFTEN = 5.0
"""Seconds between two trials."""


class Retelling:
    """Since when rules of others have been as they are, and when it was last tried."""

    def __init__(self) -> None:
        self.due: float | None = None
        """When it is to be tried, if nothing more changes."""
        self._not_before = 0.0

    def changed(self, now: float) -> None:
        """Somebody has changed rules."""
        self.due = max(now + SETTLES_WITHIN, self._not_before)

    def take(self, now: float) -> bool:
        """Whether it is to be tried now: told once."""
        if self.due is None or self.due > now:
            return False
        self.due, self._not_before = None, now + NOT_MORE_OFTEN
        return True
