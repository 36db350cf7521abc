"""Somebody else changes ramfw's table: it is put right at once, and status says who did it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from ramfw.core.ruleset import NumberedElement, Ruleset
from ramfw.wire.nft_reader import read
from tests.lab.addresses import GHCR, HUB
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.policies import HUB_ONLY
from tests.lab.space import wait_until


def put_right(host: Host, changes: int) -> None:
    """Wait until so many changes were seen, and the last was undone."""

    def done() -> bool:
        seen = host.status()["tampering"]
        return len(seen) >= changes and seen[-1]["mended_after"] is not None

    wait_until(done, 10, "the table is as it was meant")


def connects(host: Host) -> bool:
    """Whether the engine's connection comes about; its name would be read only after that."""
    return host.as_engine("bash", "-c", f"exec 3<>/dev/tcp/{GHCR.v4}/443").ok


def remove(host: Host) -> None:
    host.namespace.sh("nft delete table inet ramfw")


def let_through(host: Host) -> None:
    """In one commit: unjudged, and so not turned to the explainer, and unguarded."""
    rules = (f"insert rule inet ramfw {chain} accept" for chain in ("judge_output", "guard_output"))
    host.namespace.sh(f"nft '{'; '.join(rules)}'")


def open_address(host: Host) -> None:
    mark = re.search(rf"{HUB.v4} \. tcp \. 443 [^,}}]*: (\S+)", host.rules())
    assert mark
    element = f"{GHCR.v4} . tcp . 443 timeout 1h : {mark[1]}"
    host.namespace.sh(f"nft add element inet ramfw permitted4 '{{ {element} }}'")


@pytest.mark.parametrize("change", [remove, let_through, open_address])
def test_what_somebody_changes_is_put_right_and_told(
    host: Host, internet: Internet, change: Callable[[Host], None]
) -> None:
    host.start_ramfw(HUB_ONLY)
    assert host.pull("ghcr.io/corp/app:1").refused

    change(host)
    put_right(host, 1)

    internet.reset_counts()
    assert not connects(host)
    assert host.pull("ghcr.io/corp/app:1").refused
    assert internet.packets(GHCR) == 0
    assert host.pull("docker.io/corp/app:1").ok, "and what was permitted still is"
    (touch,) = host.status()["tampering"]
    assert touch["program"] == "nft"
    assert touch["mended_after"] < 1
    checked = host.ramfw("status", "--check")
    assert checked.code == 1
    assert "nft (pid" in checked.output


@pytest.mark.parametrize("change", [remove, let_through, open_address])
def test_without_a_daemon_such_a_change_stays(host: Host, change: Callable[[Host], None]) -> None:
    """The twin: the changes of the test above really open the way."""
    host.start_ramfw(HUB_ONLY)
    host.kill_ramfw()
    change(host)
    assert connects(host)


def entries(host: Host) -> Ruleset:
    """All that makes an entry one, as it stands in the kernel."""
    parts = ("chain permit", "chain permit_named", "set connections", "set live", "map entries")
    names = (part.split() for part in (*parts, "map verdict_ids"))
    listed = (
        host.namespace.sh(f"nft --stateless list {kind} inet ramfw {name}") for kind, name in names
    )
    return read("".join(listed))


CALLED_OTHERWISE = """
delete element inet ramfw connections { 0:ID }
add element inet ramfw connections { 0:ID comment "0123456789abcdef other" }
"""


@pytest.mark.parametrize(
    "change",
    [
        "flush chain inet ramfw permit",
        "insert rule inet ramfw permit accept",
        "delete element inet ramfw connections { 0:ID }",
        CALLED_OTHERWISE,
        "delete element inet ramfw entries { 0:ID }",
        "add element inet ramfw entries { 0:99 : jump permit }",
        "add element inet ramfw live { 0x99 }",
        "add element inet ramfw verdict_ids { 0x99 : 0:ID }",
        "delete element inet ramfw verdict_ids { 0xID }",
    ],
)
def test_what_is_done_to_the_entries_is_undone(host: Host, change: str) -> None:
    host.start_ramfw(HUB_ONLY)
    meant = entries(host)
    (entry,) = known(meant) - {4}

    host.namespace.sh(f"nft '{change.replace('ID', f'{entry:x}')}'")
    put_right(host, 1)

    assert entries(host) == meant
    assert host.pull("docker.io/corp/app:1").ok
    assert host.pull("ghcr.io/corp/app:1").refused


def known(ruleset: Ruleset) -> set[int]:
    """The ids of entries that the table tells."""
    found = (element for named in ruleset.sets for element in named.elements or ())
    return {element.entry_id for element in found if isinstance(element, NumberedElement)}


def test_what_got_through_while_the_table_was_away_is_known(
    host: Host, internet: Internet, record_property: Callable[[str, object], None]
) -> None:
    host.start_ramfw(HUB_ONLY)
    internet.reset_counts()
    refused = host.start_sender(f"tcp/{GHCR.v4}/443")
    for turn in range(1, 11):
        remove(host)
        put_right(host, turn)
    attempts, answered = refused.stop()
    assert attempts > 100
    away = [touch["mended_after"] for touch in host.status()["tampering"]]
    record_property("seconds_without_rules", away)
    record_property("connections_let_through", answered)
    assert max(away) < 1


def test_what_others_do_to_their_own_tables_is_left_alone(host: Host) -> None:
    host.start_ramfw(HUB_ONLY)
    host.namespace.sh("nft add table inet others; nft delete table inet others")
    host.namespace.sh("iptables -N MINE; iptables -X MINE")
    host.reload(HUB_ONLY)
    assert host.status()["tampering"] == [], "nor is what ramfw does itself"
    assert host.ramfw("status", "--check").ok
