"""One whole machine: what tests do with it, from power on to power off."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from tests.lab.addresses import HOST, ROUTER
from tests.lab.space import Namespace, Outcome, Process, Space, wait_until
from tests.machine.disk import Disk
from tests.machine.rack import Rack

BOOT = Path(__file__).parent / "boot.sh"
CGROUP = "machine"
"""The root of the machine's cgroup tree, below the rack's."""

SYSTEMD = "/lib/systemd/systemd"

OURS = "lab.scope"
"""The cgroup of what tests run: no service's, and in no slice."""


class Inside(Namespace):
    """A machine that runs, as its first process sees it."""

    ENTERED = (*Namespace.ENTERED, "--uts", "--ipc")

    def __init__(self, space: Space, holder: Process) -> None:
        self._starter = holder
        super().__init__(space, holder)

    @property
    def pid(self) -> int:
        """systemd, by the id that it has outside; its parent is the process that waits for it."""
        parent = self._starter.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        wait_until(lambda: bool(children.read_text().split()), 5, "the machine has begun")
        return int(children.read_text().split()[0])

    def cgroup(self, path: str) -> Path:
        return self.space.cgroup(f"{CGROUP}/{path}")


class Machine:
    """A machine of a rack: off at first, and off after its context."""

    def __init__(self, rack: Rack, disk: Disk) -> None:
        self.rack = rack
        self.disk = disk
        self._network: Namespace | None = None
        self._inside: Inside | None = None
        self._first: Process | None = None
        self._console: list[bytes] = []
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pull_plug()

    # On and off

    def power_on(self, init: str = SYSTEMD, begun: str = "run/systemd/private") -> None:
        """Turn it on and return when its first process says so by a file: when systemd runs.

        It has its network from the first moment, so there is no time at which a program could
        send and the network would not be there.
        """
        space, internet = self.rack.space, self.rack.internet
        if (internet.namespace.root / "sys/class/net/uplink").exists():
            raise RuntimeError("one machine of a rack at a time: another one is on")
        network = self._network = space.namespace()
        space.link(internet.namespace, network)
        internet.connect()
        network.sh(
            f"""
            ip addr add {HOST.v4}/24 dev uplink
            ip addr add {HOST.v6}/64 dev uplink nodad
            ip link set uplink up
            ip route add default via {ROUTER.v4}
            ip route add default via {ROUTER.v6}
            """
        )
        ours, console = os.openpty()
        # Open on this side as well: a terminal that everyone has closed cannot be opened again.
        self._ending.callback(os.close, console)
        self._console = []
        try:
            threading.Thread(target=self._read_console, args=(ours,), daemon=True).start()
            self._first = network.start(
                *("unshare", "--fork", "--kill-child", "--pid", "--mount", "--uts", "--ipc"),
                *("--cgroup", str(BOOT), str(self.disk.root), os.ttyname(console), init),
                cgroup=CGROUP,
            )
            self._inside = Inside(space, self._first)
            wait_until((self.root / begun).exists, 60, f"{init} has begun")
        except AssertionError as error:
            said = self._first.output if self._first else ""
            raise AssertionError(f"{error}\n{said}\n{self.console}") from None

    def boot(self) -> None:
        """Turn it on and wait until all its services are up; one that failed is an error."""
        self.power_on()
        self.wait_until_running()

    def wait_until_running(self, timeout: float = 60) -> None:
        bus = self.root / "run/dbus/system_bus_socket"
        wait_until(bus.is_socket, timeout, "dbus listens")
        state = self.run("systemctl", "is-system-running", "--wait", timeout=timeout)
        if state.output.strip() != "running":
            failed = self.run("systemctl", "--failed", "--no-legend", "--plain").output
            # Whole: why a unit failed may be with another one, which was started again meanwhile.
            said = self.run("journalctl", "--boot", "--no-pager", "--identifier=systemd").output
            ours = self.journal("ramfw*")
            raise AssertionError(f"{state.output}{failed}{said}\n{ours}\n{self.console}")

    def reboot(self) -> None:
        """Let it go down in good order, and boot it again: the kernel forgets its rules."""
        self.shut_down("reboot")
        self.boot()

    def shut_down(self, how: str = "poweroff") -> None:
        """Let it go down in good order: `poweroff` or `reboot`."""
        first = self._first
        assert first is not None
        self.run("systemctl", "--no-block", how)
        code = first.wait(60)
        # reboot(2): how the first process of a PID namespace ends says what was asked for.
        expected = signal.SIGHUP if how == "reboot" else signal.SIGINT
        assert code == -expected, f"ended with {code}, not {expected!r}:\n{self.console}"
        self._unplug()

    def pull_plug(self) -> None:
        """Turn it off without a word to anyone; nothing if it is off."""
        if self._first is not None and self._first.running:
            with suppress(ProcessLookupError):
                os.kill(self.inside.pid, signal.SIGKILL)
            self._first.wait(20)
        self._unplug()

    def _unplug(self) -> None:
        if self._network is not None:
            # The kernel takes namespaces down at leisure; the next link has the same name.
            self.rack.internet.namespace.run("ip", "link", "delete", "uplink")
            self.rack.internet.end_connections()
            self._network.end()
            self.rack.space.remove_cgroup(CGROUP)
        self._ending.close()
        self._network = self._inside = self._first = None

    def _read_console(self, ours: int) -> None:
        with os.fdopen(ours, "rb", buffering=0) as console, suppress(OSError):
            while said := console.read(4096):
                self._console.append(said)

    @property
    def console(self) -> str:
        """The last that systemd printed."""
        lines = b"".join(self._console).decode(errors="replace").splitlines()
        return "\n".join(lines[-60:])

    # Programs and files

    @property
    def inside(self) -> Inside:
        if self._inside is None:
            raise RuntimeError("the machine is off")
        return self._inside

    @property
    def root(self) -> Path:
        """Its root directory as its processes see it, with what is mounted there."""
        return self.inside.root

    def run(
        self,
        *argv: str,
        timeout: float = 60,
        cgroup: str = OURS,
        check: bool = False,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Outcome:
        """Run a program as root."""
        return self.inside.run(
            *argv, timeout=timeout, cgroup=cgroup, check=check, env=env, stdin=stdin
        )

    def sh(self, script: str, timeout: float = 60) -> str:
        """Run a shell script that must succeed, and return what it printed."""
        return self.inside.sh(script, cgroup=OURS, timeout=timeout)

    def start(self, *argv: str, cgroup: str = OURS) -> Process:
        """Start a program that stays."""
        return self.inside.start(*argv, cgroup=cgroup)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of its disk; it may be off."""
        self.disk.write(path, text, mode)

    # Services

    def systemctl(self, *argv: str, timeout: float = 60) -> str:
        return self.run("systemctl", *argv, timeout=timeout, check=True).output

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit).strip()

    def active(self, unit: str) -> bool:
        return self.run("systemctl", "--quiet", "is-active", unit).ok

    def journal(self, unit: str) -> str:
        """What a unit said since the machine was turned on."""
        return self.run("journalctl", "--boot", "--no-pager", "--unit", unit).output

    def main_pid(self, unit: str) -> int:
        """The id of a service's main process, as the machine counts them."""
        return int(self.show(unit, "MainPID"))

    def status(self) -> Any:  # noqa: ANN401 - JSON
        """What `ramfw status --json` says."""
        return json.loads(self.run("ramfw", "status", "--json", check=True).output)
