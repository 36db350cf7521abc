"""nft in a process of its own, for what is large: its memory goes with it.

libnftables keeps a parsed copy of all it writes and lists, 60 to 90 MiB for 10,000 entries, and a
process never gives all of it back.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from threading import Timer

from ramfw.errors import KernelError

WHERE = "/usr/sbin:/sbin:/usr/bin:/bin"
PATIENCE = 60.0
"""Seconds that nft may take for one command."""


Ports = frozenset[int]
"""Of netlink sockets."""


def find_nft() -> str | None:
    """The path of the program nft; None where it is not installed."""
    return shutil.which("nft", path=WHERE)


class NftProcess:
    """As much of the binding's `Nftables` as is needed; each command is a process."""

    def __init__(self, nft: str) -> None:
        """`nft` is the program's path."""
        self._nft = nft
        self.tell: Callable[[Ports], None] = lambda _: None
        """Called before a process can change anything, with the ports that it will change it by,
        and with none when it has ended."""
        self._options: set[str] = set()

    def set_json_output(self, value: bool) -> None:  # noqa: FBT001 - the binding's form
        self._set("-j", value)

    def set_stateless_output(self, value: bool) -> None:  # noqa: FBT001
        self._set("-s", value)

    def set_numeric_prio_output(self, value: bool) -> None:  # noqa: FBT001
        self._set("-y", value)

    def set_terse_output(self, value: bool) -> None:  # noqa: FBT001
        self._set("-t", value)

    def set_dry_run(self, value: bool) -> None:  # noqa: FBT001
        self._set("-c", value)

    def _set(self, option: str, value: bool) -> None:  # noqa: FBT001
        (self._options.add if value else self._options.discard)(option)

    def cmd(self, text: str) -> tuple[int, str, str]:
        """Run commands in nft's grammar: exit code, output, and what it said of errors."""
        # With -j, nft 1.0.6 takes a file for JSON, and has read all of it when it sees it is not.
        is_json = "-j" in self._options
        try:
            with subprocess.Popen(  # noqa: S603 - a fixed program, its input is ours
                [self._nft, *sorted(self._options), *(["--", text] if is_json else ["-f", "-"])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                # The kernel names a process's first socket so (netlink_autobind), by the number
                # that the process has in its own PID namespace. nf_tables' events tell the number
                # in the first PID namespace, which need not be ours.
                self.tell(frozenset({process.pid}))
                try:
                    output, error = process.communicate("" if is_json else text, PATIENCE)
                except subprocess.TimeoutExpired as late:
                    process.kill()
                    process.wait()
                    return -1, "", str(late)
                finally:
                    self.tell(frozenset())
        except OSError as failure:
            return -1, "", str(failure)
        return process.returncode, output, error

    def lines(self, text: str) -> Iterator[str]:
        """The output of a command, line by line as it comes: a listing may be of many MB.

        Raises KernelError, after the last line, where the command failed.
        """
        # In memory: at the boot, and where the disk is full, no other file could be made.
        with open(os.memfd_create("nft"), "w+") as errors:  # noqa: PTH123 - it has no path
            try:
                process = subprocess.Popen(  # noqa: S603 - as above
                    [self._nft, *sorted(self._options), "--", text],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                )
            except OSError as failure:
                raise KernelError(failure.errno or 0, "nft", str(failure)) from failure
            late = Timer(PATIENCE, process.kill)
            late.start()
            with process:
                try:
                    yield from process.stdout or ()
                finally:
                    process.stdout and process.stdout.close()
                    late.cancel()
            if process.returncode != 0:
                errors.seek(0)
                raise KernelError(0, f"nft {text}", errors.read() or "it did not end in time")
