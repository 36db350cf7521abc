"""What the service may do on a machine, while it really works."""

from __future__ import annotations

import json
import re

import pytest

from tests.lab.addresses import NEXUS
from tests.lab.policies import DOCKER_IO, REGISTRIES, policy
from tests.machine.installation import POLICY, assert_enforced
from tests.machine.machine import Machine

CAP_NET_ADMIN = 1 << 12


def test_the_daemon_can_change_the_network_and_nothing_else(running: Machine) -> None:
    running_pid = running.main_pid("ramfw.service")
    said = running.sh(f"cat /proc/{running_pid}/status")
    facts = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(facts[kind], 16) == CAP_NET_ADMIN, kind
    assert running.sh("id -u ramfw").strip() in facts["Uid"].split()
    assert "0" not in facts["Uid"].split()
    assert facts["NoNewPrivs"] == "1"
    assert_enforced(running)


@pytest.mark.parametrize(
    ("unit", "most"),
    [
        ("ramfw.service", 1.7),
        ("ramfw-explainer.service", 1.3),
        ("ramfw-signer.service", 1.3),
        ("ramfw-prober.service", 1.3),
    ],
)
def test_it_is_as_exposed_as_it_must_be(running: Machine, unit: str, most: float) -> None:
    said = running.sh(f"systemd-analyze security --no-pager {unit}")
    level = re.search(rf"exposure level for {unit}: ([0-9.]+)", said)
    assert level is not None, said
    assert float(level[1]) <= most, said


def test_the_prober_is_started_when_it_is_asked_and_finds_without_any_right(
    running: Machine,
) -> None:
    url = f"https://{NEXUS.name}/v2/"
    get = f"import ssl, urllib.request; print(urllib.request.urlopen('{url}').status)"
    fetch = ("/usr/bin/python3", "-Ic", get)
    assert running.run(*fetch).ok, "while unknown hosts pass"
    assert not running.active("ramfw-prober.service")
    running.write(POLICY, policy(DOCKER_IO, host=f'{REGISTRIES}\nunknown = "probe"'))
    running.systemctl("reload", "ramfw.service")

    # It is only started now: the first may go on without it.
    running.run(*fetch)
    refused = running.run(*fetch)

    assert not refused.ok
    assert re.search("access denied|Connection reset", refused.output), refused.output
    found = running.status()["names"]["probe"]
    assert [one["name"] for one in found["registries"]] == [NEXUS.name]
    assert found["problem"] == ""
    pid = running.main_pid("ramfw-prober.service")
    said = running.sh(f"cat /proc/{pid}/status; ls /proc/{pid}/ns/net -l; ls /proc/1/ns/net -l")
    assert "\nCapEff:\t0000000000000000\n" in said
    assert "\nCapBnd:\t0000000000000000\n" in said
    networks = re.findall(r"net:\[(\d+)\]", said)
    assert len(set(networks)) == 2, "it has a network of its own, with nothing in it"
    assert "registries.json" in running.sh("ls /var/lib/ramfw")


def test_it_has_the_device_by_which_refused_clients_are_told(running: Machine) -> None:
    """With its own few devices, its user and its one capability; after a restart as well."""
    # A machine in a container has no such device by itself; the service runs without it.
    if not running.run("test", "-e", "/dev/net/tun").ok:
        problem = running.status()["names"]["telling"]["problem"]
        assert problem == "opening /dev/net/tun: No such file or directory"
        running.sh("mkdir -p /dev/net && mknod /dev/net/tun c 10 200")
        running.sh("systemd-tmpfiles --create --prefix=/dev/net/tun")
        running.systemctl("restart", "ramfw.service")
    for _ in range(2):
        assert "192.0.0.8" in running.sh("ip addr show dev ramfw0")
        told = json.loads(running.sh("ramfw status --json"))["names"]["telling"]
        assert told["problem"] == ""
        running.systemctl("restart", "ramfw.service")
    running.systemctl("stop", "ramfw.service")
    assert "ramfw0" not in running.sh("ip link")
    assert "alive_at" in running.sh("cat /run/ramfw/control.sock.alive")
