"""How nft's answers are taken, as 1.0.6 and 1.1.3 print them; the kernel itself is in tests/lab."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

import pytest

from ramfw.core.reconcile import diff
from ramfw.core.ruleset import Ruleset
from ramfw.core.tablestate import FOREIGN, Count, Counts, HeldGrant
from ramfw.core.transaction import AddTable, DeleteTable, GrantKey
from ramfw.errors import KernelError, MissingError
from ramfw.program import nft
from ramfw.program.nft import Nft, _elements, _live_counts
from tests.unit.wire.sample import SAMPLE, VERSIONS, listing

# One element of each kind that can be in a map, as both versions print them.
PERMITTED = """
[[{"concat": ["192.0.2.13", "udp", 1]}, "0:10"],
 [{"concat": ["192.0.2.11", "udp", 53]}, "0:10"],
 [{"elem": {"val": {"concat": ["192.0.2.10", "tcp", 443]}, "timeout": 300, "expires": 299}},
  "0:10"],
 [{"elem": {"val": {"concat": ["192.0.2.12", "tcp", 443]}, "timeout": 3600, "expires": 3599,
   "comment": "mine"}}, "none"]]
"""
RANGES = """
[[{"elem": {"val": {"concat": [{"prefix": {"addr": "10.0.0.0", "len": 24}}, "udp", 514]},
   "timeout": 300, "expires": 299}}, "0:11"],
 [{"elem": {"val": {"concat": [{"prefix": {"addr": "2001:db8:5::", "len": 64}}, "tcp", 5000]},
   "timeout": 300, "expires": 299}}, "1:12"]]
"""
UNNAMED = """
[[{"concat": [{"range": ["10.1.0.1", "10.1.0.5"]}, "tcp", 443]}, "0:10"],
 [{"elem": {"val": {"concat": [{"prefix": {"addr": "10.2.0.0", "len": 16}}, "tcp",
   {"range": [1, 4]}]}, "timeout": 3600, "expires": 3599}}, "0:10"],
 [{"elem": {"val": {"concat": [{"prefix": {"addr": "10.3.0.0", "len": 16}}, {"range": [6, 17]}, 9]},
   "timeout": 3600, "expires": 3599}}, "0:10"],
 [{"concat": ["10.4.0.1", {"range": [6, 17]}, 9]}, "0:10"],
 ["192.0.2.1", "0:10"]]
"""
LIVE = """
[{"elem": {"val": 4, "counter": {"packets": 0, "bytes": 0}}},
 {"elem": {"val": 16, "counter": {"packets": 12, "bytes": 3400}}}]
"""


def taken(elements: str) -> list[tuple[GrantKey | None, HeldGrant]]:
    return list(_elements("m", {"elem": json.loads(elements)}))


def key(network: str, protocol: str, port: int) -> GrantKey:
    return GrantKey.of("m", ip_network(network), protocol, port)


def test_elements_of_ours_have_their_entry_and_what_is_left_of_their_life() -> None:
    assert dict(taken(PERMITTED))[key("192.0.2.10", "tcp", 443)] == HeldGrant(16, 299)
    assert taken(RANGES) == [
        (key("10.0.0.0/24", "udp", 514), HeldGrant(17, 299)),
        (key("2001:db8:5::/64", "tcp", 5000), HeldGrant(0x10012, 299)),
    ]


def test_an_element_with_no_id_or_without_an_end_is_foreign() -> None:
    found = dict(taken(PERMITTED))
    assert {
        k.network.network_address.packed[-1]: held.entry_id for k, held in found.items() if k
    } == {
        10: 16,
        11: FOREIGN,
        12: FOREIGN,
        13: FOREIGN,
    }
    assert all(held.remaining > 0 for held in found.values()), "so that it is deleted"
    endless = '[[{"concat": ["192.0.2.10", "tcp", 443]}, "0:10"]]'
    assert [held.entry_id for _, held in taken(endless)] == [FOREIGN]
    elsewhere = PERMITTED.replace("0:10", "0:x")
    assert dict(taken(elsewhere))[key("192.0.2.10", "tcp", 443)].entry_id == FOREIGN


def test_an_element_that_ramfw_cannot_have_written_has_no_key() -> None:
    assert [key for key, _ in taken(UNNAMED)] == [None] * 5


def test_a_map_without_elements_is_listed_without_them() -> None:
    assert list(_elements("m", {"name": "m"})) == []
    assert list(_live_counts([{"metainfo": {}}, {"set": {"name": "live"}}])) == []


def test_what_live_flows_carried_is_counted_by_mark() -> None:
    listed: list[Mapping[str, Any]] = [
        {"metainfo": {}},
        {"set": {"name": "live", "elem": json.loads(LIVE)}},
    ]
    assert dict(_live_counts(listed)) == {4: Count(0, 0), 16: Count(12, 3400)}
    assert list(_live_counts([{"set": {"elem": [4, {"elem": {"val": 16}}]}}])) == []


class Context:
    """libnftables' context, with answers written beforehand, by the command."""

    def __init__(self, answers: Callable[[str], tuple[int, str, str]]) -> None:
        self._answers = answers
        self.settings: dict[str, bool] = {}
        self.asked: list[tuple[str, dict[str, bool]]] = []

    def __getattr__(self, name: str) -> Callable[[bool], None]:
        def put(value: bool) -> None:  # noqa: FBT001 - the binding's form
            self.settings[name.removeprefix("set_").removesuffix("_output")] = value

        return put

    def cmd(self, command: str) -> tuple[int, str, str]:
        self.asked.append((command, dict(self.settings)))
        return self._answers(command)


ABSENT = (-1, "", "Error: No such file or directory\nlist table inet ramfw\n")


def opened(
    monkeypatch: pytest.MonkeyPatch, answers: Callable[[str], tuple[int, str, str]]
) -> tuple[Nft, list[Context]]:
    contexts: list[Context] = []

    def make() -> Context:
        contexts.append(Context(answers))
        return contexts[-1]

    monkeypatch.setattr(nft, "_open_context", make)
    return Nft(), contexts


def kernel(
    version: str, maps: dict[str, str] | None = None
) -> Callable[[str], tuple[int, str, str]]:
    """Answers as a kernel that holds the sample."""
    terse, *sets = listing(version).split("\ntable inet ramfw {")

    def answer(command: str) -> tuple[int, str, str]:
        kind, name = command.split()[1], command.rsplit(maxsplit=1)[-1]
        if kind == "table":
            return 0, terse + "\n", ""
        if one := next((text for text in sets if text.split()[:2] == [kind, name]), ""):
            return 0, f"table inet ramfw {{{one}\n", ""
        body = {"name": name, "elem": json.loads((maps or {}).get(name, "[]"))}
        return 0, json.dumps({"nftables": [{"metainfo": {}}, {"map": body}]}), ""

    return answer


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_is_read_with_its_sets_and_its_grants_on_demand(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, (text, as_json) = opened(monkeypatch, kernel(version, {"permitted4": PERMITTED}))
    state = table.read(with_grants=False)
    assert state is not None
    assert (state.ruleset, state.grants) == (SAMPLE.as_read(), None)
    assert as_json.asked == [], "elements can be many"
    terse = {command: settings["terse"] for command, settings in text.asked}
    assert terse.pop("list table inet ramfw")
    assert not any(terse.values())
    assert all(how["stateless"] and how["numeric_prio"] for _, how in text.asked)
    state = table.read(with_grants=True)
    assert state is not None
    assert state.grants is not None
    assert len(state.grants) == 4
    assert {key.map for key in state.grants} == {"permitted4"}
    assert state.ruleset == SAMPLE.as_read()


def test_an_element_that_cannot_be_named_makes_the_table_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, _ = opened(monkeypatch, kernel("1.0.6", {"ranges4": UNNAMED}))
    state = table.read(with_grants=True)
    assert state is not None
    assert state.grants == {}
    assert diff(SAMPLE.as_read(), state.ruleset)[0][0] == DeleteTable()


def test_no_table_is_none_and_any_other_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    table, (text, _) = opened(monkeypatch, lambda _: ABSENT)
    assert table.read(with_grants=True) is None
    assert table.counts() == Counts({}, {})
    assert not text.settings["terse"], "it is put back"
    table, (text, _) = opened(monkeypatch, lambda _: (-1, "", "Error: Operation not permitted"))
    with pytest.raises(KernelError, match="Operation not permitted"):
        table.read(with_grants=True)
    assert not text.settings["terse"]
    with pytest.raises(KernelError, match="Operation not permitted"):
        table.counts()


def test_an_empty_table_is_not_the_same_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = opened(monkeypatch, lambda _: (0, "table inet ramfw {\n}\n", ""))
    state = table.read(with_grants=True)
    assert state is not None
    assert (state.ruleset, state.grants) == (Ruleset((), (), frozenset()), {})


def test_a_transaction_is_one_command_and_a_check_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, (text, _) = opened(monkeypatch, lambda _: (0, "", ""))
    table.run((AddTable(), DeleteTable()))
    table.check((AddTable(),))
    table.run((AddTable(),))
    assert [command for command, _ in text.asked] == [
        "add table inet ramfw\ndelete table inet ramfw\n",
        "add table inet ramfw\n",
        "add table inet ramfw\n",
    ]
    assert [how.get("set_dry_run", how.get("dry_run", False)) for _, how in text.asked] == [
        False,
        True,
        False,
    ]


def test_a_check_that_fails_leaves_no_dry_run_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    table, (text, _) = opened(monkeypatch, lambda _: (-1, "", "Error: syntax error\n"))
    with pytest.raises(KernelError, match="nft check: Error: syntax error"):
        table.check((AddTable(),))
    assert text.settings["dry_run"] is False
    with pytest.raises(KernelError, match="nft transaction: Error: syntax error"):
        table.run((AddTable(),))


def test_counters_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(command: str) -> tuple[int, str, str]:
        counter = {"name": "entry_16", "packets": 5, "bytes": 300}
        listed: list[dict[str, Any]] = [{"counter": counter}]
        if "live" in command:
            listed = [{"set": {"elem": json.loads(LIVE)}}]
        return 0, json.dumps({"nftables": [{"metainfo": {}}, *listed]}), ""

    table, _ = opened(monkeypatch, answers)
    assert table.counts() == Counts(
        {"entry_16": Count(5, 300)}, {4: Count(0, 0), 16: Count(12, 3400)}
    )


def test_a_machine_without_the_binding_is_told_what_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nftables", None)
    with pytest.raises(MissingError, match="apt-get install python3-nftables"):
        Nft()
