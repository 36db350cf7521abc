"""The machine itself: it boots, Docker pulls on it, and it can be turned off and on."""

from __future__ import annotations

from tests.lab.addresses import GHCR
from tests.lab.space import OUR_NETWORK
from tests.machine.machine import Machine

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
