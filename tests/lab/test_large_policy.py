"""A policy of thousands of entries: its rules are more than nf_tables' listeners can be told."""

from __future__ import annotations

from tests.lab.addresses import GHCR, LOGS
from tests.lab.host import Host
from tests.lab.policies import DOCKER_IO, policy
from tests.lab.space import wait_until

ENTRIES = 3000
"""Nearly 2 MB of rules, which nft writes in a process of its own: 5 MB of events."""
MANY = policy(
    DOCKER_IO,
    *(f'address = "{LOGS.v4}"\nports = [{10_000 + n}]\nnames = false' for n in range(ENTRIES)),
)


def connects(host: Host) -> bool:
    return host.as_engine("bash", "-c", f"exec 3<>/dev/tcp/{GHCR.v4}/443").ok


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


def test_more_events_than_can_be_kept_lead_to_one_look_and_no_more(host: Host) -> None:
    """Somebody fills a set of his own in one commit, and changes ramfw's table later."""
    daemon = host.start_ramfw(policy(DOCKER_IO))
    elements = ",".join(str(n) for n in range(300_000))
    script = "add table inet other; delete table inet other\n"
    script += f"table inet other {{ set s {{ type mark; elements = {{ {elements} }}; }}; }}\n"

    def said() -> int:
        return sum("too quickly" in line for line in daemon.lines)

    def flooded() -> bool:
        # The daemon may also read as quickly as the kernel tells: then once more.
        host.namespace.run("nft", "-f", "-", stdin=script, check=True)
        return said() > 0

    wait_until(flooded, 30, "more events came than can be kept, and it says so")
    assert host.ramfw("status", "--wait", "10").ok, "settled"
    assert host.status()["tampering"] == [], "nobody is blamed for what was not seen"
    assert not connects(host)
    before = said()

    host.namespace.sh("nft insert rule inet ramfw guard_output accept")
    wait_until(lambda: len(host.status()["tampering"]) == 1 and mended(host), 10, "it is put right")
    assert said() == before
