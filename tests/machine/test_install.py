"""How ramfw gets on a machine, how it is replaced and how it goes."""

from __future__ import annotations

import re

from tests.lab import policies
from tests.machine import traffic
from tests.machine.installation import (
    FORBIDDEN,
    POLICY,
    assert_enforced,
    install,
    make,
    provision,
    pull,
    table,
)
from tests.machine.machine import Machine
from tests.machine.rack import PLACE

MOVING = (
    "/(tmp|root|srv|run/(systemd|log|docker|containerd)"
    "|var/(log|cache|tmp|lib/(docker|containerd|systemd)))"
)
"""Where other programs come and go on any machine that runs."""


def everything(machine: Machine) -> set[str]:
    """All files of the machine, its users, and its cgroups, as one list to compare."""
    found = machine.sh("find / /run -xdev -printf '%p %y\\n'; cat /etc/passwd /etc/group")
    groups = machine.sh(
        "find /sys/fs/cgroup -maxdepth 2 -type d -name '*engine*' -o -name 'ramfw*'"
    )
    moving = re.compile(MOVING)
    return {line for line in (found + groups).splitlines() if not moving.match(line)}


def test_a_first_policy_that_watches_until_the_admin_says_enforce(bare: Machine) -> None:
    bare.boot()
    provision(bare)
    assert bare.active("ramfw.service")
    assert bare.status()["mode"] == "audit"
    watched = pull(bare, FORBIDDEN)
    assert watched.ok, watched.output

    text = bare.disk.at(POLICY).read_text()
    bare.write(POLICY, text.replace('mode = "audit"', 'mode = "enforce"'))
    bare.systemctl("reload", "ramfw.service")
    assert_enforced(bare)

    for path in (
        "/usr/share/man/man1/ramfw.1",
        "/usr/share/man/man1/ramfw-status.1",
        "/usr/share/bash-completion/completions/ramfw",
    ):
        assert bare.disk.at(path).stat().st_size > 0
    bare.reboot()
    assert_enforced(bare)


def test_upgrade_leaves_no_moment_without_rules(machine: Machine) -> None:
    machine.boot()
    before = machine.main_pid("ramfw.service")
    version = machine.disk.at(f"{PLACE}/ramfw/__init__.py")
    version.write_text(version.read_text() + "\n# the next one\n")
    container = traffic.in_container(machine)
    container.wait_for(10)
    with traffic.from_engine(machine) as engine:
        install(machine)
    assert engine.let_through == {}
    assert container.let_through == {}
    assert machine.main_pid("ramfw.service") != before
    tree = machine.sh("readlink -f /usr/lib/ramfw/current").strip()
    found = machine.sh(f"find {tree} -path '*/ramfw/__init__.py' -exec cat {{}} +")
    assert "# the next one" in found
    assert_enforced(machine)
    # One environment is left, the new one.
    assert machine.sh("find /usr/lib/ramfw -mindepth 1 -maxdepth 1 -type d").split() == [tree]


def test_uninstall_leaves_nothing(bare: Machine) -> None:
    bare.boot()
    before = everything(bare)
    install(bare)
    bare.write(POLICY, policies.HUB_ONLY)
    bare.systemctl("reload", "ramfw.service")
    bare.systemctl("restart", "containerd.service", "docker.service")
    assert_enforced(bare)
    make(bare, "uninstall")
    bare.systemctl("restart", "containerd.service", "docker.service")
    assert table(bare) == ""
    assert pull(bare, FORBIDDEN).ok
    # The slice goes with the last engine in it.
    bare.sh("rmdir /sys/fs/cgroup/engines.slice 2>/dev/null || true")
    assert everything(bare) ^ before == set()
    bare.reboot()
    assert pull(bare, FORBIDDEN).ok
