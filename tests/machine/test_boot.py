"""From power-on to shutdown no packet of an engine or a container leaves that is not permitted."""

from __future__ import annotations

import pytest

from tests.lab import policies
from tests.lab.policies import REGISTRIES
from tests.lab.space import wait_until
from tests.machine import traffic
from tests.machine.installation import POLICY, assert_enforced, table
from tests.machine.machine import Machine

AUDIT = '[enforcement]\nmode = "audit"\n'
AT_ONCE = 2.0
"""Seconds: much less than a boot takes on a machine that others use too."""


def seconds_of(machine: Machine, unit: str, moment: str) -> float:
    """When a unit came to a point, by the monotonic clock."""
    return int(machine.show(unit, f"{moment}TimestampMonotonic")) / 1e6


def test_senders_from_the_first_moment(machine: Machine) -> None:
    engine, host = traffic.engine_at_boot(machine), traffic.host_at_boot(machine)
    machine.boot()
    container = traffic.in_container(machine)
    container.wait_for(100)
    assert_enforced(machine)
    machine.reboot()
    for sender in (engine, container, host):
        sender.wait_for(100)

    # The network was there: what is in no scope got out, before the rules were in.
    rules = seconds_of(machine, "ramfw-boot.service", "ActiveEnter")
    assert host.first < rules
    assert host.arrived > 0
    # The engine's began as soon as there were rules, and long before there was a daemon.
    assert engine.first < rules + AT_ONCE
    # As they were kept, and loaded by nft alone.
    assert "the last good rules are in force" in machine.journal("ramfw-boot.service")
    assert engine.first < seconds_of(machine, "ramfw.service", "ActiveEnter")
    assert engine.let_through == {}
    assert container.let_through == {}
    assert_enforced(machine)
    machine.shut_down()
    assert engine.let_through == container.let_through == {}


def test_the_same_senders_get_through_without_ramfw(bare: Machine) -> None:
    """What the test above would see if nothing were filtered."""
    engine = traffic.engine_at_boot(bare)
    bare.rack.internet.reset_counts()
    bare.boot()
    container = traffic.in_container(bare)
    for sender in (engine, container):
        sender.wait_for(100)
        assert sender.arrived > 100


def test_without_its_daemon_the_boot_is_as_tight(machine: Machine) -> None:
    """The boot unit alone holds the engine, for as long as the daemon does not come."""
    machine.boot()
    machine.systemctl("mask", "ramfw.service")
    machine.shut_down()
    engine = traffic.engine_at_boot(machine)
    machine.boot()
    engine.wait_for(100)
    assert "chain guard" in table(machine)
    assert engine.let_through == {}


def test_nftables_service_flushes_before_the_rules_come(machine: Machine) -> None:
    """Debian's nftables.service begins with `flush ruleset`."""
    machine.boot()
    machine.systemctl("enable", "nftables.service")
    machine.shut_down()
    engine = traffic.engine_at_boot(machine)
    machine.boot()
    engine.wait_for(100)
    assert machine.active("nftables.service")
    assert seconds_of(machine, "nftables.service", "ActiveEnter") < engine.first
    assert engine.let_through == {}
    assert_enforced(machine)


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "nothing kept"])
def test_the_rules_need_no_place_for_temporary_files(machine: Machine, *, kept: bool) -> None:
    """Their unit runs before /tmp is in order, or while it is emptied."""
    if not kept:
        machine.disk.at("/var/lib/ramfw/boot.nft").unlink()
    machine.write("/etc/fstab", "none /tmp tmpfs ro 0 0\n")
    machine.write(
        "/etc/systemd/system/ramfw-boot.service.d/tmp.conf", "[Unit]\nRequiresMountsFor=/tmp\n"
    )
    engine = traffic.engine_at_boot(machine)
    machine.power_on()
    engine.wait_for(100)
    assert not machine.run("mktemp").ok
    assert machine.active("ramfw-boot.service")
    assert "chain guard" in table(machine)
    assert engine.let_through == {}


def test_until_the_daemon_runs_mode_registries_is_strict_for_containers(machine: Machine) -> None:
    """Nobody reads names yet: containers open nothing on registry ports, the host is left alone."""
    machine.boot()
    machine.write(
        POLICY, policies.policy(policies.DOCKER_IO, containers=REGISTRIES, host=REGISTRIES)
    )
    machine.systemctl("reload", "ramfw.service")
    container = traffic.in_container(machine)
    container.wait_for(10)
    assert container.arrived > 0
    kept = machine.disk.at("/var/lib/ramfw/policy.toml")
    wait_until(lambda: REGISTRIES in kept.read_text(), 10, "it is kept for the next boot")
    machine.systemctl("mask", "ramfw.service")
    machine.shut_down()
    machine.rack.internet.reset_counts()
    host = traffic.host_at_boot(machine)
    machine.boot()
    for sender in (container, host):
        sender.wait_for(100)
    assert container.let_through == {}
    assert host.arrived > 0


def test_a_boot_begins_with_what_the_last_reload_brought(machine: Machine) -> None:
    """The power goes as soon as `reload` says that the new policy is in force."""
    machine.boot()
    machine.write(POLICY, policies.policy(policies.DOCKER_IO, more=AUDIT))
    machine.systemctl("reload", "ramfw.service")
    # No daemon comes with the next boot, to put right what the boot's rules let pass.
    machine.systemctl("mask", "ramfw.service")
    machine.write(POLICY, policies.HUB_ONLY)
    machine.run("ramfw", "reload", check=True)
    machine.pull_plug()
    machine.rack.internet.reset_counts()
    engine = traffic.engine_at_boot(machine)
    machine.boot()
    engine.wait_for(100)
    assert engine.let_through == {}


@pytest.mark.parametrize("broken", ["version = 1\n[[allow]\n", ""], ids=["broken", "empty"])
def test_a_policy_broken_on_disk_leaves_the_last_good_one(machine: Machine, broken: str) -> None:
    engine = traffic.engine_at_boot(machine)
    machine.boot()
    assert_enforced(machine)
    machine.write(POLICY, broken)
    machine.reboot()
    engine.wait_for(100)
    assert engine.let_through == {}
    assert_enforced(machine)
    assert POLICY in machine.run("ramfw", "status").output


def test_no_policy_and_no_last_good_one_permits_nothing(machine: Machine) -> None:
    engine = traffic.engine_at_boot(machine)
    machine.boot()
    machine.write(POLICY, "version = 1\n[[allow]\n")
    machine.sh("systemctl stop ramfw; rm /var/lib/ramfw/*")
    machine.shut_down()
    machine.power_on()
    engine.wait_for(100)
    assert engine.let_through == {}
    assert "chain guard" in table(machine)
