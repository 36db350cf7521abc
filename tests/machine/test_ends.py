"""However the daemon ends, and however often, the rules hold and it comes back."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.lab.space import wait_until
from tests.machine import traffic
from tests.machine.installation import assert_enforced, is_back
from tests.machine.machine import Machine
from tests.machine.memory import starve

RAMFW = "ramfw.service"
DEATHS = 100
WATCHDOG = 10.0
"""What the unit says (WatchdogSec)."""


def wait_for_another(machine: Machine, pid: int, timeout: float = 30) -> int:
    """Wait until the service has another main process and is ready; its id."""
    wait_until(lambda: is_back(machine, pid), timeout, f"{RAMFW} is back")
    return machine.main_pid(RAMFW)


def test_kill_a_hundred_times_under_traffic(running: Machine) -> None:
    with traffic.from_engine(running) as engine:
        pid = running.main_pid(RAMFW)
        for _ in range(DEATHS):
            running.inside.run("kill", "-KILL", str(pid), check=True)
            pid = wait_for_another(running, pid)
    assert engine.let_through == {}
    assert int(running.show(RAMFW, "NRestarts")) >= DEATHS
    assert_enforced(running)


@pytest.mark.timeout(180)
def test_a_stopped_daemon_is_ended_by_the_watchdog(running: Machine) -> None:
    """Stopped, not dead: systemd misses its sign of life, and ends it."""
    with traffic.from_engine(running) as engine:
        pid = running.main_pid(RAMFW)
        stopped = time.monotonic()
        running.inside.run("kill", "-STOP", str(pid), check=True)
        # Rules and what was permitted hold meanwhile.
        assert_enforced(running)
        wait_for_another(running, pid)
        assert time.monotonic() - stopped < 2 * WATCHDOG
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


def test_restart_takes_less_than_a_second(running: Machine) -> None:
    with traffic.from_engine(running) as engine:
        pid = running.main_pid(RAMFW)
        began = time.monotonic()
        running.systemctl("restart", RAMFW)
        took = time.monotonic() - began
    assert running.main_pid(RAMFW) != pid
    assert engine.let_through == {}
    # As systemd counts it; ours includes entering the machine.
    assert took < 2, took
    stopped, ready = (
        int(running.show(RAMFW, f"{moment}TimestampMonotonic")) / 1e6
        for moment in ("InactiveEnter", "ActiveEnter")
    )
    assert ready - stopped < 1
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
