"""Others change rules, ramfw's too, while the engine sends without pause."""

from __future__ import annotations

import platform
from collections.abc import Callable
from difflib import unified_diff
from functools import partial

import pytest

from tests.lab.space import wait_until
from tests.machine import traffic
from tests.machine.installation import assert_enforced, is_back, table
from tests.machine.machine import Machine

TIMES = 10

ANEW = "anew() { systemctl reset-failed $1; systemctl restart $1; }; anew"
"""A service may only be started so often in ten seconds, by people; tests are quicker."""

ATTACKS = {
    "flush ruleset": "nft flush ruleset",
    "delete the table": "nft delete table inet ramfw",
    "restart nftables": f"{ANEW} nftables.service",
    "insert an accept": "nft insert rule inet ramfw guard_output accept",
}
OTHERS_OWN = {
    "iptables -F": "iptables -F; iptables -t nat -F",
    "restart docker": f"{ANEW} docker.service",
    "a table of one's own": "nft add table inet mine; nft delete table inet mine",
}


def can_lock(machine: Machine) -> bool:
    """Whether a table can be owned and persist: Linux 6.9 and nftables 1.1.0, so not Debian 12."""
    linux = tuple(int(part) for part in platform.release().split(".")[:2])
    return linux >= (6, 9) and machine.rack.suite != "bookworm"


def test_status_says_whether_the_table_is_locked(running: Machine) -> None:
    lock = running.status()["lock"]
    assert lock["held"] is can_lock(running)
    assert bool(lock["problem"]) is not lock["held"]


@pytest.mark.parametrize("script", ATTACKS.values(), ids=ATTACKS)
def test_what_others_do_to_the_rules(
    running: Machine, script: str, record_property: Callable[[str, object], None]
) -> None:
    with traffic.from_engine(running) as engine:
        if can_lock(running):
            whole = table(running)
            for _ in range(TIMES):
                # It is refused, or passes over the table.
                running.run("sh", "-c", script)
                engine.wait_for(100)
            assert engine.let_through == {}
            assert table(running) == whole
        else:
            put_right_each_time(running, script, engine)
            record_property("packets_let_through", engine.arrived)
    running.sh(f"{ANEW} docker.service")
    assert_enforced(running)


def put_right_each_time(machine: Machine, script: str, engine: traffic.Sender) -> None:
    """Where others cannot be kept out, the rules are back at once, and status says who it was."""
    meant = rules(machine)
    for _ in range(TIMES):
        machine.sh(script)
        wait_for_rules(machine, meant)
        engine.assert_nothing_more()
    seen = machine.status()["tampering"]
    assert all(change["mended_after"] is not None for change in seen), seen
    # Some 30 ms each, where the machine is not busy with other things.
    assert min(change["mended_after"] for change in seen) < 1, seen
    assert {change["program"] for change in seen} == {"nft"}
    assert "nft (pid" in machine.run("ramfw", "status", "--check").output


def rules(machine: Machine) -> str:
    """The rules of ramfw's table, without counters and what sets hold; empty without a table."""
    # nft 1.0.6 has something to say to stderr each time, of the xt target.
    listed = machine.sh("nft --stateless --terse list table inet ramfw 2>/dev/null || true")
    # One by one, as sets and chains are listed in the order in which they were made.
    return "\n\n".join(sorted(listed.split("\n\n")))


def wait_for_rules(machine: Machine, meant: str) -> None:
    try:
        wait_until(lambda: rules(machine) == meant, 20, "the rules are as they were meant")
    except AssertionError as error:
        found = unified_diff(meant.splitlines(), rules(machine).splitlines(), "meant", "found")
        said = machine.journal("ramfw.service")
        raise AssertionError("\n".join([str(error), *found, said])) from None


def test_flushes_while_the_daemon_is_killed(
    running: Machine, record_property: Callable[[str, object], None]
) -> None:
    """The hand-over from one owner to the next: with the lock there is no moment between."""
    # Without the lock a daemon would do nothing but put its rules back.
    pause = "" if can_lock(running) else "sleep 0.5;"
    with traffic.from_engine(running) as engine:
        flushing = running.start("sh", "-c", f"while :; do nft flush ruleset; {pause} done")
        try:
            for _ in range(TIMES):
                pid = running.main_pid("ramfw.service")
                running.inside.run("kill", "-KILL", str(pid), check=True)
                wait_until(partial(is_back, running, pid), 60, "it is back")
            assert flushing.running
        finally:
            flushing.stop()
        running.run("ramfw", "status", "--wait", "10", check=True)
        record_property("packets_let_through", engine.arrived)
        if can_lock(running):
            assert engine.let_through == {}
        engine.assert_nothing_more()
    running.sh(f"{ANEW} docker.service")
    assert_enforced(running)


@pytest.mark.parametrize("script", ATTACKS.values(), ids=ATTACKS)
def test_the_same_opens_the_way_while_no_daemon_lives(running: Machine, script: str) -> None:
    """The twin: each of them would let the engine through, and the next daemon ends it."""
    running.systemctl("stop", "ramfw.service")
    with traffic.from_engine(running) as engine:
        running.sh(script)
        engine.wait_for(100)
        assert engine.arrived > 0
        running.systemctl("start", "ramfw.service")
        engine.assert_nothing_more()


@pytest.mark.parametrize("script", OTHERS_OWN.values(), ids=OTHERS_OWN)
def test_what_others_do_with_their_own_rules_opens_nothing(running: Machine, script: str) -> None:
    with traffic.from_engine(running) as engine:
        running.sh(script)
        engine.wait_for(100)
    assert engine.let_through == {}
    running.sh(f"{ANEW} docker.service")
    assert_enforced(running)
    assert running.status()["tampering"] == []
