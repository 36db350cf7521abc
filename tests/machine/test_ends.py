"""However the daemon ends, and however often, the rules hold and it comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.lab.addresses import GHCR, HUB
from tests.lab.space import wait_until
from tests.machine import traffic
from tests.machine.installation import (
    REFUSED,
    Meeting,
    assert_enforced,
    engine_meets,
    is_back,
)
from tests.machine.machine import Machine
from tests.machine.memory import starve

RAMFW = "ramfw.service"
DEATHS = 100
KILL = f"""
pid=0
for death in $(seq {DEATHS}); do
    last=$pid
    until [ "$pid" != 0 ] && [ "$pid" != "$last" ]; do
        sleep 0.02
        pid=$(systemctl show --value --property=MainPID {RAMFW})
    done
    if [ $((death % 2)) = 0 ]; then
        until systemctl --quiet is-active {RAMFW}; do sleep 0.02; done
    else
        sleep 0.$((death / 20))$((death % 10))
    fi
    kill -KILL "$pid"
done
echo "$pid"
"""
"""At moments up to half a second after its start, and as soon as it is ready."""

WATCHDOG = 10.0
"""What the unit says (WatchdogSec)."""
RESTARTS = 10


def children(machine: Machine, pid: int) -> list[int]:
    found = machine.sh(f"cat /proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.split()]


def state(machine: Machine, pid: int) -> str:
    """As the kernel has it: T is stopped."""
    return machine.sh(f"cat /proc/{pid}/stat").rpartition(")")[2].split()[0]


def lives(machine: Machine, pid: int) -> bool:
    return (machine.root / f"proc/{pid}").exists()


def wait_for_another(machine: Machine, pid: int, timeout: float = 60) -> int:
    """Wait until the service has another main process and is ready; its id."""
    wait_until(lambda: is_back(machine, pid), timeout, f"{RAMFW} is back")
    return machine.main_pid(RAMFW)


@pytest.mark.timeout(400)
def test_kill_a_hundred_times_under_traffic(running: Machine) -> None:
    """Half of the times it has just become ready, the others it dies on the way there."""
    with traffic.from_engine(running) as engine:
        last = int(running.sh(KILL, timeout=360))
        wait_for_another(running, last)
    assert engine.let_through == {}
    assert int(running.show(RAMFW, "NRestarts")) >= DEATHS
    assert_enforced(running)


def test_a_stopped_daemon_is_ended_by_the_watchdog(running: Machine) -> None:
    """Stopped, not dead: it misses its sign of life, and is ended. Until then nothing opens."""
    assert engine_meets(running, HUB) is Meeting.OPEN
    with traffic.from_engine(running) as engine:
        pid = running.main_pid(RAMFW)
        stopped = time.monotonic()
        running.inside.run("kill", "-STOP", str(pid), check=True)
        # What the kernel alone can judge it does as ever.
        assert engine_meets(running, GHCR) in REFUSED
        # Names are not read now: whatever its name, what begins waits.
        assert engine_meets(running, HUB, GHCR.name) is Meeting.HELD
        assert state(running, pid) == "T"
        wait_until(lambda: not lives(running, pid), 30, "it is ended")
        assert time.monotonic() - stopped < WATCHDOG
        wait_for_another(running, pid)
        assert "Watchdog timeout" not in running.journal(RAMFW), "its own was first"
    assert engine.let_through == {}
    assert engine_meets(running, HUB, GHCR.name) in REFUSED
    assert_enforced(running)


def test_a_stopped_daemon_whose_watchdog_is_stopped_too_is_ended_by_systemd(
    running: Machine,
) -> None:
    """The second of two: the daemon's own process that watches it cannot do its work."""
    with traffic.from_engine(running) as engine:
        pid = running.main_pid(RAMFW)
        for process in (*children(running, pid), pid):
            running.inside.run("kill", "-STOP", str(process), check=True)
        stopped = time.monotonic()
        wait_until(lambda: not lives(running, pid), 40, "it is ended")
        assert time.monotonic() - stopped < 2 * WATCHDOG
        wait_for_another(running, pid)
        assert "Watchdog timeout" in running.journal(RAMFW)
    assert engine.let_through == {}
    assert_enforced(running)


def test_the_oom_killer_ends_it(running: Machine) -> None:
    pid = running.main_pid(RAMFW)
    with traffic.from_engine(running) as engine:
        with starve(running, pid):
            # It needs memory to answer.
            running.start("ramfw", "status")
        wait_for_another(running, pid)
    assert engine.let_through == {}
    assert_enforced(running)


def test_restarts_under_traffic(running: Machine) -> None:
    """As an administrator restarts it; how long that takes is measured in the bench."""
    with traffic.from_engine(running) as engine:
        for _ in range(RESTARTS):
            running.systemctl("restart", RAMFW)
            engine.wait_for(10)
    assert engine.let_through == {}
    assert_enforced(running)


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda machine: machine.systemctl("stop", RAMFW), id="stop"),
        pytest.param(lambda machine: machine.systemctl("kill", "--signal=ABRT", RAMFW), id="abort"),
    ],
)
def test_without_a_daemon_the_rules_stay(
    running: Machine, ending: Callable[[Machine], str]
) -> None:
    with traffic.from_engine(running) as engine:
        ending(running)
        engine.wait_for(200)
    assert engine.let_through == {}
    running.systemctl("restart", RAMFW)
    assert_enforced(running)


def test_the_engine_restarts_under_traffic(running: Machine) -> None:
    """Its slice stays, and with it the id that the rules know it by."""
    slice_id = running.sh("stat -c %i /sys/fs/cgroup/engines.slice")
    container = traffic.in_container(running)
    with traffic.from_engine(running) as engine:
        for unit in ("docker.service", "containerd.service", "docker.service"):
            running.systemctl("restart", unit)
            assert_enforced(running)
    container.wait_for(10)
    running.run("docker", "rm", "--force", "sender")
    assert engine.let_through == {}
    assert container.let_through == {}
    assert running.sh("stat -c %i /sys/fs/cgroup/engines.slice") == slice_id


def test_signal_that_reloads(running: Machine) -> None:
    pid = running.main_pid(RAMFW)
    running.systemctl("reload", RAMFW)
    assert running.main_pid(RAMFW) == pid
    assert_enforced(running)
