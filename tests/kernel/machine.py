"""Machines that run Debian's own kernels, emulated in software, for tests.

A machine has this tree in memory as it is when it boots, and nothing else: no disk and no network.
Whatever becomes of those who started it, its emulator ends with them.
"""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

TREE = Path(__file__).parents[2]
IN_TREE = ("ramfw", "tests")
PLACE = "srv/ramfw"
"""Where the machine has the tree."""

EMULATOR = "qemu-system-x86_64"
MEMORY = 1024  # MiB
BOOT = 120
"""Seconds that booting may take; on an idle core it is a tenth of it."""


class Machine:
    """One booted kernel. A context manager: the machine is off after it."""

    def __init__(self, suite: str) -> None:
        """`suite` is the Debian that the kernel and all programs are of."""
        self.suite = suite
        self.release = ""
        self._made = TREE / "build" / "kernel" / suite
        self._replies: queue.Queue[bytes] = queue.Queue()
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with self._ending:
            self._boot()
            self._ending = self._ending.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def run(self, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a program to its end, as root, in the tree. Code 124: it had not ended in time."""
        stdin = self._emulator.stdin
        assert stdin
        stdin.write(json.dumps({"argv": argv, "timeout": timeout}).encode() + b"\n")
        stdin.flush()
        reply = self._reply(timeout + 10)
        return subprocess.CompletedProcess(argv, reply["code"], reply["stdout"], reply["stderr"])

    def _boot(self) -> None:
        if shutil.which(EMULATOR) is None:
            raise RuntimeError(f"{EMULATOR} is missing: run: make packages (as root)")
        if not (self._made / "made-from").exists():
            raise RuntimeError(
                f"Debian {self.suite}'s kernel is missing: run: make kernel (as root)"
            )
        directory = Path(self._ending.enter_context(tempfile.TemporaryDirectory(prefix="ramfw-")))
        self._console = directory / "console"
        image = directory / "image"
        with image.open("wb") as whole:
            with (self._made / "root.cpio").open("rb") as root:
                shutil.copyfileobj(root, whole)
            whole.write(_archive_of_tree(directory))
        self._emulator = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", EMULATOR, "-no-reboot"),
                # Five levels of page tables only make each look-up slower.
                *("-accel", "tcg", "-cpu", "max,la57=off", "-smp", "2", "-m", f"{MEMORY}"),
                *("-nodefaults", "-no-user-config", "-display", "none"),
                *("-kernel", f"{self._made / 'vmlinuz'}", "-initrd", f"{image}"),
                *("-append", f"console=ttyS0 quiet panic=-1 rdinit=/{PLACE}/tests/kernel/init"),
                *("-serial", f"file:{self._console}", "-serial", "stdio"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ending.callback(self._end)
        threading.Thread(target=self._read, daemon=True).start()
        self.release = self._reply(BOOT)["release"]

    def _end(self) -> None:
        self._emulator.kill()
        with self._emulator:
            pass

    def _read(self) -> None:
        stdout = self._emulator.stdout
        assert stdout
        for line in stdout:
            self._replies.put(line)
        self._replies.put(b"")

    def _reply(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._replies.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(self._why(f"did not answer in {seconds} s")) from None
        if not line:
            raise AssertionError(self._why("has ended"))
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _why(self, what: str) -> str:
        console = self._console.read_text(errors="replace") if self._console.exists() else ""
        said = "\n".join(console.splitlines()[-60:])
        return f"the machine with Debian {self.suite} {what}; its console said last:\n{said}"


def _archive_of_tree(directory: Path) -> bytes:
    """The tree in the form that the kernel unpacks behind the root's own."""
    copy = directory / "tree"
    for name in IN_TREE:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TREE / name, copy / PLACE / name, ignore=ignored)
    names = "\n".join(str(path.relative_to(copy)) for path in sorted(copy.rglob("*")))
    done = subprocess.run(
        ["cpio", "--create", "--format=newc", "--quiet", "--owner=0:0"],
        cwd=copy,
        input=names.encode(),
        capture_output=True,
        check=True,
    )
    return done.stdout
