"""Others change rules, ramfw's too, while the engine sends without pause."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.lab.space import wait_until
from tests.machine import traffic
from tests.machine.installation import assert_enforced, table
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


@pytest.mark.parametrize("script", ATTACKS.values(), ids=ATTACKS)
def test_rules_are_put_right_at_once_and_status_says_who(
    running: Machine, script: str, record_property: Callable[[str, object], None]
) -> None:
    """Where others cannot be kept out, what got through is counted here, and how long."""
    whole = table(running).count("\n")

    def put_right(changes: int) -> None:
        def done() -> bool:
            seen = running.status()["tampering"]
            return len(seen) >= changes and seen[-1]["mended_after"] is not None

        wait_until(done, 10, "the table is as it was meant")

    with traffic.from_engine(running) as engine:
        for turn in range(1, TIMES + 1):
            running.sh(script)
            put_right(turn)
            arrived = engine.arrived
            engine.wait_for(100)
            assert engine.arrived == arrived, "nothing gets through any more"
    seen = running.status()["tampering"]
    away = [change["mended_after"] for change in seen]
    record_property("seconds_until_mended", away)
    record_property("packets_let_through", engine.arrived)
    assert max(away) < 1
    assert {change["program"] for change in seen} == {"nft"}
    assert "nft (pid" in running.run("ramfw", "status", "--check").output
    assert table(running).count("\n") >= whole - 10
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
        arrived = engine.arrived
        engine.wait_for(100)
        assert engine.arrived == arrived


@pytest.mark.parametrize("script", OTHERS_OWN.values(), ids=OTHERS_OWN)
def test_what_others_do_with_their_own_rules_opens_nothing(running: Machine, script: str) -> None:
    with traffic.from_engine(running) as engine:
        running.sh(script)
        engine.wait_for(100)
    assert engine.let_through == {}
    running.sh(f"{ANEW} docker.service")
    assert_enforced(running)
    assert running.status()["tampering"] == []
