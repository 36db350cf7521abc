"""The daemon's side: opens the one connection, and hands it to the prober with the question.

The connection is the daemon's, because only it may set a socket's mark (SO_MARK), by which the
rules leave the question alone; and because so the prober needs no network of its own. Nothing that
the stranger sends is read here.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from pathlib import Path

from ramfw.core.addresses import may_open
from ramfw.core.probe import Outcome, Place, Probed
from ramfw.prober import protocol

MARK = socket.SO_MARK
LONGEST_CONNECT = 3.0
PATIENCE = 12.0
"""Seconds for all of it; the prober gives up long before, or something is wrong with it."""


async def ask(prober: Path, place: Place, mark: int) -> Probed:
    """Ask whether there is a registry at the place. Never raises but CancelledError."""
    if not may_open(place.address):
        return Probed(place, Outcome.UNASKED, problem="its address has a special use")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(PATIENCE):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
                asked.setblocking(False)  # noqa: FBT003 - the socket module's own form
                await loop.sock_connect(asked, str(prober))
                with _socket(place, mark) as stranger:
                    if not await _connected(stranger, place):
                        return Probed(place, Outcome.SILENT)
                    line = protocol.question(place.host, place.port)
                    socket.send_fds(asked, [line], [stranger.fileno()])
                # Some more is asked for than an answer has, so that one that is longer is none.
                answer = await loop.sock_recv(asked, protocol.LONGEST_LINE)
    except TimeoutError:
        return Probed(place, Outcome.UNASKED, problem=f"the prober at {prober} does not answer")
    except OSError as error:
        why = f"the prober at {prober} cannot be asked: {error.strerror or error}"
        return Probed(place, Outcome.UNASKED, problem=why)
    try:
        return Probed(place, *protocol.read_answer(answer))
    except ValueError:
        return Probed(place, Outcome.UNASKED, problem=f"the prober at {prober} ended")


def _socket(place: Place, mark: int) -> socket.socket:
    is_v4 = ip_address(place.address).version == 4  # noqa: PLR2004 - a version of IP
    stranger = socket.socket(socket.AF_INET if is_v4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        stranger.setblocking(False)  # noqa: FBT003 - the socket module's own form
        stranger.setsockopt(socket.SOL_SOCKET, MARK, mark)
    except OSError:
        stranger.close()
        raise
    return stranger


async def _connected(stranger: socket.socket, place: Place) -> bool:
    to = (str(ip_address(place.address)), place.port)
    try:
        async with asyncio.timeout(LONGEST_CONNECT):
            await asyncio.get_running_loop().sock_connect(stranger, to)
    except (OSError, TimeoutError):
        return False
    return True
