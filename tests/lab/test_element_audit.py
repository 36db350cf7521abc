"""Elements are audited, in parts: what nobody saw is found and put right all the same."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ramfw.control import request
from tests.lab.addresses import DNS, GHCR, HUB
from tests.lab.host import RAMFW, Host
from tests.lab.policies import policy
from tests.lab.space import Process, wait_until

BLIND = """
from ramfw import watches
from ramfw.errors import ObserveError
def blind():
    raise ObserveError("the test wants it so")
watches.TamperWatch = blind
from ramfw.cli import main
main()
"""
"""The daemon where nf_tables' events cannot be had."""

FOUND_WITHIN = 60.0
"""Seconds: an audit each half minute, and the next one at once where something is suspected."""

OPEN = policy(f'address = "{HUB.v4}"\nnames = false')


def start_blind(host: Host) -> Process:
    host.write_policy(OPEN)
    host.daemon = host.namespace.start(
        *(sys.executable, "-c", BLIND, "run"),
        cgroup=RAMFW,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    host.daemon.wait_for("the policy is in force")
    assert request(host.control, "wait", {"seconds": 10})["settled"]
    return host.daemon


def connects(host: Host, address: str) -> bool:
    return host.as_engine("bash", "-c", f"exec 3<>/dev/tcp/{address}/443").ok


def element(host: Host, address: str) -> str:
    """The element that permits HUB, for another address."""
    found = re.search(rf"{HUB.v4} \. tcp \. 443 [^,}}]*: (\S+)", host.rules())
    assert found
    return f"{address} . tcp . 443 timeout 1h : {found[1]}"


def test_a_stray_element_is_taken_away_and_its_twin_stays(host: Host) -> None:
    daemon = start_blind(host)
    assert DNS.v4 in host.rules()
    stray = element(host, GHCR.v4)
    host.namespace.sh(f"nft add element inet ramfw permitted4 '{{ {stray} }}'")
    assert connects(host, GHCR.v4), "nobody saw it"
    assert connects(host, HUB.v4)

    wait_until(lambda: GHCR.v4 not in host.rules(), FOUND_WITHIN, "the stray is taken away")
    assert not connects(host, GHCR.v4)
    assert connects(host, HUB.v4), "the twin"
    daemon.wait_for(f"somebody unseen opened what ramfw did not.*{GHCR.v4} tcp/443")
    (touch,) = host.status()["tampering"]
    assert (touch["program"], touch["pid"]) == ("somebody unseen", 0)
    assert host.ramfw("status", "--check").code == 1


def test_an_element_that_somebody_took_away_is_given_again(host: Host) -> None:
    daemon = start_blind(host)
    host.namespace.sh(f"nft delete element inet ramfw permitted4 '{{ {HUB.v4} . tcp . 443 }}'")
    assert not connects(host, HUB.v4)
    wait_until(lambda: connects(host, HUB.v4), FOUND_WITHIN, "it is given again")
    daemon.wait_for(f"the kernel had lost what is permitted.*{HUB.v4} tcp/443")
    assert host.status()["tampering"] == [], "nobody is blamed for it"
