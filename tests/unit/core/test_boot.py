"""The rules of a boot: whole, and nothing in them that is not there yet."""

from __future__ import annotations

from ramfw.core.boot import boot_rules
from ramfw.core.permitted import NumberedEntry
from ramfw.core.ruleset import CgroupElement
from ramfw.core.transaction import AddElements, AddGrant, AddTable, DeleteTable
from ramfw.wire.nft_writer import write
from tests.unit.core.policies import policy

ENTRY = NumberedEntry(17, "hub.example", "0123456789abcdef")


def test_they_take_the_place_of_any_table_in_one_commit() -> None:
    assert boot_rules(policy(""))[:2] == (AddTable(), DeleteTable())


def test_they_permit_nothing_and_wait_for_nobody() -> None:
    rules = boot_rules(policy("", "hub.example"), [ENTRY])
    assert not any(isinstance(operation, AddGrant) for operation in rules)
    text = write(rules)
    assert " queue " not in text
    assert "log group" not in text
    known = "add element inet ramfw connections { 0:11 comment"
    assert known in text, "flows of before a restart keep their id"


def cgroups_of(more: str, prefix: str = "") -> set[object]:
    return {
        element
        for operation in boot_rules(policy(more), nft_prefix=prefix)
        if isinstance(operation, AddElements)
        for element in operation.elements
        if isinstance(element, CgroupElement)
    }


def test_of_cgroups_they_name_only_the_engines_slice() -> None:
    assert cgroups_of("") == {CgroupElement("engines.slice", 1)}
    assert cgroups_of("", "unified/") == {CgroupElement("unified/engines.slice", 1)}


def test_a_policy_without_that_slice_gets_none() -> None:
    assert cgroups_of('[scopes.engines]\ncgroups = ["system.slice/docker.service"]\n') == set()
