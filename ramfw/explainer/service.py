"""Runs the explainer or the signer on sockets that were passed on, or on ones of their own."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

from ramfw.core.turn_rules import EXPLAINER_PORT
from ramfw.errors import ControlError
from ramfw.explainer.activation import passed_sockets
from ramfw.explainer.server import Explainer
from ramfw.explainer.signer import Signer
from ramfw.explainer.signing import LONGEST_LINE
from ramfw.explainer.tls import CHUNK
from ramfw.notify import notify
from ramfw.unprivileged import (
    BACKLOG,
    SIGN_OF_LIFE,
    become_nobody,
    listen_at,
    log_to_stderr,
)

MOST_FILES = 4096
"""More than connections at once and a whole backlog, all accepted before one is answered."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def explain(policy: Path, signer: Path) -> None:
    """Answer refused connections until SIGTERM. Raises ControlError where it cannot listen."""
    log_to_stderr()
    listeners = passed_sockets() or [_listen_everywhere(EXPLAINER_PORT)]
    become_nobody()
    some, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if some < min(MOST_FILES, most):  # the service has the right to so many, but not to change it
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(MOST_FILES, most), most))
    asyncio.run(_serve(listeners, Explainer(policy, signer).serve, CHUNK))


def sign(policy: Path, path: Path, control: Path) -> None:
    """Sign for refused names until SIGTERM. Raises ControlError, MissingError."""
    log_to_stderr()
    serve = Signer(policy, control).serve
    listeners = passed_sockets() or [listen_at(path)]
    asyncio.run(_serve(listeners, serve, LONGEST_LINE))


async def _serve(listeners: list[socket.socket], serve: Serve, limit: int) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    servers = []
    for listener in listeners:
        start = (
            asyncio.start_unix_server if listener.family == socket.AF_UNIX else asyncio.start_server
        )
        servers.append(await start(serve, sock=listener, limit=limit, backlog=BACKLOG))
    notify("READY=1")
    while not ended.is_set():
        # A process that hangs would keep people waiting: the service manager ends it.
        notify("WATCHDOG=1")
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), SIGN_OF_LIFE)
    for server in servers:
        server.close()


def _listen_everywhere(port: int) -> socket.socket:
    """A socket for IPv4 and IPv6, or for IPv4 where the kernel has no IPv6."""
    try:
        is_dual = socket.has_dualstack_ipv6()
        return socket.create_server(
            ("", port),
            family=socket.AF_INET6 if is_dual else socket.AF_INET,
            dualstack_ipv6=is_dual,
            backlog=BACKLOG,
        )
    except PermissionError as error:
        raise ControlError(f"only root may listen on port {port}: sudo ramfw explainer") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise ControlError(
            f"cannot listen on port {port}: {why}: ss -ltnp sport = :{port}"
        ) from error
