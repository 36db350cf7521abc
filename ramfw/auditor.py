"""Goes through the maps in the kernel, slowly, for as long as the daemon lives.

What is found is for the engine to judge (`core.audit`). A piece is what the kernel gives at once,
some 300 elements and 3 ms of work; between two of them there is a pause, so that DNS answers do
not wait, and after a pass one that is in proportion to it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ramfw.core.engine import Engine
from ramfw.core.events import ElementsSeen, Event, MapAudited
from ramfw.errors import KernelError
from ramfw.program.batches import Batches

EVERY = 30.0
"""Seconds between two passes, at least."""
BETWEEN = 0.05
"""Seconds between two pieces."""
A_PIECE = 1.0
"""Seconds that a pass pauses afterwards for each of its pieces: 100,000 elements take 350."""
SOON = 1.0
"""Seconds until the next pass where something is suspected, at least."""

log = logging.getLogger("ramfw")


async def audit(engine: Engine, tell: Callable[[Event], None]) -> None:
    """Pass after pass, until cancelled; `tell` takes in what the kernel holds."""
    pieces = 0
    while True:
        suspects = engine.audit.suspects
        pause = A_PIECE * pieces
        await asyncio.sleep(max(SOON, pause / 10) if suspects else max(EVERY, pause))
        pieces = 0
        for name in engine.maps_of_grants():
            try:
                pieces += await _pass(name, tell)
            except KernelError as error:
                log.info("an audit of the map %s could not be finished: %s", name, error)


async def _pass(name: str, tell: Callable[[Event], None]) -> int:
    pieces = 0
    # A socket for each pass: one that fails in the midst leaves answers behind.
    with Batches() as batches:
        for piece in batches.pieces(name):
            pieces += 1
            tell(ElementsSeen(name, tuple(piece)))
            await asyncio.sleep(BETWEEN)
    tell(MapAudited(name))
    return pieces
