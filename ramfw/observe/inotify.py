"""Inotify events in bursts, with a bound on the wait. What happened is left to a new look."""

from __future__ import annotations

import asyncio
import errno

from asyncinotify import Event, Inotify


def watcher() -> Inotify:
    """A new inotify instance for `burst`. Raises OSError."""
    return Inotify(sync_timeout=0)


async def burst(inotify: Inotify, patience: float | None = None) -> list[Event]:
    """All events there are, once there is one; none after `patience` seconds.

    An event can be lost exactly when the patience ends, so that an empty list, as an overflow
    (Q_OVERFLOW), means that anything may have changed.
    """
    try:
        async with asyncio.timeout(patience):
            events = [await inotify.get()]
    except TimeoutError:
        return []
    while (event := inotify.sync_get()) is not None:
        events.append(event)
    return events


def explain(error: OSError) -> str:
    """What an error of inotify or of the file it looks at means, and what mends it."""
    if error.errno == errno.ENOSPC:
        return "too many watches; raise the sysctl fs.inotify.max_user_watches"
    if error.errno == errno.EMFILE:
        return "too many inotify instances; raise the sysctl fs.inotify.max_user_instances"
    return error.strerror or str(error)
