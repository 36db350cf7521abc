"""The control socket's protocol and its client: one JSON object a line, a question, an answer.

A question is {"command": ..., "arguments": {...}}; an answer {"result": {...}} or
{"error": ..., "problems": [...]}. Imports little, because `ramfw status` should be quick.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from ramfw.errors import ControlError

DEFAULT_SOCKET = Path("/run/ramfw/control.sock")
LONGEST_QUESTION = 64 * 1024
"""Bytes; whoever sends more is not asking a question."""


class NotRunningError(ControlError):
    """Nobody listens on the socket."""


class RefusedError(ControlError):
    """The daemon answered with an error; `problems` tells a policy's."""

    def __init__(self, message: str, problems: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.problems = problems


def request(
    path: Path,
    command: str,
    arguments: dict[str, Any] | None = None,
    timeout: float = 10.0,
) -> dict[str, Any]:
    """Ask the daemon at the socket; its result. `timeout` is in seconds, for the whole answer.

    Raises NotRunningError, RefusedError, or ControlError where the answer does not come.
    """
    question = json.dumps({"command": command, "arguments": arguments or {}}) + "\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(question.encode())
            with connection.makefile("rb") as stream:
                line = stream.readline()
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError) as error:
        raise NotRunningError(
            f"the daemon is not running (nobody answers at {path}): ramfw run, or name its socket "
            "with --control"
        ) from error
    except TimeoutError as error:
        raise ControlError(f"the daemon at {path} did not answer within {timeout:g} s") from error
    except OSError as error:
        raise ControlError(f"{path}: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise ControlError(f"the daemon at {path} ended before it had answered")
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise RefusedError(str(answer["error"]), list(answer.get("problems", ())))
    result: dict[str, Any] = answer["result"]
    return result
