"""Stops the real daemon and asks for names: who has an answer all the same, told as JSON.

Arguments: nothing for the whole story, which is played between the host and the network of
`first_connection`; `ask` and the daemon's process id for the client, in the engine's cgroup.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import dns.exception
import dns.message
import dns.query

from tests.kernel.first_connection import PATIENCE, POLICY, start_serving
from tests.kernel.world import DNS, ENGINE, world

NAMES = ("1.other.example", "2.CDM.example", "3.cdn.example", "4.cDn.eXaMpLe")
NOT_LONG = 1.0
COUNTER = ("nft", "list", "counter", "inet", "ramfw", "answers")


def ask(daemon: int) -> None:
    """Tell which names are answered while the daemon is stopped, and how many waited."""
    before = queued()
    os.kill(daemon, signal.SIGSTOP)
    try:
        stopped = {name: answered(name, NOT_LONG) for name in NAMES}
        waited = queued() - before
    finally:
        os.kill(daemon, signal.SIGCONT)
    again = {name: answered(name, PATIENCE) for name in NAMES}
    json.dump({"while it is stopped": stopped, "queued": waited, "again": again}, sys.stdout)


def answered(name: str, seconds: float) -> bool:
    try:
        dns.query.udp(dns.message.make_query(name, "A"), DNS, timeout=seconds)
    except dns.exception.Timeout:
        return False
    return True


def queued() -> int:
    """How many answers the rules have put into the queue."""
    listed = subprocess.run(COUNTER, capture_output=True, text=True, check=True).stdout
    return int(listed.split("packets")[1].split()[0])


def pid_within(pid: int) -> str:
    """The id of a process in the namespace that it runs in."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[-1] for line in lines if line.startswith("NSpid:"))


def main() -> None:
    if sys.argv[1:]:
        ask(int(sys.argv[2]))
        return
    with world() as made:
        start_serving(made)
        daemon = made.start_ramfw(POLICY)
        myself = (sys.executable, "-m", "tests.kernel.told_apart", "ask", pid_within(daemon.pid))
        told = json.loads(made.host.run(*myself, cgroup=ENGINE, timeout=100, check=True).output)
        status = made.status()
        daemon.stop()
    watch = {key: status["watch"][key] for key in ("form", "held", "late")}
    json.dump({**told, **watch, "kernel": status["kernel"]}, sys.stdout)


if __name__ == "__main__":
    main()
