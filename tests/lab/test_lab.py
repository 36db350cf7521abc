"""The lab itself: no way out, nothing left behind, whatever becomes of those who use it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.addresses import HUB
from tests.lab.lab import Lab
from tests.lab.materials import Materials
from tests.lab.space import (
    OUR_NETWORK,
    PATH,
    PREFIX,
    Namespace,
    Process,
    Space,
    processes_of,
    sweep,
    wait_until,
)

OUTSIDE = ("8.8.8.8", "2606:4700:4700::1111")
VICTIM = """
import sys, time
from pathlib import Path
from tests.lab.lab import Lab
from tests.lab.materials import Materials
with Lab(Materials(Path(sys.argv[1]))) as lab:
    lab.host.start_engine()
    print(lab.space.directory, flush=True)
    time.sleep(60)
"""


def test_there_is_no_way_out(fresh_lab: Lab) -> None:
    for address in OUTSIDE:
        assert not fresh_lab.internet.namespace.run("ip", "route", "get", address).ok
    for namespace in (fresh_lab.internet.namespace, fresh_lab.host.namespace):
        inside = namespace.run("readlink", "/proc/self/ns/net").output.strip()
        assert inside != str(OUR_NETWORK)
        links = namespace.run("ip", "-brief", "link").output
        assert {line.split("@")[0].split()[0] for line in links.splitlines()} == {"lo", "uplink"}


def test_nothing_is_left_after_a_failure(materials: Materials) -> None:
    lab = Lab(materials)

    def fail_in_the_middle() -> None:
        with lab:
            lab.host.start_engine()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle()

    assert not lab.space.directory.exists()
    assert not lab.space._root.exists()
    assert not any(process.running for process in lab.space.processes)


def test_nothing_runs_on_when_its_owner_is_killed(materials: Materials) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(materials.directory)],
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    )
    with owner:
        assert owner.stdout
        directory = Path(owner.stdout.readline().strip())
        assert directory.name.startswith(f"{PREFIX}{owner.pid}-")
        assert processes_of(directory)

        owner.send_signal(signal.SIGKILL)
        owner.wait()

    wait_until(lambda: not processes_of(directory), 5, "all of its processes have ended")
    sweep()
    assert not directory.exists()


def test_our_own_network_is_refused() -> None:
    unshared = Process(["sh", "-c", "sleep 60 & echo begun; wait"], {"PATH": PATH})
    unshared.wait_for("begun")
    space = Space()
    try:
        with pytest.raises(RuntimeError, match="must never run"):
            Namespace(space, unshared)
    finally:
        unshared.stop()
        space.close()


def test_packets_are_counted_where_they_arrive(fresh_lab: Lab) -> None:
    host, internet = fresh_lab.host, fresh_lab.internet
    assert internet.packets(HUB) == 0

    assert host.curl(f"https://{HUB.name}/v2/").ok

    assert internet.packets(HUB, 443, "tcp") > 0
    assert internet.packets(HUB, 443, "udp") == internet.packets(HUB, 5000) == 0
    internet.reset_counts()
    assert internet.packets(HUB) == 0
