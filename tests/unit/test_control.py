"""The control socket: what is asked is answered, and strangers change and stall nothing."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ramfw import control_server
from ramfw.control import NotRunningError, RefusedError, request
from ramfw.control_server import CALLER, Arguments, ControlServer
from ramfw.errors import ControlError, PolicyError, Problem


async def echo(arguments: Arguments) -> dict[str, Any]:
    return {"heard": {key: arguments[key] for key in arguments if key != CALLER}}


async def who(arguments: Arguments) -> dict[str, Any]:
    return {"caller": arguments[CALLER]}


async def bad_policy(_: Arguments) -> dict[str, Any]:
    raise PolicyError((Problem("policy.toml", 3, "allow[0].hots", "unknown key", "host"),))


HANDLERS = {"status": echo, "reload": echo, "refused": echo, "log": who, "explain": bad_policy}


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Path]:
    path = directory / "control.sock"
    async with ControlServer(path, HANDLERS):
        yield path


async def ask(path: Path, command: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    return await asyncio.to_thread(request, path, command, arguments)


async def raw(path: Path, question: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(question)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_question_is_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        assert await ask(path, "status", {"a": 1}) == {"heard": {"a": 1}}


async def test_a_handler_knows_who_asks_whatever_is_claimed(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        assert await ask(path, "log", {CALLER: 1 << 31}) == {"caller": os.getuid()}


async def test_an_unknown_command_is_refused_in_words(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        with pytest.raises(RefusedError, match="no such command: frobnicate"):
            await ask(path, "frobnicate")


async def test_a_bad_policy_comes_with_its_problems(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        with pytest.raises(RefusedError) as refused:
            await ask(path, "explain")
    assert refused.value.problems[0]["key"] == "allow[0].hots"


@pytest.mark.parametrize(
    "question",
    [
        b"",
        b"\n",
        b"{",
        b"[]\n",
        b'"x"\n',
        b"{}\n",
        b"\xff\xfe\n",
        b"[" * 60000 + b"\n",
        b"x" * 200000,
    ],
    ids=["nothing", "empty", "cut", "list", "text", "no-command", "not-utf8", "deep", "long"],
)
async def test_what_is_no_question_harms_nobody(tmp_path: Path, question: bytes) -> None:
    async with serving(tmp_path) as path:
        try:
            answer = await raw(path, question)
        except ConnectionError:
            answer = b""
        assert b"result" not in answer
        assert await ask(path, "status") == {"heard": {}}


async def test_who_asks_nothing_is_let_go_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_server, "PATIENCE", 0.05)
    monkeypatch.setattr(control_server, "MOST_CONNECTIONS", 2)
    async with serving(tmp_path) as path:
        idle = [await asyncio.open_unix_connection(path) for _ in range(4)]
        assert await ask(path, "status") == {"heard": {}}
        for reader, writer in idle:
            assert await reader.read() == b""
            writer.close()


async def test_a_second_daemon_is_told_of_the_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        with pytest.raises(ControlError, match="another ramfw runs"):
            await ControlServer(path, HANDLERS).__aenter__()
        assert await ask(path, "status") == {"heard": {}}


async def test_a_socket_left_behind_is_taken_over(tmp_path: Path) -> None:
    async with serving(tmp_path) as path:
        pass
    path.touch()
    async with serving(tmp_path):
        assert await ask(path, "status") == {"heard": {}}


def test_without_a_daemon_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="the daemon is not running"):
        request(tmp_path / "none.sock", "status")


@pytest.mark.skipif(os.geteuid() != 0, reason="asks as another user")
async def test_only_root_may_change() -> None:
    # pytest's own directories are for their user alone.
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # noqa: ASYNC240 - nobody waits
        await _ask_as_root_and_as_nobody(Path(directory))


@pytest.mark.skipif(os.geteuid() != 0, reason="asks as another user")
async def test_what_others_were_refused_only_root_and_the_signer_may_ask(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    users = "root:x:0:0::/:\nnobody\n{}:x:65534:65534::/:\nramfw-signer:x:none:\n"
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        place.chmod(0o755)  # noqa: ASYNC240 - nobody waits
        monkeypatch.setattr(control_server, "PASSWD", place / "passwd")
        async with serving(place) as path:
            for name, word in (("nobody", "error"), ("ramfw-signer", "result")):
                (place / "passwd").write_text(users.format(name))
                assert await ask(path, "refused") == {"heard": {}}
                assert list(await asyncio.to_thread(_as_nobody, path, "refused")) == [word]
            (place / "passwd").unlink()
            assert list(await asyncio.to_thread(_as_nobody, path, "refused")) == ["error"]


async def _ask_as_root_and_as_nobody(directory: Path) -> None:
    async with serving(directory) as path:
        assert await ask(path, "reload") == {"heard": {}}
        for command, word in (("reload", "error"), ("status", "result")):
            answer = await asyncio.to_thread(_as_nobody, path, command)
            assert list(answer) == [word]


def _as_nobody(path: Path, command: str) -> dict[str, Any]:
    """Ask as uid 65534, in a process of its own."""
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.setuid(65534)
        try:
            answer: dict[str, Any] = {"result": request(path, command)}
        except RefusedError as error:
            answer = {"error": str(error)}
        os.write(write, json.dumps(answer).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read) as answered:
        return dict(json.load(answered))
