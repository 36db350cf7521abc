"""`ramfw check` and `ramfw doctor` for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ramfw.render.text import Page, clean, listed, number

Fields = dict[str, Any]

_MARKS = {"ok": ("ok", "green"), "note": ("note", "yellow"), "missing": ("MISSING", "red")}


def problems(found: Iterable[Fields], page: Page, word: str) -> list[str]:
    """Problems of a policy or, with another `word`, warnings about it; one paragraph each."""
    return [line for problem in found for line in _problem(problem, page, word)]


def _problem(problem: Fields, page: Page, word: str) -> Iterator[str]:
    where = f"{problem['source']}:{problem['line']}" if problem["line"] else problem["source"]
    key = f" {problem['key']}:" if problem["key"] else ""
    painted = page.paint(f"{word}:", "red" if word == "error" else "yellow")
    # Editors and people with grep read such lines, and a hint is to be copied: none is wrapped.
    yield f"{clean(where)}: {painted}{clean(key)} {clean(problem['message'])}"
    yield from (f"    {clean(line.strip())}" for line in problem["hint"].splitlines())


def summary(facts: Fields, page: Page) -> list[str]:
    """What a good policy permits, in two sentences."""
    scopes = [f"{name} {mode}" for name, mode in facts["scopes"].items()]
    permits = ", ".join(
        [
            number(facts["entries"], "entry", "entries"),
            number(facts["hosts"], "host"),
            number(facts["networks"], "address or range", "addresses or ranges"),
        ]
    )
    enforced = "enforced" if facts["mode"] == "enforce" else "in audit mode: nothing is refused"
    good = f"{facts['source']}: the policy is good"
    return [
        *(page.paint(line, "green") for line in page.wrap(good)),
        *page.wrap(f"It has {permits}; {enforced}.", 2, 4),
        *page.wrap(f"Scopes: {listed(scopes)}.", 2, 4),
    ]


def doctor(found: Iterable[Fields], page: Page) -> list[str]:
    """Each fact with what follows and what mends it; what is missing stands last, to be seen."""
    order = {"ok": 0, "note": 1, "missing": 2}
    ordered = sorted(found, key=lambda finding: order[finding["state"]])
    return [line for finding in ordered for line in _finding(finding, page)]


def _finding(finding: Fields, page: Page) -> Iterator[str]:
    mark, color = _MARKS[finding["state"]]
    first, *others = page.wrap(finding["fact"], 9)
    yield page.paint(mark.ljust(9), color) + first.lstrip()
    yield from others
    if finding["follows"]:
        yield from page.wrap(f"so: {finding['follows']}", 11, 15)
    for number_, line in enumerate(finding["mend"].splitlines()):
        yield " " * (11 if number_ == 0 else 15) + ("do: " if number_ == 0 else "") + clean(line)
