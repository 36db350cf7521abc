"""The machine itself: it boots, Docker pulls on it, and it can be turned off and on."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.addresses import GHCR
from tests.lab.materials import Materials
from tests.lab.space import OUR_NETWORK, PREFIX, cgroup2_mount, processes_of, sweep, wait_until
from tests.machine.machine import Machine
from tests.machine.rack import Rack

VICTIM = """
import sys, time
from pathlib import Path
from tests.lab.materials import Materials
from tests.machine.machine import Machine
from tests.machine.rack import Rack
with Rack(sys.argv[1], Materials(Path(sys.argv[2]))) as rack, Machine(rack, rack.disk()) as machine:
    machine.power_on()
    print(rack.space.directory, flush=True)
    time.sleep(60)
"""
OUTSIDE = ("8.8.8.8", "2606:4700:4700::1111")


def test_it_boots_and_docker_pulls_from_a_registry(bare: Machine) -> None:
    bare.boot()
    assert bare.active("docker.service")
    pulled = bare.run("docker", "pull", "ghcr.io/corp/app:1")
    assert pulled.ok, pulled.output
    assert bare.rack.internet.packets(GHCR, 443) > 0


def test_it_has_no_way_out(bare: Machine) -> None:
    bare.boot()
    assert bare.run("readlink", "/proc/self/ns/net").output.strip() != str(OUR_NETWORK)
    for address in OUTSIDE:
        assert not bare.rack.internet.namespace.run("ip", "route", "get", address).ok


def test_it_keeps_its_disk_and_forgets_its_rules(bare: Machine) -> None:
    bare.boot()
    bare.sh("echo kept > /srv/note; nft add table inet mine")
    bare.reboot()
    assert bare.sh("cat /srv/note") == "kept\n"
    assert "mine" not in bare.sh("nft list tables")
    bare.shut_down()


def test_one_machine_of_a_rack_is_on_at_a_time(bare: Machine) -> None:
    bare.power_on()
    with Machine(bare.rack, bare.disk) as another, pytest.raises(RuntimeError, match="at a time"):
        another.power_on()


def test_nothing_is_left_after_a_failure(rack: Rack, materials: Materials) -> None:
    failing = Rack(rack.suite, materials)

    def fail_in_the_middle() -> None:
        with failing, Machine(failing, failing.disk()) as machine:
            machine.boot()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()

    assert_gone(failing.space.directory)


def test_nothing_runs_on_when_its_owner_is_killed(rack: Rack, materials: Materials) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", VICTIM, rack.suite, str(materials.directory)],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with owner:
        assert owner.stdout
        directory = Path(owner.stdout.readline().strip())
        assert directory.name.startswith(f"{PREFIX}{owner.pid}-")
        assert processes_of(directory)

        owner.send_signal(signal.SIGKILL)
        owner.wait()

    wait_until(lambda: not processes_of(directory), 10, "all of its processes have ended")
    sweep()
    assert_gone(directory)


def assert_gone(directory: Path) -> None:
    assert not processes_of(directory)
    assert not directory.exists()
    assert not (cgroup2_mount() / directory.name).exists()
    assert str(directory) not in Path("/proc/self/mounts").read_text()
