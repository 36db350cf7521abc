"""The daemon's side of the control socket: everyone may ask, only root may change.

Treats whoever connects as a stranger: one short question a connection, bounded in size, time and
number of connections at once.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from ramfw.control import LONGEST_QUESTION
from ramfw.errors import ControlError, PolicyError, RamfwError

Arguments = Mapping[str, Any]
Handler = Callable[[Arguments], Awaitable[dict[str, Any]]]

PATIENCE = 5.0
"""Seconds that a connection may take to ask."""
PIECE = 1 << 15
"""Characters of an answer that are sent at once."""
MOST_CONNECTIONS = 32
CALLER = "caller"
"""The argument that every handler gets: the user who asks. Nobody can give it."""
FOR_ROOT = frozenset({"reload", "suggest", "unload", "canary"})
"""Commands that change something, or tell what others asked for."""
FOR_SIGNER = frozenset({"refused"})
"""What its user may ask, too; to others it would tell what somebody else tried."""
SIGNER_USER = "ramfw-signer"
PASSWD = Path("/etc/passwd")


class ControlServer:
    """Listens at a path for as long as it is entered."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._slots = asyncio.Semaphore(MOST_CONNECTIONS)
        self._server: asyncio.Server | None = None
        self._lock = -1
        self._answering: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Raises ControlError where another daemon has the socket, or it cannot be made."""
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            self._take_lock()
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(
                self._serve, path=self._path, limit=LONGEST_QUESTION
            )
            self._path.chmod(0o666)
        except OSError as error:
            raise ControlError(
                f"the control socket {self._path}: {error.strerror or error}"
            ) from error
        return self

    def _take_lock(self) -> None:
        """Hold a lock file for life: a socket that is left behind does not tell a live daemon."""
        self._lock = os.open(
            self._path.with_name(self._path.name + ".lock"),
            os.O_CREAT | os.O_RDWR | os.O_CLOEXEC,
            0o600,
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise ControlError(
                f"another ramfw runs with the control socket {self._path}: "
                f"ramfw --control {self._path} status"
            ) from error

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            if self._answering:
                # Whoever asked the daemon to end still hears that it does.
                await asyncio.wait(self._answering, timeout=PATIENCE)
        with suppress(OSError):
            os.close(self._lock)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio starts this as a task
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)
        with suppress(OSError, asyncio.IncompleteReadError):
            async with self._slots:
                try:
                    answer = await self._answer(reader, writer)
                    # In pieces: what a large policy has to say would take 200 MiB at once, and
                    # a second in which nothing else happens.
                    for piece in _pieces(json.JSONEncoder().iterencode(answer)):
                        writer.write(piece)
                        async with asyncio.timeout(PATIENCE):
                            await writer.drain()
                        await asyncio.sleep(0)
                except TimeoutError:
                    pass
                finally:
                    writer.close()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        try:
            async with asyncio.timeout(PATIENCE):
                question = json.loads(await reader.readuntil(b"\n"))
            command, arguments = str(question["command"]), dict(question.get("arguments") or {})
        except (ValueError, KeyError, TypeError, RecursionError, asyncio.LimitOverrunError):
            return {"error": "not a question that ramfw understands"}
        handler = self._handlers.get(command)
        if handler is None:
            return {"error": f"no such command: {command[:40]}"}
        if command in FOR_SIGNER and _uid(writer) not in _signers():
            return {"error": f"only the signer may ask for what was {command}"}
        if command in FOR_ROOT and _uid(writer) != 0:
            return {"error": f"only root may {command}: sudo ramfw {command}"}
        try:
            return {"result": await handler({**arguments, CALLER: _uid(writer)})}
        except PolicyError as error:
            return {"error": str(error), "problems": [_fields(p) for p in error.problems]}
        except (RamfwError, ValueError) as error:
            return {"error": str(error)}


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    """A line of JSON, a few dozen KiB at a time."""
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= PIECE:
            yield "".join(some).encode()
            some, size = [], 0
    yield "".join([*some, "\n"]).encode()


def _fields(problem: object) -> dict[str, Any]:
    names = ("source", "line", "key", "message", "hint")
    return {name: getattr(problem, name) for name in names}


def _signers() -> set[int]:
    """Root, and the signer's user where this machine has one.

    Read from passwd(5) itself: other sources of users may have to be asked for over a network.
    """
    users = {0}
    with suppress(OSError):
        for line in PASSWD.read_text(errors="replace").splitlines():
            name, _, uid, *_ = (*line.split(":"), "", "", "")
            if name == SIGNER_USER and uid.isdecimal():
                users.add(int(uid))
    return users


def _uid(writer: asyncio.StreamWriter) -> int:
    """Who is at the other end (SO_PEERCRED, unix(7))."""
    connection: socket.socket = writer.get_extra_info("socket")
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    uid: int = struct.unpack("3i", credentials)[1]
    return uid
