"""ramfw on a machine: how it gets there, and whether it does its work."""

from __future__ import annotations

import re
from enum import StrEnum

from tests.lab.addresses import Site
from tests.lab.space import Outcome
from tests.machine.machine import Machine
from tests.machine.rack import PLACE

POLICY = "/etc/ramfw/policy.toml"
PROVISION = f"{PLACE}/install/provision.sh"
PERMITTED, FORBIDDEN = "docker.io/corp/app:1", "ghcr.io/corp/app:1"
EXPLAINED = "Access to ghcr.io has been restricted by your administrators"
UNEXPLAINED = "connection refused|no route to host"

MEET = """
import socket, ssl, sys
address, name = sys.argv[1:]
try:
    with socket.create_connection((address, 443), 2) as client:
        ssl.create_default_context().wrap_socket(client, server_hostname=name)
    print("open")
except TimeoutError:
    print("held")
except ssl.SSLCertVerificationError as error:
    print("explained" if error.verify_code == 18 else error)
except ssl.SSLError as error:
    print("explained" if error.reason == "TLSV1_ALERT_ACCESS_DENIED" else error)
except OSError as error:
    print("refused" if error.errno in {13, 104, 111, 113} else error)
"""


class Meeting(StrEnum):
    """What a client saw of a server, in the end."""

    OPEN = "open"
    """The server itself, by a certificate that the lab's authority made for its name."""
    REFUSED = "refused"
    """A reset, or word that it is prohibited."""
    EXPLAINED = "explained"
    """The explainer in the server's place, by its self-signed certificate; or an alert."""
    HELD = "held"
    """Nothing for two seconds."""


REFUSED = {Meeting.REFUSED, Meeting.EXPLAINED}


def make(machine: Machine, target: str) -> str:
    """Run a target of the Makefile; what it printed."""
    done = machine.run("make", "-C", PLACE, target, timeout=240)
    assert done.ok, done.output
    return done.output


def install(machine: Machine) -> None:
    make(machine, "install")


def provision(machine: Machine) -> str:
    """What the Vagrantfile runs as well: an engine where there is none, ramfw, and its slice."""
    done = machine.run(PROVISION, timeout=240)
    assert done.ok, done.output
    return done.output


def pull(machine: Machine, image: str) -> Outcome:
    """Pull an image that the engine has not."""
    machine.run("docker", "image", "rm", "--force", image)
    return machine.run("docker", "pull", image)


def assert_enforced(machine: Machine) -> None:
    """The engine reaches what is permitted, and is refused what is not, in words or without.

    Without them for a minute after a sender has used a port again within three seconds: to the
    filter that is a SYN which did not get to the explainer.
    """
    permitted, forbidden = pull(machine, PERMITTED), pull(machine, FORBIDDEN)
    assert permitted.ok, permitted.output
    assert not forbidden.ok, forbidden.output
    assert re.search(f"{EXPLAINED}|{UNEXPLAINED}", forbidden.output), forbidden.output


def table(machine: Machine) -> str:
    """ramfw's table as nft lists it, without what comes and goes; empty where there is none."""
    listed = machine.run("nft", "--stateless", "--terse", "list", "table", "inet", "ramfw")
    return listed.output if listed.ok else ""


def engine_meets(machine: Machine, site: Site, name: str = "") -> Meeting:
    """How a TLS connection to a site ends that a program in the engines' slice asks for.

    It asks for `name` there, and for the site's own where none is given.
    """
    tried = machine.run(
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--slice=engines.slice"),
        *("/usr/bin/python3", "-Ic", MEET, site.v4, name or site.name),
    )
    assert tried.ok, tried.output
    return Meeting(tried.output.strip())


def is_back(machine: Machine, pid: int) -> bool:
    """Whether the service has another main process than this one, and is ready."""
    said = machine.show("ramfw.service", "MainPID,ActiveState").split()
    return "active" in said and not {"0", str(pid)} & set(said)
