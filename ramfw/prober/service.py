"""Runs the prober on a socket that was passed on, or on one of its own."""

from __future__ import annotations

import asyncio
import signal
import socket
from contextlib import suppress
from pathlib import Path

from ramfw.explainer.activation import passed_sockets
from ramfw.notify import notify
from ramfw.prober.server import Prober
from ramfw.unprivileged import SIGN_OF_LIFE, become_nobody, listen_at, log_to_stderr


def probe(path: Path) -> None:
    """Answer the daemon's questions until SIGTERM. Raises ControlError where it cannot listen."""
    log_to_stderr()
    listeners = passed_sockets() or [listen_at(path)]
    become_nobody()
    asyncio.run(serve(listeners))


async def serve(listeners: list[socket.socket]) -> None:
    """Answer questions until SIGTERM."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    prober = Prober()
    async with asyncio.TaskGroup() as tasks:
        accepting = [tasks.create_task(_accept(one, prober, tasks)) for one in listeners]
        notify("READY=1")
        while not ended.is_set():
            # A process that hangs would keep people waiting: the service manager ends it.
            notify("WATCHDOG=1")
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), SIGN_OF_LIFE)
        for task in accepting:
            task.cancel()


async def _accept(listener: socket.socket, prober: Prober, tasks: asyncio.TaskGroup) -> None:
    listener.setblocking(False)  # noqa: FBT003 - the socket module's own form
    while True:
        asker, _ = await asyncio.get_running_loop().sock_accept(listener)
        asker.setblocking(False)  # noqa: FBT003 - the same
        tasks.create_task(prober.serve(asker))
