"""Runs inside a booted machine: programs that are asked for over its second serial line.

A line of JSON comes for each program, and one goes back when it has ended. The first serial line
is the kernel's console.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tty
from pathlib import Path
from typing import Any

LINE = Path("/dev/ttyS1")


def run(argv: list[str], timeout: float) -> dict[str, Any]:
    """Run a program to its end; one that has not ended in time has failed, with code 124."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        said = (error.stdout or b"", error.stderr or b"")
        out, err = (text.decode(errors="replace") for text in said)
        return {"code": 124, "stdout": out, "stderr": f"{err}\nnot ended after {timeout} s"}
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    """Serve for ever: the machine ends when its emulator does."""
    line = os.open(LINE, os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    with os.fdopen(line, "r+b", buffering=0) as serial, os.fdopen(os.dup(line), "rb") as asked:

        def tell(reply: dict[str, Any]) -> None:
            left = memoryview(json.dumps(reply).encode() + b"\n")
            while left:
                left = left[serial.write(left) or 0 :]

        tell({"release": platform.release()})
        for request in asked:
            tell(run(**json.loads(request)))


if __name__ == "__main__":
    main()
