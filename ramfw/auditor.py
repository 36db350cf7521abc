"""Goes through the maps in the kernel, slowly, for as long as the daemon lives.

What is found is for the engine to judge (`core.audit`). A piece is some 75 elements, and less than
a millisecond of work, for a DNS answer may come meanwhile; then there is a pause. 100,000 elements
take six minutes, and two passes show what is wrong.
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
BETWEEN = 0.5
"""Seconds between two pieces."""
SOON = 1.0
"""Seconds until the next pass where something is suspected."""

log = logging.getLogger("ramfw")


async def audit(engine: Engine, tell: Callable[[Event], None]) -> None:
    """Pass after pass, until cancelled; `tell` takes in what the kernel holds."""
    while True:
        await asyncio.sleep(SOON if engine.audit.suspects else EVERY)
        for name in engine.maps_of_grants():
            try:
                await _pass(name, tell)
            except KernelError as error:
                log.info("an audit of the map %s could not be finished: %s", name, error)


async def _pass(name: str, tell: Callable[[Event], None]) -> None:
    # A socket for each pass: one that fails in the midst leaves answers behind.
    with Batches() as batches:
        pieces = batches.pieces(name)
        # In a thread: the kernel goes through all before a piece again, milliseconds at the end.
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            tell(ElementsSeen(name, tuple(piece)))
            await asyncio.sleep(BETWEEN)
    tell(MapAudited(name))
