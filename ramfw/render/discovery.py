"""`ramfw discover` and `ramfw catalog verify` for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ramfw.render.text import Page, clean, listed

Fields = dict[str, Any]

_MARKS = {
    "permitted": ("+", "green"), "off": ("-", "yellow"), "never": ("x", "red"),
    "unknown": ("?", "yellow"),
}  # fmt: skip


def discovered(facts: Fields, page: Page) -> list[str]:
    """The hosts that a pull met, what the catalogue says of them, and lines for a policy."""
    if not facts["is_registry"]:
        words = f"{facts['query']}: no registry answered: {facts['stopped']}"
        return [page.paint(line, "bold", "red") for line in page.wrap(words, 0, 2)]
    return [
        *(page.paint(line, "bold") for line in page.wrap(f"{facts['query']} needs")),
        *_hosts(facts, page),
        *_stopped(facts, page),
        *_verdict(facts, page),
        *_lines(facts, page),
    ]


def verified(facts: Fields, page: Page) -> list[str]:
    """Whether the catalogue's entry still has what a pull meets."""
    if facts["drift"]:
        names = listed(facts["drift"])
        words, color = f"{facts['id']}: the catalogue does not permit {names}", "red"
    elif facts["complete"]:
        words, color = f"{facts['id']}: the catalogue has what a pull of it meets", "green"
    else:
        words, color = f"{facts['id']}: not followed to a layer", "yellow"
    not_met = listed(facts["not_met"])
    return [
        *(page.paint(line, "bold", color) for line in page.wrap(words, 0, 2)),
        *_hosts(facts, page),
        *_stopped(facts, page),
        *(page.wrap(f"Not met from here, which proves nothing: {not_met}") if not_met else ()),
    ]


def _hosts(facts: Fields, page: Page) -> Iterator[str]:
    for host in facts["hosts"]:
        mark, color = _MARKS[host["state"]]
        name = f"[{host['host']}]" if ":" in host["host"] else host["host"]
        first, *others = page.wrap(f"{name}:{host['port']} ({host['role']}: {host['how']})", 4, 6)
        yield f"  {page.paint(mark, color)} {first.lstrip()}"
        yield from others
        for words in (host["problem"], host["why"]):
            yield from (page.paint(line, "yellow") for line in page.wrap(words, 6, 8))


def _stopped(facts: Fields, page: Page) -> Iterator[str]:
    if facts["stopped"]:
        stopped = f"Not followed to a layer: {facts['stopped']}."
        yield from (page.paint(line, "yellow") for line in page.wrap(stopped))


def _verdict(facts: Fields, page: Page) -> Iterator[str]:
    missing = [host["host"] for host in facts["hosts"] if host["state"] == "unknown"]
    if not facts["registry"]:
        yield from page.wrap("The catalogue does not have this registry.")
    elif missing:
        without = listed(dict.fromkeys(missing))
        yield from page.wrap(f"The catalogue has it as {facts['registry']}, without {without}.")
    elif facts["hosts"]:
        yield from page.wrap(f"The catalogue has it as {facts['registry']}, with these hosts.")


def _lines(facts: Fields, page: Page) -> Iterator[str]:
    if facts["entry"]:
        yield from page.wrap("For the policy:")
        yield from (f"    {clean(line)}" for line in facts["entry"].splitlines())
    if facts["doubtful"]:
        yield from page.wrap(
            "What follows only the registry says, and a registry can say anything: permit it if "
            "you know whose it is."
        )
        yield from (f"    {clean(line)}" for line in facts["doubtful"].splitlines())
