"""What the service may do on a machine, while it really works."""

from __future__ import annotations

import re

from tests.machine.installation import assert_enforced
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


def test_it_is_as_exposed_as_it_must_be(running: Machine) -> None:
    said = running.sh("systemd-analyze security --no-pager ramfw.service")
    level = re.search(r"exposure level for ramfw.service: ([0-9.]+)", said)
    assert level is not None, said
    assert float(level[1]) <= 1.7, said
