"""What the machine tells its people: the canary, the journal, doctor, and who is refused."""

from __future__ import annotations

import json
from typing import Any

from tests.lab.addresses import GHCR
from tests.lab.space import wait_until
from tests.machine.installation import (
    EXPLAINED,
    FORBIDDEN,
    PERMITTED,
    Meeting,
    engine_meets,
    pull,
)
from tests.machine.machine import Machine
from tests.machine.test_tamper import can_lock

CANARY = "ramfw-canary.service"
OTHERS_FILTER = """
table inet other {
    chain output { type filter hook output priority -400; oifname "lo" meta l4proto tcp reject; }
}
"""
"""Refuses what the canary tries, before ramfw sees it."""


def sings(machine: Machine) -> Any:  # noqa: ANN401 - JSON
    """Let the canary be started as its timer does; what the daemon says of it then."""
    machine.run("systemctl", "start", CANARY)
    return machine.status()["canary"]


def entries(machine: Machine, *matches: str) -> list[dict[str, str]]:
    """What the journal holds, entry by entry, with all fields."""
    said = machine.run("journalctl", "--boot", "--output=json", *matches, check=True).output
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_the_canary_finds_that_the_filter_holds(running: Machine) -> None:
    found = sings(running)
    assert found["holds"] is True, found
    assert "was refused" in found["detail"]
    assert running.show("ramfw-canary.timer", "ActiveState") == "active"
    assert running.run("ramfw", "status", "--check").ok
    assert any(
        found["detail"] in entry["MESSAGE"] for entry in entries(running, f"--unit={CANARY}")
    )


def test_the_canary_finds_that_another_refused_it(running: Machine) -> None:
    """It is no proof of ramfw's rules that something else stops what they should stop."""
    # It begins anew each minute: how its last time ended would not be told while it runs.
    running.systemctl("stop", "ramfw-canary.timer")
    running.run("nft", "-f", "-", stdin=OTHERS_FILTER, check=True)
    try:
        found = sings(running)
        assert found["holds"] is False, found
        assert not running.active(CANARY)
        assert running.show(CANARY, "Result") == "exit-code"
        checked = running.run("ramfw", "status", "--check")
        assert checked.code == 1
        assert "something else" in checked.output
        said = [entry["MESSAGE"] for entry in entries(running, f"--unit={CANARY}")]
        assert any("something else than ramfw refused it" in message for message in said)
    finally:
        running.sh(f"nft delete table inet other; systemctl reset-failed {CANARY}")
        running.systemctl("start", "ramfw-canary.timer")
    assert sings(running)["holds"] is True
    assert running.run("ramfw", "status", "--check").ok


def test_the_canary_finds_that_nothing_refuses(running: Machine) -> None:
    """Without a daemon and without its rules: the journal and the exit code say so."""
    running.sh("systemctl stop ramfw.service; nft delete table inet ramfw")
    assert not running.run("systemctl", "start", CANARY).ok
    said = [entry["MESSAGE"] for entry in entries(running, f"--unit={CANARY}")]
    assert any("the daemon is not running, and what is refused passed" in line for line in said)
    running.sh(f"systemctl start ramfw.service; systemctl reset-failed {CANARY}")
    assert sings(running)["holds"] is True


def test_a_refusal_has_its_fields_in_the_journal(running: Machine) -> None:
    assert not pull(running, FORBIDDEN).ok
    engine = running.sh("stat -c %i /sys/fs/cgroup/engines.slice/docker.service").strip()
    said = ("RAMFW_SCOPE=engines", "RAMFW_PORT=443", f"RAMFW_CGROUP={engine}")
    wait_until(lambda: bool(entries(running, *said)), 10, "the engine's refusal is logged")
    entry = entries(running, *said)[-1]
    assert entry["_SYSTEMD_UNIT"] == "ramfw.service"
    assert entry["SYSLOG_IDENTIFIER"] == "ramfw"
    assert entry["RAMFW_PROTOCOL"] == "tcp"
    assert entry["RAMFW_UID"] == "0"
    assert entry["RAMFW_REASON"]
    assert entry["RAMFW_ADDRESS"] in GHCR.addresses
    assert entry["RAMFW_ADDRESS"] in entry["MESSAGE"]


def test_the_engine_prints_why_it_was_refused(running: Machine) -> None:
    """The explainer, as a service without any right."""
    forbidden = pull(running, FORBIDDEN)
    assert EXPLAINED in forbidden.output, forbidden.output
    assert "(Example Corp). Allowed: docker.io." in forbidden.output
    pid = running.main_pid("ramfw-explainer.service")
    said = running.sh(f"cat /proc/{pid}/status")
    facts = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(facts[kind], 16) == 0, kind
    user = running.sh("id -u ramfw-explainer").strip()
    assert set(facts["Uid"].split()) == {user}
    # It is none of the rules: without it clients are refused all the same, without the words.
    running.sh("systemctl stop ramfw-explainer.socket ramfw-explainer.service")
    assert engine_meets(running, GHCR) is Meeting.REFUSED
    running.sh("systemctl start ramfw-explainer.socket")
    assert engine_meets(running, GHCR) is Meeting.EXPLAINED
    assert pull(running, PERMITTED).ok


def test_doctor_tells_what_this_machine_has(running: Machine) -> None:
    done = running.run("ramfw", "doctor", "--json")
    assert done.ok, done.output
    findings = json.loads(done.output)["findings"]
    assert not [finding for finding in findings if finding["state"] == "missing"], findings
    assert all(finding["mend"] for finding in findings if finding["state"] == "note"), findings
    locked = [finding for finding in findings if "lock" in finding["fact"]]
    assert {finding["state"] for finding in locked} == {"ok" if can_lock(running) else "note"}, (
        locked
    )
