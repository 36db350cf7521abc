"""How nft's answers are taken, as 1.0.6 and 1.1.3 print them; the kernel itself is in tests/lab."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from struct import pack
from typing import Self

import pytest

from ramfw.core.reconcile import diff
from ramfw.core.ruleset import Ruleset
from ramfw.core.tablestate import Count, Counts, HeldGrant
from ramfw.core.transaction import AddCounter, AddTable, DeleteTable
from ramfw.core.turn_rules import Turning
from ramfw.errors import KernelError, MissingError
from ramfw.program import nft
from ramfw.program.nft import LARGE, MANY_ELEMENTS, MANY_ENTRIES, Nft
from tests.unit.wire.sample import SAMPLE, VERSIONS, listing


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


Elements = dict[str, list[tuple[bytes | None, HeldGrant]]]
KEY = b"\xc0\0\2\1" + bytes((6, 0, 0, 0, 1, 187, 0, 0))


class Batches:
    """Tells the elements of maps, as they were written beforehand."""

    def __init__(self, elements: Elements) -> None:
        self.held = elements
        self.elements = lambda name: iter(elements.get(name, []))
        self.counted = self._counted

    def _counted(self, name: str) -> Iterator[tuple[bytes, Count]]:
        """As many as a set is said to hold; only how many there are counts."""
        return iter([(b"", Count())] * len(self.held.get(name, [])))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def opened(
    monkeypatch: pytest.MonkeyPatch,
    answers: Callable[[str], tuple[int, str, str]],
    elements: Elements | None = None,
    *,
    large: Context | None = None,
) -> tuple[Nft, list[Context]]:
    """The table, and its contexts: for transactions, and for all that changes nothing.

    The latter are many, each for one command; here they are one, which is as new each time.
    """
    text, apart = Context(answers), Context(answers)
    made = iter([text])
    monkeypatch.setattr(nft, "Batches", lambda: Batches(elements or {}))
    monkeypatch.setattr(nft, "_open_large", lambda: large)

    def make() -> Context:
        apart.settings.clear()
        return next(made, apart)

    monkeypatch.setattr(nft, "_open_context", make)
    return Nft(), [text, apart]


def kernel(version: str) -> Callable[[str], tuple[int, str, str]]:
    """Answers as a kernel that holds the sample."""
    terse, *sets = listing(version).split("\ntable inet ramfw {")

    def answer(command: str) -> tuple[int, str, str]:
        kind, name = command.split()[1], command.rsplit(maxsplit=1)[-1]
        if kind == "table":
            return 0, terse + "\n", ""
        one = next(text for text in sets if text.split()[:2] == [kind, name])
        return 0, f"table inet ramfw {{{one}\n", ""

    return answer


@pytest.mark.parametrize("version", VERSIONS)
def test_the_table_is_read_with_its_sets_and_its_grants_on_demand(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[tuple[bytes | None, HeldGrant]] = [
        (KEY, HeldGrant(16, 299)),
        (KEY[::-1], HeldGrant(17, 20)),
    ]
    table, (text, lists) = opened(monkeypatch, kernel(version), {"permitted4": held})
    state = table.read(with_grants=False)
    assert state is not None
    assert (state.ruleset, state.grants) == (SAMPLE.as_read(), None)
    assert text.asked == []
    terse = {command: settings["terse"] for command, settings in lists.asked}
    assert terse.pop("list table inet ramfw")
    assert not any(terse.values())
    assert all(how["stateless"] and how["numeric_prio"] for _, how in lists.asked)
    state = table.read(with_grants=True)
    assert state is not None
    assert state.grants == {"permitted4": dict(held), "ranges4": {}}
    assert state.ruleset == SAMPLE.as_read()


def test_an_element_that_cannot_be_named_makes_the_table_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unnamed: Elements = {"ranges4": [(None, HeldGrant(16, 9))]}
    table, _ = opened(monkeypatch, kernel("1.0.6"), unnamed)
    state = table.read(with_grants=True)
    assert state is not None
    assert state.grants == {"permitted4": {}, "ranges4": {}}
    assert diff(SAMPLE.as_read(), state.ruleset)[0][0] == DeleteTable()


def test_no_table_is_none_and_any_other_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = opened(monkeypatch, lambda _: ABSENT)
    assert table.read(with_grants=True) is None
    table, _ = opened(monkeypatch, lambda _: (-1, "", "Error: Operation not permitted"))
    with pytest.raises(KernelError, match="Operation not permitted"):
        table.read(with_grants=True)


def test_an_empty_table_is_not_the_same_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = opened(monkeypatch, lambda _: (0, "table inet ramfw {\n}\n", ""))
    state = table.read(with_grants=True)
    assert state is not None
    assert (state.ruleset, state.grants) == (Ruleset((), (), frozenset()), {})


def test_a_transaction_is_one_command_and_a_check_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, (text, *_) = opened(monkeypatch, lambda _: (0, "", ""))
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


def test_a_large_transaction_has_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    large = Context(lambda _: (0, "", ""))
    table, (text, apart) = opened(monkeypatch, lambda _: (0, "", ""), large=large)
    many = tuple(AddCounter(f"entry_{n}") for n in range(LARGE // 16))
    table.run((AddTable(),))
    table.run(many)
    assert [len(context.asked) for context in (text, apart, large)] == [1, 0, 1]


def test_a_check_that_fails_leaves_no_dry_run_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    table, (text, *_) = opened(monkeypatch, lambda _: (-1, "", "Error: syntax error\n"))
    with pytest.raises(KernelError, match="nft check: Error: syntax error"):
        table.check((AddTable(),))
    assert text.settings["dry_run"] is False
    with pytest.raises(KernelError, match="nft transaction: Error: syntax error"):
        table.run((AddTable(),))


class Counters:
    """Tells counters, as they were written beforehand; what is None is not there."""

    def __init__(self, live: dict[bytes, Count] | None, unheard: dict[bytes, Count] | None) -> None:
        connections = {pack("=I", 16): Count(5, 300), pack("=I", 17): Count()}
        self._sets = {"live": live, "unheard": unheard, "connections": connections}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def counters(self) -> Iterator[tuple[str, Count]]:
        return iter({"revoked": Count(1, 60), "turned": Count()}.items())

    def counted(self, name: str) -> Iterator[tuple[bytes, Count]]:
        found = self._sets[name]
        if found is None:
            raise KernelError(errno.ENOENT, "nft elements")
        return iter(found.items())


def test_what_counted_something_is_told_by_name_by_mark_and_by_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, _ = opened(monkeypatch, kernel("1.0.6"))
    live = {pack("=I", 4): Count(), pack("=I", 16): Count(12, 3400)}
    monkeypatch.setattr(nft, "Batches", lambda: Counters(live, None))
    assert table.counts() == Counts(
        {"revoked": Count(1, 60)}, {16: Count(12, 3400)}, connections={16: Count(5, 300)}
    )
    unheard = {b"docker0" + bytes(9): Count()}
    monkeypatch.setattr(nft, "Batches", lambda: Counters(live, unheard))
    assert table.counts().unheard == {"docker0"}
    monkeypatch.setattr(nft, "Batches", lambda: Counters(None, None))
    assert table.counts() == Counts({}, {})


def test_interfaces_are_turned_again_only_where_some_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table, (text, *_) = opened(monkeypatch, lambda _: (0, "", ""))
    monkeypatch.setattr(nft, "Batches", lambda: Counters({}, None))
    assert not table.forget_unheard()
    monkeypatch.setattr(nft, "Batches", lambda: Counters({}, {}))
    assert not table.forget_unheard()
    assert text.asked == []
    monkeypatch.setattr(nft, "Batches", lambda: Counters({}, {b"docker0" + bytes(9): Count()}))
    assert table.forget_unheard()
    ((command, _),) = text.asked
    assert command == "flush set inet ramfw unheard\n"


_MANY = ", ".join(f'0:{n:x} counter comment "x"' for n in range(1, MANY_ENTRIES + 2))
MANY_LISTED = f"""
table inet ramfw {{
set connections {{
type classid
counter
elements = {{ {_MANY} }}
}}
}}
"""


def test_a_table_with_many_entries_is_not_loaded_into_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = Context(lambda _: (0, MANY_LISTED, ""))
    many: list[tuple[bytes | None, HeldGrant]] = [(KEY, HeldGrant(16, 299))] * (MANY_ENTRIES + 1)
    entries: Elements = {"live": many, "connections": many}
    table, (text, apart) = opened(monkeypatch, lambda _: (0, "", ""), entries, large=large)
    table.read(with_grants=False)
    assert table.matches_cgroups()
    table.run((AddCounter("small"),))
    assert [text.asked, apart.asked] == [[], []]
    assert large.asked[-1][0] == "add counter inet ramfw small\n"


def test_a_table_that_has_grown_is_not_loaded_into_this_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    large = Context(lambda _: (0, MANY_LISTED, ""))
    entries: Elements = {"connections": [(KEY, HeldGrant(16, 299))] * (MANY_ENTRIES + 1)}
    table, (text, apart) = opened(monkeypatch, lambda _: (0, MANY_LISTED, ""), entries, large=large)
    table.run((AddCounter("small"),))
    table.read(with_grants=False)
    assert [len(context.asked) for context in (text, apart, large)] == [1, 1, 1]
    table.read(with_grants=False)
    table.run((AddCounter("small"),))
    assert [len(context.asked) for context in (text, apart, large)] == [1, 1, 4]


@pytest.mark.parametrize(("held", "process"), [(MANY_ELEMENTS, 0), (MANY_ELEMENTS + 1, 1)])
def test_a_set_with_many_elements_is_listed_by_another_process(
    held: int, process: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = kernel(VERSIONS[0])
    large = Context(answer)
    named = next(one for one in SAMPLE.sets if not one.holds_grants)
    elements: Elements = {named.name: [(KEY, HeldGrant(0, 0))] * held}
    table, (_, apart) = opened(monkeypatch, answer, elements, large=large)
    state = table.read(with_grants=False)
    assert state is not None
    assert state.ruleset == SAMPLE.as_read()
    assert len(large.asked) == process
    assert not any(settings["terse"] for _, settings in large.asked)
    assert apart.asked


def test_a_machine_without_the_binding_is_told_what_brings_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "nftables", None)
    with pytest.raises(MissingError, match="apt-get install python3-nftables"):
        Nft()


@pytest.mark.parametrize(
    ("lacks", "turning", "says"),
    [
        (" hook output ", Turning.NONE, "cannot redirect"),
        (" fib ", Turning.SOCKETS, "fib expression"),
        ("nothing of it", Turning.ALL, ""),
    ],
)
def test_what_can_be_turned_is_asked_of_the_kernel_without_a_change(
    lacks: str, turning: Turning, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(command: str) -> tuple[int, str, str]:
        return (-1, "", "Error: Operation not supported\n") if lacks in command else (0, "", "")

    table, contexts = opened(monkeypatch, answer)
    found, why = table.turning()
    assert found is turning
    assert says in why
    asked = [settings for context in contexts for _, settings in context.asked]
    assert asked
    assert all(settings["dry_run"] for settings in asked)


@pytest.mark.parametrize("lacks", ["typeof", "@th", ""])
def test_whether_names_can_be_compared_is_asked_without_a_change(
    lacks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(command: str) -> tuple[int, str, str]:
        is_known = not lacks or lacks not in command
        return (0, "", "") if is_known else (-1, "", "Error: syntax error, unexpected typeof\n")

    table, contexts = opened(monkeypatch, answer)
    assert table.compares_names() == (lacks == "")
    asked = [settings for context in contexts for _, settings in context.asked]
    assert asked
    assert all(settings["dry_run"] for settings in asked)
