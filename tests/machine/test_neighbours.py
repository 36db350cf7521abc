"""Who else is on a machine: firewalld, ufw, and a user's own rootless engine; all three real.

One machine, which has firewalld and the user's engine from its boot on; ufw comes and goes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.addresses import GHCR
from tests.lab.space import Outcome, wait_until
from tests.machine import traffic
from tests.machine.installation import (
    EXPLAINED,
    FORBIDDEN,
    MEET,
    PERMITTED,
    UNEXPLAINED,
    Meeting,
    assert_enforced,
    table,
)
from tests.machine.machine import Machine
from tests.machine.rack import Rack
from tests.machine.traffic import Sender

TIMES = 3
FIREWALLD = {
    "reload": "firewall-cmd --reload",
    "complete reload": "firewall-cmd --complete-reload",
    "restart": "systemctl reset-failed firewalld; systemctl restart firewalld",
}
LET_IN = "ufw allow in on docker0 to any port 307 proto tcp"
BRIDGE = "br-other"

USER, UID = "dev", 1000
RUNTIME = f"/run/user/{UID}"
UNITS = f"/home/{USER}/.config/systemd/user"
ENGINE = """\
# As Docker's dockerd-rootless-setuptool.sh writes it.
[Service]
Type=notify
NotifyAccess=all
Environment=PATH=/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/usr/share/docker.io/contrib/dockerd-rootless.sh
Delegate=yes
KillMode=mixed
"""
CGROUP = f"user.slice/user-{UID}.slice/user@{UID}.service/app.slice/docker.service"
AS_USER = (
    *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--init-groups", "--no-new-privs"),
    *("env", f"HOME=/home/{USER}", f"XDG_RUNTIME_DIR={RUNTIME}"),
    f"DOCKER_HOST=unix://{RUNTIME}/docker.sock",
)
BEFORE_THE_BOOT = f"""
systemctl --quiet enable firewalld.service
useradd --uid {UID} --no-create-home --shell /bin/sh {USER}
mkdir -p {UNITS}/default.target.wants /var/lib/systemd/linger
ln -s ../docker.service {UNITS}/default.target.wants/docker.service
chown -R {USER}: /home/{USER}
touch /var/lib/systemd/linger/{USER}
"""


@dataclass(frozen=True)
class Neighbours:
    """The machine, and a sender in its engines' slice that began with its boot."""

    machine: Machine
    engine: Sender


@pytest.fixture(scope="module")
def neighbours(rack: Rack, layers: list[Path]) -> Iterator[Neighbours]:
    disk = rack.disk(layers)
    with Machine(rack, disk) as machine:
        machine.write(f"{UNITS}/docker.service", ENGINE)
        rack.space.first.run("chroot", str(disk.root), "sh", "-ec", BEFORE_THE_BOOT, check=True)
        engine = traffic.engine_at_boot(machine)
        rack.internet.reset_counts()
        machine.boot()
        machine.run("docker", "load", "--input", "/srv/tools.tar", check=True)
        machine.sh(f"docker network create --opt com.docker.network.bridge.name={BRIDGE} other")
        yield Neighbours(machine, engine)
    disk.remove()


def container_meets(machine: Machine, network: str = "bridge") -> Meeting:
    """How a connection to GHCR ends that a container opens."""
    tried = machine.run(
        *("docker", "run", "--rm", f"--network={network}", "--volume=/usr:/usr:ro"),
        *("--volume=/etc/ssl:/etc/ssl:ro", "tools:1"),
        *("/usr/bin/python3", "-Ic", MEET, GHCR.v4, GHCR.name),
    )
    assert tried.ok, tried.output
    return Meeting(tried.output.strip())


def unheard(machine: Machine) -> Any:  # noqa: ANN401 - JSON
    """The interfaces on which nothing is turned to the explainer, as it did not arrive."""
    return machine.status()["explainer"]["unheard"]


def microseconds(machine: Machine, unit: str, moment: str) -> int:
    return int(machine.show(unit, f"{moment}TimestampMonotonic"))


def test_firewalld_is_there_before_the_rules_and_the_rules_before_the_engine(
    neighbours: Neighbours,
) -> None:
    machine, engine = neighbours.machine, neighbours.engine
    engine.wait_for(100)
    assert machine.run("firewall-cmd", "--state").output.strip() == "running"
    firewalld = microseconds(machine, "firewalld.service", "ActiveEnter")
    rules = microseconds(machine, "ramfw-boot.service", "InactiveExit")
    assert firewalld <= rules < engine.first * 1e6
    assert engine.let_through == {}
    machine.systemctl("stop", "sender-engine.service")
    assert_enforced(machine)


def test_ufw_keeps_a_containers_turned_connection_away_until_it_is_told(
    neighbours: Neighbours,
) -> None:
    """In the place of firewalld: once it is enabled, what it was not told of does not come in."""
    machine = neighbours.machine
    machine.sh("systemctl stop firewalld; systemctl restart docker")
    assert container_meets(machine) is Meeting.EXPLAINED
    machine.sh("ufw --force enable")
    try:
        # The first is known by its second SYN; from then on none is turned there. Nobody hangs.
        assert container_meets(machine) is Meeting.REFUSED
        assert container_meets(machine) is Meeting.REFUSED
        assert unheard(machine) == ["docker0"]
        said = " ".join(machine.run("ramfw", "status").output.split())
        assert "turned to the explainer do not arrive (docker0)" in said
        assert f"do: let the host's own firewall take tcp port 307: {LET_IN}" in said

        machine.sh(LET_IN)
        wait_until(lambda: unheard(machine) == [], 10, "it is turned again")
        assert container_meets(machine) is Meeting.EXPLAINED
        assert "do not arrive" not in machine.run("ramfw", "status").output
    finally:
        machine.sh("ufw --force disable; systemctl start firewalld; systemctl restart docker")


@pytest.mark.parametrize("script", FIREWALLD.values(), ids=FIREWALLD)
def test_firewalld_may_do_what_it_does(neighbours: Neighbours, script: str) -> None:
    """It has a table of its own. With the lock or without, not a packet gets through."""
    machine = neighbours.machine
    whole = table(machine)
    container = traffic.in_container(machine)
    with traffic.from_engine(machine) as engine:
        for _ in range(TIMES):
            machine.sh(script)
            engine.wait_for(50)
            container.wait_for(50)
    machine.run("docker", "rm", "--force", "sender", check=True)
    assert engine.let_through == container.let_through == {}
    assert table(machine) == whole
    assert machine.status()["tampering"] == []
    assert_enforced(machine)


@pytest.mark.parametrize("zone", ["docker", "public", "drop"])
def test_firewalld_lets_turned_connections_in(neighbours: Neighbours, zone: str) -> None:
    """Whatever its zone does with what comes in: what was turned here, it takes for asked for."""
    machine = neighbours.machine
    machine.run("firewall-cmd", f"--zone={zone}", f"--change-interface={BRIDGE}", check=True)
    assert f"zone={zone}" in f"zone={machine.sh(f'firewall-cmd --get-zone-of-interface={BRIDGE}')}"
    assert container_meets(machine, "other") is Meeting.EXPLAINED


def pull(machine: Machine, image: str) -> Outcome:
    """Pull by the user's engine."""
    return machine.run(*AS_USER, "docker", "pull", image)


def assert_users_engine_is_filtered(machine: Machine) -> None:
    wait_until((machine.root / RUNTIME[1:] / "docker.sock").is_socket, 60, "the engine listens")
    forbidden, permitted = pull(machine, FORBIDDEN), pull(machine, PERMITTED)
    assert permitted.ok, permitted.output
    assert not forbidden.ok, forbidden.output
    assert re.search(f"{EXPLAINED}|{UNEXPLAINED}", forbidden.output), forbidden.output


def test_a_users_engine_starts_after_the_daemon_and_is_filtered(neighbours: Neighbours) -> None:
    """By its place in its user's slice, which is a new cgroup at each start."""
    machine = neighbours.machine
    # The rules of the boot cannot know its cgroup: the daemon finds it.
    began = microseconds(machine, f"user@{UID}.service", "InactiveExit")
    assert began >= microseconds(machine, "ramfw.service", "ActiveEnter")
    assert_users_engine_is_filtered(machine)
    engines = next(scope for scope in machine.status()["scopes"] if scope["name"] == "engines")
    assert CGROUP in engines["cgroups"]
    refused = {(record["scope"], record["uid"]) for record in machine.status()["refusals"]}
    assert ("engines", UID) in refused

    cgroup = machine.root / "sys/fs/cgroup" / CGROUP
    before = cgroup.stat().st_ino
    machine.run(*AS_USER, "systemctl", "--user", "restart", "docker.service", check=True)
    assert cgroup.stat().st_ino != before
    assert_users_engine_is_filtered(machine)
    assert machine.rack.internet.seen(GHCR) == {}


def test_another_program_of_that_user_is_left_alone(neighbours: Neighbours) -> None:
    machine = neighbours.machine
    editor = machine.run(
        *(*AS_USER, "systemd-run", "--user", "--quiet", "--pipe", "--wait", "--unit=editor"),
        *("/usr/bin/python3", "-Ic", MEET, GHCR.v4, GHCR.name),
    )
    assert editor.output.strip() == Meeting.OPEN, editor.output
    assert machine.rack.internet.packets(GHCR) > 0
    machine.rack.internet.reset_counts()
