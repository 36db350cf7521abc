"""What is measured and what it runs in: servers, hosts with ramfw, and a host with its peer.

Each host is a network namespace with a veth pair to the servers and to nothing else. Those that
are compared exist side by side, so that the two halves of a pair are seconds apart.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ramfw.control import request
from tests.lab.space import Process, Space

ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent / "native"

DNS = "198.51.100.53"
ENGINE = "engines.slice/docker.service"
BYSTANDER = "user.slice"
PERMITTED = "pool.example"
UNRELATED = "elsewhere.example"
BULK = 100_000
"""198.18.0.0 and the addresses after it, up to this many, belong to names that a policy lists."""
FRESH = 31_072
"""The addresses after those: each fresh name has the next one."""
LIFE = 10
"""The TTL of fresh names, in seconds."""

PLAIN, WITH_NFTSET = 5301, 5302
"""The ports of the two dnsmasqs on a peer's host."""
DOCKER_TABLES = """
table ip nat {
    chain PREROUTING { type nat hook prerouting priority -100; fib daddr type local accept; }
    chain OUTPUT { type nat hook output priority -100; fib daddr type local accept; }
    chain POSTROUTING { type nat hook postrouting priority 100; ip saddr 172.17.0.0/16 masquerade; }
}
table ip filter {
    chain FORWARD { type filter hook forward priority 0; ct state established,related accept; }
}
"""
"""What an engine itself leaves in the kernel, in short: because of it, connections are tracked."""
PEER_TABLE = "table inet bench { set permitted { type ipv4_addr; }; }"

RUN = "from ramfw.cli import main; main()"
RUN_COPYING = f"""
from ramfw.core.watch_rules import WatchForm
from ramfw.program.nft import Nft
Nft.watch_form = lambda self: (WatchForm.COPY, "the bench wants it so")
{RUN}
"""
IDLE = "import ramfw.cli, ramfw.daemon, nftables, time; print('idle', flush=True); time.sleep(600)"


@dataclass(frozen=True, slots=True)
class Delay:
    """How long answers took, in microseconds."""

    p50: float
    p99: float


@dataclass(frozen=True, slots=True)
class Connections:
    """What became of connections that were opened at once after an answer."""

    refused: int
    at_second_try: int
    never: int
    unanswered: int

    @property
    def failed(self) -> int:
        """Those that did not open at the first SYN."""
        return self.refused + self.at_second_try + self.never + self.unanswered


class Setting:
    """The servers, and the programs that are compiled for one run."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.servers = space.first
        self.hosts = 0
        self._serial = 0
        for program in ("answerer", "asker"):
            self.compile(program)
        self.servers.sh(f"ip addr add {DNS}/32 dev lo; ip route add local 198.18.0.0/15 dev lo")
        self.servers.start(f"{space.directory}/answerer", DNS, "53").wait_for("listening")
        # Something always runs in an engine's cgroup, so that it stays the same one.
        self.servers.start("sleep", "infinity", cgroup=ENGINE)

    def compile(self, program: str, *libraries: str) -> None:
        """Compile one of the native programs into the space's directory."""
        flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")
        into = ("-o", self.space.directory / program)
        source = SOURCES / f"{program}.c"
        subprocess.run(["gcc", *flags, source, *into, *libraries], check=True)

    def serials(self, count: int) -> int:
        """The first of so many serial numbers, which no name has had yet."""
        first, self._serial = self._serial, self._serial + count
        return first


class Host:
    """A host of its own, linked to the servers."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        setting.hosts += 1
        name, net = f"host{setting.hosts}", 4 * setting.hosts
        self.directory = setting.space.directory / name
        self.directory.mkdir()
        self.namespace = setting.space.namespace()
        self.daemon: Process | None = None
        self.control = self.directory / "control.sock"
        setting.space.link(setting.servers, self.namespace, name)
        setting.servers.sh(f"ip addr add 192.0.2.{net + 1}/30 dev {name}; ip link set {name} up")
        self.namespace.sh(
            f"ip addr add 192.0.2.{net + 2}/30 dev uplink; ip link set uplink up;"
            f"ip route add default via 192.0.2.{net + 1}"
        )

    # -- what runs on it -------------------------------------------------------------------------

    def start_ramfw(
        self,
        names: int = 0,
        addresses: int = 1,
        *,
        program: str = RUN,
        more: str = "",
        wildcard: bool = True,
    ) -> None:
        """Start the daemon anew and wait until all names of its policy are resolved.

        The policy permits all names below PERMITTED (with `wildcard`), `names` more with
        `addresses` each, and what the tables of `more` say. What is in no engine's cgroup is
        outside its scopes.
        """
        self.stop_ramfw()
        path = self.directory / "policy.toml"
        listed = (f"{n}-{n * addresses}-{addresses}-3600.listed.example" for n in range(names))
        below = (f"*.{PERMITTED}",) if wildcard else ()
        allowed = "\n".join(f'[[allow]]\nhost = "{name}"' for name in (*below, *listed))
        fixed = f'version = 1\n[dns]\nservers = ["{DNS}"]\n[scopes.host]\nmode = "off"\n'
        path.write_text(f"{fixed}{allowed}\n{more}")
        path.chmod(0o644)
        form = self._run_ramfw(program)
        if program is not RUN_COPYING and form not in ("native", "xt"):
            raise RuntimeError(f"this kernel cannot hold answers: {form}")

    def restart_ramfw(self) -> None:
        """End the daemon and start it on the table that it left."""
        if self.daemon is not None:
            self.daemon.stop()
        self._run_ramfw(RUN)

    def _run_ramfw(self, program: str) -> str:
        path = str(self.directory / "policy.toml")
        self.daemon = self.namespace.start(
            *(sys.executable, "-c", program),
            *("--policy", path, "--control", str(self.control), "run"),
            cgroup="system.slice/ramfw.service",
            env={"PYTHONPATH": str(ROOT)},
        )
        self.daemon.wait_for("the policy is in force", 60)
        state = request(self.control, "wait", {"seconds": 120}, timeout=130)
        if not state["settled"]:
            raise RuntimeError("two minutes after its start ramfw had not opened all that it is to")
        return str(state["watch"]["form"])

    def stop_ramfw(self) -> None:
        """End the daemon, if one runs, and remove its table."""
        if self.daemon is not None:
            self.daemon.stop()
            self.daemon = None
            self.namespace.sh("nft delete table inet ramfw")

    def start_peer(self) -> None:
        """Start the dnsmasq without `--nftset` and the one with it."""
        self.namespace.sh(f"echo '{PEER_TABLE}' | nft -f -")
        nftset = f"--nftset=/{PERMITTED}/4#inet#bench#permitted"
        for port, more in ((PLAIN, ()), (WITH_NFTSET, (nftset,))):
            self.namespace.start(
                *("dnsmasq", "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null"),
                *("--pid-file=", "--user=root", "--no-resolv", "--no-hosts", "--cache-size=0"),
                *("--bind-interfaces", "--listen-address=127.0.0.1", f"--port={port}"),
                *(f"--server={DNS}", "--dns-forward-max=1000", *more),
            ).wait_for("using nameserver")

    def track_connections(self) -> None:
        """Have the rules of an engine, and none of ramfw."""
        self.namespace.run("nft", "-f", "-", stdin=DOCKER_TABLES, check=True)

    def empty_peer_set(self) -> None:
        self.namespace.sh("nft flush set inet bench permitted")

    # -- what is measured on it --------------------------------------------------------------------

    def delay(
        self, count: int, below: str = PERMITTED, *, port: int = 53, cgroup: str = ENGINE
    ) -> Delay:
        """How long answers to fresh names take, asked one after the other."""
        p50, p99, _most, lost = self._ask("delay", count, below, port, cgroup)
        if lost:
            raise RuntimeError(f"{lost} of {count} answers did not come")
        return Delay(p50, p99)

    def connect(self, count: int) -> Connections:
        """Connect to each of so many fresh names at once after its answer."""
        found = self._ask("connect", count, PERMITTED, 53, ENGINE)
        return Connections(*(int(number) for number in found))

    def _ask(self, what: str, count: int, below: str, port: int, cgroup: str) -> list[float]:
        server = DNS if port == 53 else "127.0.0.1"
        first = self.setting.serials(count)
        fresh = map(str, (first, count, BULK, FRESH, LIFE))
        done = self.namespace.run(
            *(f"{self.setting.space.directory}/asker", what, server, str(port), below, *fresh),
            cgroup=cgroup,
            timeout=300,
            check=True,
        )
        return [float(number) for number in done.output.split()]

    def rate(self, count: int, outstanding: int, *, port: int = 53) -> float:
        """Answers a second to fresh names, with so many questions on their way at any time."""
        server = DNS if port == 53 else "127.0.0.1"
        questions = self.directory / "questions"
        first = self.setting.serials(count)
        questions.write_text(
            "".join(
                f"{serial}-{BULK + serial % FRESH}-1-{LIFE}.{PERMITTED} A\n"
                for serial in range(first, first + count)
            )
        )
        done = self.namespace.run(
            *("dnsperf", "-s", server, "-p", str(port), "-d", str(questions), "-n", "1"),
            *("-q", str(outstanding), "-t", "2"),
            cgroup=ENGINE,
            timeout=120,
            check=True,
        )
        lost = re.search(r"Queries lost: +(\d+)", done.output)
        rate = re.search(r"Queries per second: +([\d.]+)", done.output)
        if lost is None or rate is None or int(lost[1]) > count / 100:
            raise RuntimeError(f"dnsperf:\n{done.output}")
        return float(rate[1])

    def status(self) -> dict[str, Any]:
        """What the daemon says of itself."""
        return request(self.control, "status", timeout=60)

    def peak_memory(self) -> float:
        """The most that the daemon has had resident, in MiB."""
        if self.daemon is None:
            raise RuntimeError("no daemon runs")
        return _peak(self.daemon.pid)

    def idle_memory(self) -> float:
        """The same of a Python that has imported what the daemon does, and sleeps."""
        idle = self.namespace.start(sys.executable, "-c", IDLE, env={"PYTHONPATH": str(ROOT)})
        idle.wait_for("idle")
        try:
            return _peak(idle.pid)
        finally:
            idle.stop()


def _peak(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has no memory")
