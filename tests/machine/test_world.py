"""The machine around ramfw goes wrong or changes: clocks, name servers, disks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.lab import policies
from tests.lab.addresses import DNS, GHCR, HUB, NEXUS
from tests.lab.space import wait_until
from tests.machine import traffic
from tests.machine.installation import (
    POLICY,
    REFUSED,
    Meeting,
    assert_enforced,
    engine_meets,
)
from tests.machine.machine import Machine

CLOCK, PRELOADED = "/etc/its-clock", "/srv/clock.so"
SOURCE = Path(__file__).with_name("clock.c")
TEN_YEARS = 315_576_000
YEAR = ("env", f"LD_PRELOAD={PRELOADED}", "date", "+%Y")


def add_clock(machine: Machine) -> None:
    """A clock for one process: the kernel's is everybody's. Only the time of day is turned."""
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    into = str(machine.disk.at(PRELOADED))
    command = ["gcc", *flags, f'-DCLOCK="{CLOCK}"', str(SOURCE), "-o", into]
    subprocess.run(command, check=True)
    machine.write(CLOCK, "0\n")
    machine.write(
        "/etc/systemd/system/ramfw.service.d/clock.conf",
        f"[Service]\nEnvironment=LD_PRELOAD={PRELOADED}\n",
    )


def test_the_clock_jumps(machine: Machine) -> None:
    """By years, there and back: nothing is refused that was permitted, nothing opens."""
    add_clock(machine)
    machine.boot()
    pid = machine.main_pid("ramfw.service")
    assert PRELOADED in machine.sh(f"cat /proc/{pid}/maps")
    this_year = int(machine.run("date", "+%Y").output)
    with traffic.from_engine(machine) as engine:
        for jump, years in ((TEN_YEARS, 10), (-TEN_YEARS, -10), (0, 0)):
            machine.write(CLOCK, f"{jump}\n")
            seen = int(machine.run(*YEAR).output)
            assert abs(seen - this_year - years) <= 1, "that process would see it too"
            engine.wait_for(100)
            assert_enforced(machine)
            machine.systemctl("reload", "ramfw.service")
            assert_enforced(machine)
    assert engine.let_through == {}
    assert machine.main_pid("ramfw.service") == pid
    assert machine.status()["settled"]


def test_the_name_servers_change(machine: Machine) -> None:
    """As DHCP clients write them: a new file in the place of the old one."""

    def change(*servers: str) -> None:
        lines = "".join(f"nameserver {server}\n" for server in servers)
        machine.write("/etc/resolv.conf.new", lines)
        machine.sh("mv /etc/resolv.conf.new /etc/resolv.conf")
        wait_until(
            lambda: machine.status()["dns"]["servers"] == list(servers), 10, f"{servers} count"
        )

    machine.boot()
    with traffic.from_engine(machine) as engine:
        before = set(DNS.addresses)
        for servers in ([DNS.v6], [DNS.v4], [DNS.v6]):
            change(*servers)
            # dockerd reads the file again after some seconds, and asks the former ones until then.
            assert set(machine.status()["dns"]["former"]) == before - set(servers)
            assert_enforced(machine)
            before |= set(servers)
        wait_until(lambda: not machine.status()["dns"]["former"], 30, "the former ones are gone")
        assert_enforced(machine)
    assert engine.let_through == {}


def test_the_disk_is_full(machine: Machine) -> None:
    """A new policy comes into force, and the daemon back, without a byte to write to."""
    machine.boot()
    machine.write(POLICY, policies.HUB_AND_GHCR)
    machine.sh("cat /dev/zero >/var/fill 2>/dev/null || true")
    machine.systemctl("reload", "ramfw.service")
    assert engine_meets(machine, GHCR) is Meeting.OPEN
    assert machine.status()["state"]["problem"]
    pid = machine.main_pid("ramfw.service")
    machine.run("kill", "-KILL", str(pid), check=True)
    wait_until(lambda: machine.main_pid("ramfw.service") not in (0, pid), 10, "it is back")
    machine.run("ramfw", "status", "--wait", "10", check=True)
    assert engine_meets(machine, GHCR) is Meeting.OPEN
    assert engine_meets(machine, HUB) is Meeting.OPEN
    assert engine_meets(machine, NEXUS) in REFUSED

    machine.shut_down("reboot")
    machine.power_on()
    wait_until((machine.root / "run/ramfw/control.sock").is_socket, 20, "the daemon listens")
    machine.run("ramfw", "status", "--wait", "10", check=True)
    assert engine_meets(machine, GHCR) is Meeting.OPEN
    assert engine_meets(machine, NEXUS) in REFUSED

    machine.sh("rm /var/fill")
    machine.systemctl("restart", "ramfw.service")
    machine.run("ramfw", "status", "--wait", "10", check=True)
    wait_until(lambda: machine.status()["state"]["kept_ago"] is not None, 10, "it is kept now")
    assert machine.status()["state"]["problem"] == ""


@pytest.mark.parametrize("policy", ["good", "broken"])
def test_the_state_directory_is_read_only(machine: Machine, policy: str) -> None:
    """What was kept before still counts, and that nothing new can be kept is said."""
    engine = traffic.engine_at_boot(machine)
    machine.write("/etc/fstab", "/var/lib/ramfw /var/lib/ramfw none bind,ro 0 0\n")
    machine.boot()
    assert not machine.run("touch", "/var/lib/ramfw/x").ok
    if policy == "broken":
        machine.write(POLICY, "version = 1\n[[allow]\n")
        machine.reboot()
        engine.wait_for(100)
    else:
        machine.write(POLICY, policies.GHCR_ONLY)
        machine.systemctl("reload", "ramfw.service")
        assert machine.status()["state"]["problem"]
        assert engine_meets(machine, GHCR) is Meeting.OPEN
        machine.write(POLICY, policies.HUB_ONLY)
        machine.systemctl("reload", "ramfw.service")
        machine.rack.internet.reset_counts()
    assert engine_meets(machine, NEXUS) in REFUSED
    assert_enforced(machine)
