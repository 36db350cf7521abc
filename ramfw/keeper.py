"""Keeps what is in force for the next start and the next boot, beside the daemon's own work."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from ramfw.core import found_text
from ramfw.core.boot import boot_rules
from ramfw.core.engine import Engine
from ramfw.core.policy import Policy
from ramfw.core.probe import Found
from ramfw.core.ruleset import Ruleset
from ramfw.state import LastGood, State
from ramfw.wire.nft_writer import write

log = logging.getLogger("ramfw")

AGAIN = 30.0
"""Seconds after which a write that failed is tried again."""


class Keeper:
    """One directory's keeper; without a directory it keeps nothing."""

    def __init__(self, state: State | None, nft_prefix: str) -> None:
        self._state = state
        self._nft_prefix = nft_prefix
        self._loaded: tuple[Policy, str] | None = None
        self._kept_from: Ruleset | None = None
        self._busy = False
        self._failed_at = float("-inf")
        self.kept_at: float | None = None
        self.problem = ""

    def loaded(self, policy: Policy, text: str) -> None:
        """This policy was read from this text, and may come into force."""
        self._loaded = (policy, text)

    def due(self, engine: Engine) -> Callable[[], None] | None:
        """What to do in another thread, if what is in force now is not kept yet."""
        meant = engine.believed.made_from
        links = engine.facts.links
        if (
            self._state is None
            or self._busy
            or not engine.in_force
            or meant is self._kept_from
            or links is None
            or self._loaded is None
            or engine.policy not in (self._loaded[0], self._loaded[0].by_addresses())
            or time.monotonic() < self._failed_at + AGAIN
        ):
            return None
        state, (policy, text), uplinks = self._state, self._loaded, links.uplinks
        by_cgroup, prefix = engine.facts.by_cgroup, self._nft_prefix
        entries = tuple(engine.numbering.numbered.values())
        self._busy = True

        def keep() -> None:
            try:
                rules = boot_rules(policy, entries, uplinks, prefix, by_cgroup=by_cgroup)
                state.keep(LastGood(text, write(rules)))
            except (OSError, ValueError) as error:
                self.problem = f"{state.directory} cannot be written: {error}"
                self._failed_at = time.monotonic()
            else:
                self.problem, self._kept_from, self.kept_at = "", meant, time.monotonic()
            finally:
                self._busy = False

        return keep

    def report(self) -> dict[str, Any]:
        """What `ramfw status` shows of it."""
        return {
            "directory": str(self._state.directory) if self._state else "",
            "kept_ago": None if self.kept_at is None else time.monotonic() - self.kept_at,
            "problem": self.problem,
        }


class FoundKeeper:
    """Keeps the registries that were found by asking, likewise."""

    def __init__(self, state: State | None) -> None:
        self._state = state
        self._kept = 0
        self._busy = False
        self._failed_at = float("-inf")
        self.problem = ""

    def recall(self) -> tuple[Found, ...]:
        """What was kept; nothing where that cannot be read, which only means to ask again."""
        text = self._state.registries() if self._state else None
        if text is None:
            return ()
        try:
            return found_text.read(text, time.monotonic(), time.time())
        except ValueError as error:
            log.warning("the registries that were found before are not known: %s", error)
            return ()

    def due(self, engine: Engine) -> Callable[[], None] | None:
        """What to do in another thread, if what is known has changed."""
        probing, now = engine.name_check.probing, time.monotonic()
        if (
            self._state is None
            or self._busy
            or probing.changes == self._kept
            or now < self._failed_at + AGAIN
        ):
            return None
        state, changes = self._state, probing.changes
        text = found_text.write(probing.registries(now), now, time.time())
        self._busy = True

        def keep() -> None:
            try:
                state.keep_registries(text)
            except OSError as error:
                self.problem = f"{state.directory} cannot be written: {error}"
                self._failed_at = time.monotonic()
            else:
                self.problem, self._kept = "", changes
            finally:
                self._busy = False

        return keep
