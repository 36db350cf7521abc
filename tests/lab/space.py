"""Namespaces that live and die together, and the processes in them.

A `Space` is one PID namespace: when its first process ends, the kernel ends all others, and the
first process ends when pytest does, however pytest ends. Network namespaces have no names on
disk and mounts are private, so both go with their last process. What the kernel does not take
down by itself, the cgroup subtree and a directory, `close` removes; `sweep` removes those of
runs that were killed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

OUR_NETWORK = Path("/proc/self/ns/net").readlink()
PREFIX = "ramfw-lab-"
LIFETIME = 1800
"""Seconds after which a lab ends itself, whatever became of those who started it."""

REFUSALS = (
    r"(?i)connection refused|connection reset|no route to host"
    r"|could(n't| not) connect to server"  # curl's words for the same, before and after 8.10
    r"|alert access denied|tls: access denied"
    r"|has been restricted by your administrators"
)
FORBIDDEN = "403"
"""curl's answer, where the lab asks for no more than the status."""

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended: exit code, all that it printed, and the seconds that it took."""

    code: int
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def refused(self) -> bool:
        """Refused as ramfw refuses: in the client's own words, and in less than a second."""
        said = self.code != 0 and re.search(REFUSALS, self.output) is not None
        return (said or self.output.strip() == FORBIDDEN) and self.seconds < 1


class Process:
    """A program that runs in a namespace until it is stopped or the lab ends."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.argv = tuple(argv)
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._popen = subprocess.Popen(
            self.argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stream = self._popen.stdout
        if stream is None:
            return
        with stream:
            for line in stream:
                with self._changed:
                    self.lines.append(line.rstrip("\n"))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def output(self) -> str:
        """All lines so far."""
        return "\n".join(self.lines)

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    @property
    def pid(self) -> int:
        """The id of the program itself: what forks for a PID namespace stays its parent."""
        parent = self._popen.pid
        children = Path(f"/proc/{parent}/task/{parent}/children")
        wait_until(lambda: bool(children.read_text().split()), 5, f"{self.argv} has begun")
        return int(children.read_text().split()[0])

    def wait_for(self, pattern: str, timeout: float = 20, after: int = 0) -> str:
        """Wait for a line that fits the regular expression, from line number `after` on."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.lines[after:]:
                    if re.search(pattern, line):
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or self._ended:
                    break
                self._changed.wait(left)
        why = "did not say" if self.running else f"ended with {self._popen.returncode} before"
        raise AssertionError(f"{' '.join(self.argv)}: {why} {pattern!r}:\n{self.output}")

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 20) -> int:
        code = self._popen.wait(timeout)
        # What it printed is whole, unless a child of its own still holds the pipe.
        self._reader.join(1)
        return code

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 20) -> int:
        """Send a signal and wait for the end; what does not end is killed and is an error."""
        if self.running:
            with suppress(ProcessLookupError):
                self.send(number)
            # nsenter stops along with its child, and would not see the end of a stopped one.
            self._popen.send_signal(signal.SIGCONT)
        try:
            return self.wait(timeout)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(timeout)
            raise


class Namespace:
    """One network of a space, with its own mounts and view of the cgroup tree."""

    ENTERED: tuple[str, ...] = ("--mount", "--root", "--net", "--pid", "--cgroup")

    def __init__(self, space: Space, holder: Process) -> None:
        self.space = space
        self._holder = holder
        if Path(f"/proc/{holder.pid}/ns/net").readlink() == OUR_NETWORK:
            raise RuntimeError("a lab must never run in the network namespace it is started from")

    @property
    def pid(self) -> int:
        """A process that stays in it."""
        return self._holder.pid

    @property
    def root(self) -> Path:
        """The root directory of its mounts, for whoever is outside."""
        return Path(f"/proc/{self.pid}/root")

    def cgroup(self, path: str) -> Path:
        """The directory of one of its cgroups, made if it is not there."""
        return self.space.cgroup(path)

    def end(self) -> None:
        """End the process that holds it: without others in it, it is gone."""
        self._holder.stop(signal.SIGKILL)

    def _enter(self, argv: Sequence[str], cgroup: str) -> list[str]:
        # The move comes before the namespaces: a hierarchy mounted with nsdelegate lets nobody
        # be moved into a cgroup namespace from within it.
        group = self.cgroup(cgroup)
        move = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(group)]
        return [*move, "nsenter", "--target", str(self.pid), *self.ENTERED, "--", *argv]

    def start(
        self, *argv: str, cgroup: str = "user.slice", env: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program that stays; `cgroup` is a path below the lab's own root."""
        process = Process(self._enter(argv, cgroup), {**self.space.env, **(env or {})})
        self.space.processes.append(process)
        return process

    def run(
        self,
        *argv: str,
        cgroup: str = "user.slice",
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        stdin: str | bytes = b"",
        check: bool = False,
    ) -> Outcome:
        """Run a program to its end. One that has not ended in `timeout` seconds has failed."""
        started = time.monotonic()
        # timeout(1) within the namespaces: ending nsenter would leave its child running.
        bounded = ["timeout", "--kill-after=1", str(timeout), *argv]
        done = subprocess.run(
            self._enter(bounded, cgroup),
            env={**self.space.env, **(env or {})},
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout + 10,
            check=False,
        )
        seconds = time.monotonic() - started
        outcome = Outcome(done.returncode, done.stdout.decode(errors="replace"), seconds)
        if check and not outcome.ok:
            raise AssertionError(f"{' '.join(argv)}: exit {outcome.code}\n{outcome.output}")
        return outcome

    def sh(self, script: str, *, cgroup: str = "user.slice", timeout: float = 60) -> str:
        """Run a shell script that must succeed, and return what it printed."""
        done = self.run("sh", "-ec", script, cgroup=cgroup, timeout=timeout, check=True)
        return done.output


class Space:
    """A PID namespace, a cgroup subtree and a directory: all that one lab owns."""

    def __init__(self) -> None:
        sweep()
        self.directory = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
        self.directory.chmod(0o755)
        self._root = cgroup2_mount() / self.directory.name
        self._root.mkdir()
        self.env = {
            "PATH": PATH,
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
        }
        self.processes: list[Process] = []
        self._first = Process(
            self._hold(
                ["setpriv", "--pdeathsig", "KILL", "unshare", "--kill-child", "--fork", "--pid"],
                "--mount-proc",
            ),
            self.env,
        )
        self._first.wait_for("held")

    def _hold(self, before: Sequence[str], *flags: str) -> list[str]:
        """The command of a process that holds new namespaces, and reaps what is left to it."""
        # An ignored SIGCHLD is inherited through exec, and makes the kernel reap orphans.
        hold = f"echo held; exec env --ignore-signal=CHLD sleep {LIFETIME}"
        script = f"""
            mount -t sysfs sysfs /sys
            mount -t cgroup2 cgroup2 /sys/fs/cgroup
            mkdir -p /sys/fs/cgroup/init.scope
            echo 0 > /sys/fs/cgroup/init.scope/cgroup.procs
            ip link set lo up
            {hold}
        """
        move = ["sh", "-c", 'echo 0 > "$0/cgroup.procs" && exec "$@"', str(self._root)]
        new = ["--mount", "--net", "--cgroup", *flags, "sh", "-ec", script]
        return [*move, *(before or ["unshare"]), *new]

    @property
    def first(self) -> Namespace:
        """The network of the process that holds the space."""
        return Namespace(self, self._first)

    def namespace(self) -> Namespace:
        """One more network in this space."""
        pid = str(self._first.pid)
        holder = Process(
            self._hold(["nsenter", "--target", pid, "--mount", "--root", "--pid", "unshare"]),
            self.env,
        )
        self.processes.append(holder)
        holder.wait_for("held")
        return Namespace(self, holder)

    def cgroup(self, path: str) -> Path:
        """The directory of a cgroup of this lab, made if it is not there."""
        group = self._root / path
        group.mkdir(parents=True, exist_ok=True)
        return group

    def remove_cgroup(self, path: str) -> None:
        """Remove a cgroup, and those below it, whose processes have just ended."""
        _remove_cgroups(self._root / path)

    def link(self, one: Namespace, other: Namespace, name: str = "uplink") -> None:
        """A veth pair between two networks: `name` at one end, `uplink` at the other."""
        peer = _pid_in_namespace(other.pid)
        one.sh(f"ip link add {name} type veth peer name uplink netns {peer}")

    def close(self) -> None:
        """End all that runs here and remove what it leaves."""
        if self._first.running:
            with suppress(ProcessLookupError):
                self._first.send(signal.SIGKILL)
        self._first.wait()
        for process in self.processes:
            process.wait()
        _remove_cgroups(self._root)
        shutil.rmtree(self.directory, ignore_errors=True)


def wait_until(true: Callable[[], bool], timeout: float, what: str) -> float:
    """Wait for a thing that nobody announces; returns the seconds that it took."""
    started = time.monotonic()
    while not true():
        if time.monotonic() - started > timeout:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.02)
    return time.monotonic() - started


def sweep() -> None:
    """Remove what runs of the lab left whose process is no more."""
    for root in (Path(tempfile.gettempdir()), cgroup2_mount()):
        for left in root.glob(f"{PREFIX}*"):
            owner = left.name.removeprefix(PREFIX).split("-")[0]
            if Path(f"/proc/{owner}").exists():
                continue
            if root == cgroup2_mount():
                # Where processes still run, their owner lives in a PID namespace of its own. It
                # may be about to end: what cannot go now is its business.
                with suppress(OSError):
                    if "populated 0" in (left / "cgroup.events").read_text():
                        _prune(left)
            else:
                shutil.rmtree(left, ignore_errors=True)


def processes_of(directory: Path) -> list[str]:
    """The processes whose cgroup is in the lab of this directory."""
    found = []
    for cgroup in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if f"/{directory.name}" in cgroup.read_text():
                found.append(cgroup.parent.name)
        except OSError:
            continue
    return found


def cgroup2_mount() -> Path:
    """Where the v2 hierarchy of this machine is."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise RuntimeError("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")


def _pid_in_namespace(pid: int) -> str:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("NSpid:"):
            return line.split()[-1]
    raise RuntimeError(f"no such process: {pid}")


def _remove_cgroups(root: Path) -> None:
    # A process that has ended stays in its cgroup until it is reaped: a moment, no event.
    wait_until(lambda: _prune(root), 5, f"{root} is empty")


def _prune(root: Path) -> bool:
    """Remove what is empty of a cgroup subtree; whether that was all of it."""
    for path, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):
            Path(path).rmdir()
    return not root.exists()
