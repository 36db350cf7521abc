"""What the service takes on a whole machine: Debian 13 with systemd, ramfw installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.bench.report import Measure
from tests.bench.rows import Bench
from tests.lab import materials, policies
from tests.machine import installation
from tests.machine.installation import assert_enforced
from tests.machine.machine import Machine
from tests.machine.rack import Rack

SECONDS = 1.0
RAMFW, BARE = "ramfw.service", "bare.service"
BARE_UNIT = """\
[Unit]
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
ExecStart=/usr/bin/python3 -I /srv/bare.py
"""
BARE_PROGRAM = """\
import signal, subprocess
subprocess.run(["systemd-notify", "--ready"], check=True)
signal.pause()
"""
"""A service that does nothing: what systemd and Python take of a restart."""


def restart(bench: Bench) -> list[Measure]:
    """A restart of the service, from the stop's beginning until its rules are in again."""
    ours, bare = [], []
    with TemporaryDirectory() as directory:
        made = materials.make(Path(directory))
        with Rack("trixie", made) as rack, Machine(rack, rack.disk()) as machine:
            machine.write(f"/etc/systemd/system/{BARE}", BARE_UNIT)
            machine.write("/srv/bare.py", BARE_PROGRAM)
            machine.boot()
            installation.provision(machine)
            machine.write(installation.POLICY, policies.HUB_ONLY)
            machine.systemctl("reload", RAMFW)
            machine.systemctl("start", BARE)
            for _ in range(bench.pairs):
                ours.append(_restarted(machine, RAMFW))
                bare.append(_restarted(machine, BARE))
            assert_enforced(machine)
    return [
        Measure(
            "restart",
            "a restart of the service, until its rules are in",
            median(ours),
            tuple(ours),
            SECONDS,
            unit="s",
            beside={"a service in Python that does nothing": f"{median(bare):.2f} s"},
        )
    ]


def _restarted(machine: Machine, unit: str) -> float:
    """Restart a unit; the seconds that it took, as systemd counts them."""
    machine.systemctl("restart", unit)
    began, ready = (
        int(machine.show(unit, f"{moment}TimestampMonotonic"))
        for moment in ("ActiveExit", "ActiveEnter")
    )
    return (ready - began) / 1e6


ROWS: dict[str, Callable[[Bench], list[Measure]]] = {"restart": restart}
