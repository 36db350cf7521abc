"""A machine without systemd, as WSL2 starts a distribution, whose hook is in /etc/wsl.conf.

Windows is not played, nor its kernels (tests/lab/test_wsl.py has more of those); what is here is
ramfw as `make install` puts it there, the hook, and an engine that the distribution's own command
starts.
"""

from __future__ import annotations

import signal

from tests.lab.addresses import GHCR
from tests.lab.space import wait_until
from tests.machine import traffic
from tests.machine.installation import assert_enforced
from tests.machine.machine import Machine

CONF, INIT, BEGUN = "/etc/wsl.conf", "/sbin/wsl-init", "run/wsl-begun"
OWN = "[boot]\ncommand = /srv/start\n"
START = f"""#!/bin/sh
/usr/bin/python3 -I /srv/sender.py /run/sender-engine tcp/{GHCR.v4}/443 tcp/{GHCR.v6}/443 &
dockerd >/var/log/dockerd.log 2>&1 &
"""
PLAYED = f"""#!/bin/sh
# What WSL's init does with [boot] command=.
command=$(sed -n 's/^command *= *//p' {CONF})
[ -z "$command" ] || /bin/sh -c "$command"
touch /{BEGUN}
while sleep 1; do :; done
"""


def start(machine: Machine) -> None:
    machine.power_on(INIT, BEGUN)


def daemon(machine: Machine) -> int:
    return int(machine.status()["pid"])


def is_up(machine: Machine) -> bool:
    return machine.run("ramfw", "status", "--wait", "5").ok


def test_a_distribution_without_systemd(machine: Machine) -> None:
    machine.write(CONF, OWN)
    machine.write(INIT, PLAYED, 0o755)
    machine.write("/srv/start", START, 0o755)
    machine.write(traffic.PLACE, traffic.PROGRAM)
    sender = traffic.Sender(machine, "/run/sender-engine", GHCR)

    # The twin: without the hook what the command starts is filtered by nobody.
    start(machine)
    sender.wait_for(100)
    assert sender.arrived > 0
    machine.run("ramfw", "wsl", "install", check=True)
    machine.pull_plug()
    machine.rack.internet.reset_counts()

    start(machine)
    wait_until(lambda: is_up(machine), 60, "the daemon is up")
    sender.wait_for(100)
    assert sender.let_through == {}, "from its first packet"
    status = machine.sh(f"cat /proc/{daemon(machine)}/status")
    assert f"Uid:\t{machine.sh('id -u ramfw').strip()}\t" in status
    assert "CapBnd:\t0000000000001000" in status
    wait_until((machine.root / "run/docker.sock").is_socket, 30, "dockerd listens")
    assert_enforced(machine)

    before = daemon(machine)
    machine.run("kill", f"-{signal.SIGKILL.value}", str(before), check=True)
    wait_until(lambda: is_up(machine) and daemon(machine) != before, 60, "another one runs")
    assert sender.let_through == {}
    assert_enforced(machine)

    machine.run("ramfw", "wsl", "uninstall", check=True)
    assert machine.disk.at(CONF).read_text() == OWN
