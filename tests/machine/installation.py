"""ramfw on a machine: how it gets there, and whether it does its work."""

from __future__ import annotations

import re

from tests.lab.addresses import Site
from tests.lab.space import Outcome
from tests.machine.machine import Machine
from tests.machine.rack import PLACE

POLICY = "/etc/ramfw/policy.toml"
PERMITTED, FORBIDDEN = "docker.io/corp/app:1", "ghcr.io/corp/app:1"


def make(machine: Machine, target: str) -> str:
    """Run a target of the Makefile; what it printed."""
    done = machine.run("make", "-C", PLACE, target, timeout=110)
    assert done.ok, done.output
    return done.output


def install(machine: Machine) -> None:
    make(machine, "install")


def provision(machine: Machine) -> str:
    """What the Vagrantfile runs as well: an engine where there is none, ramfw, and its slice."""
    done = machine.run(f"{PLACE}/install/provision.sh", timeout=110)
    assert done.ok, done.output
    return done.output


def pull(machine: Machine, image: str) -> Outcome:
    """Pull an image that the engine has not."""
    machine.run("docker", "image", "rm", "--force", image)
    return machine.run("docker", "pull", image)


def assert_enforced(machine: Machine) -> None:
    """The engine reaches what is permitted, and is refused what is not."""
    permitted, forbidden = pull(machine, PERMITTED), pull(machine, FORBIDDEN)
    assert permitted.ok, permitted.output
    assert not forbidden.ok, forbidden.output
    assert re.search("connection refused|no route to host", forbidden.output), forbidden.output


def table(machine: Machine) -> str:
    """ramfw's table as nft lists it; empty where there is none."""
    listed = machine.run("nft", "list", "table", "inet", "ramfw")
    return listed.output if listed.ok else ""


def engine_reaches(machine: Machine, site: Site) -> bool:
    """Whether a connection comes about, that a program in the engines' slice asks for."""
    connect = f"import socket; socket.create_connection(('{site.v4}', 443), 5)"
    tried = machine.run(
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--slice=engines.slice"),
        *("/usr/bin/python3", "-Ic", connect),
    )
    refused = re.search("ConnectionRefusedError|No route to host|Permission denied", tried.output)
    assert tried.ok or refused, tried.output
    return tried.ok


def is_back(machine: Machine, pid: int) -> bool:
    """Whether the service has another main process than this one, and is ready."""
    said = machine.show("ramfw.service", "MainPID,ActiveState").split()
    return "active" in said and not {"0", str(pid)} & set(said)
