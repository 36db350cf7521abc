"""A policy of thousands of entries: its rules are more than nf_tables' listeners can be told."""

from __future__ import annotations

import signal

from tests.lab.addresses import GHCR, LOGS
from tests.lab.host import Host
from tests.lab.policies import DOCKER_IO, policy
from tests.lab.space import wait_until

ENTRIES = 12_000
"""More than 1 MB of rules, which nft writes in a process of its own: 5 MB of events."""
FLOOD = 40_000
"""Elements, in some 10 MB of events; half of that is more than is kept."""
MANY = policy(
    DOCKER_IO,
    *(f'address = "{LOGS.v4}"\nports = [{10_000 + n}]\nnames = false' for n in range(ENTRIES)),
)


def connects(host: Host) -> bool:
    return host.as_engine("bash", "-c", f"exec 3<>/dev/tcp/{GHCR.v4}/443").ok


def first_rule(host: Host) -> str:
    """The rule that comes first where the engine's packets pass the guard."""
    chain = host.namespace.sh("nft list chain inet ramfw guard_output")
    return chain.partition("policy ")[2].splitlines()[1].strip()


def mended(host: Host) -> bool:
    return all(touch["mended_after"] is not None for touch in host.status()["tampering"])


def test_what_ramfw_writes_itself_is_nobody_s_tampering(host: Host) -> None:
    daemon = host.start_ramfw(MANY)
    assert host.status()["settled"]
    assert host.status()["tampering"] == []
    assert host.reload(policy(DOCKER_IO)).ok
    assert host.reload(MANY).ok
    assert host.status()["tampering"] == []
    assert "changed the table" not in daemon.output
    assert "too quickly" not in daemon.output


def test_real_tampering_with_it_is_put_right_and_told(host: Host) -> None:
    host.start_ramfw(MANY)
    rules = (f"insert rule inet ramfw {chain} accept" for chain in ("judge_output", "guard_output"))
    host.namespace.sh(f"nft '{'; '.join(rules)}'")
    wait_until(lambda: len(host.status()["tampering"]) == 1 and mended(host), 30, "it is put right")
    assert not connects(host)
    (touch,) = host.status()["tampering"]
    assert touch["program"] == "nft"
    assert touch["mended_after"] < 20, "the whole table is listed and compared first"


def flood(host: Host) -> None:
    """Fill a set of one's own in one commit: more events than the kernel keeps for a listener.

    With long comments, so that nft is done long before the watchdog ends a stopped daemon.
    """
    comment = "x" * 120
    elements = ",".join(f'{n} comment "{comment}"' for n in range(FLOOD))
    script = "add table inet other; delete table inet other\n"
    script += f"table inet other {{ set s {{ type mark; elements = {{ {elements} }}; }}; }}\n"
    host.namespace.run("nft", "-f", "-", stdin=script, check=True)


def test_more_events_than_can_be_kept_lead_to_one_look_and_no_more(host: Host) -> None:
    """Somebody changes ramfw's table behind a flood of events of his own, and once more later."""
    daemon = host.start_ramfw(policy(DOCKER_IO))
    daemon.send(signal.SIGSTOP)  # else it might read as quickly as the kernel tells
    flood(host)
    host.namespace.sh("nft insert rule inet ramfw guard_output accept")
    assert first_rule(host) == "accept", "it stands while nobody looks"
    daemon.send(signal.SIGCONT)
    daemon.wait_for("too quickly")

    wait_until(lambda: first_rule(host) != "accept", 10, "it is put right")
    assert host.ramfw("status", "--wait", "10").ok, "settled"
    assert host.status()["tampering"] == [], "nobody is blamed for what was not seen"
    assert not connects(host)

    host.namespace.sh("nft insert rule inet ramfw guard_output accept")
    wait_until(lambda: len(host.status()["tampering"]) == 1 and mended(host), 10, "it is put right")
    assert sum("too quickly" in line for line in daemon.lines) == 1
