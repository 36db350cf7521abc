"""A kernel that cannot match cgroups gets rules all the same, and status says what is missing."""

from __future__ import annotations

from ramfw.core.boot import boot_rules
from ramfw.core.events import NoCgroupMatch
from ramfw.core.questions import Tally
from ramfw.core.report import report
from ramfw.core.tablestate import Counts
from ramfw.wire.nft_writer import write
from tests.unit.core.driver import Driver
from tests.unit.core.policies import policy

HUB = "hub.example"
HOST = '[scopes.host]\nmode = "strict"\n'


def started(more: str) -> Driver:
    driver = Driver()
    driver.tell(NoCgroupMatch())
    driver.start(policy(more, HUB))
    return driver


def written(driver: Driver) -> str:
    return "".join(write(transaction) for transaction in driver.kernel.committed)


def follows(driver: Driver) -> str:
    problems = report(driver.engine, Counts({}, {}), Tally(), driver.now)["problems"]
    return next(str(p["follows"]) for p in problems if "CONFIG_NFT_SOCKET" in p["what"])


def test_no_rule_asks_for_a_cgroup_and_the_host_is_judged() -> None:
    driver = started(HOST)
    assert driver.engine.in_force
    assert "cgroup" not in written(driver)
    assert "goto judge_host" in written(driver)
    assert "not at all" not in follows(driver)


def test_without_the_scope_host_it_is_said_that_engines_are_not_judged() -> None:
    driver = started("")
    assert driver.engine.in_force
    assert "not at all" in follows(driver)
    assert "judge_forward" in written(driver), "containers on bridges are judged as ever"


def test_the_rules_of_a_boot_ask_for_none_either() -> None:
    assert "cgroup" not in write(boot_rules(policy(HOST), by_cgroup=False))
    assert "cgroup" in write(boot_rules(policy(HOST)))
