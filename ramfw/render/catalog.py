"""`ramfw catalog` for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ramfw.render.text import Page, clean, listed, number

Fields = dict[str, Any]

_MARKS = {"permitted": ("+", "green"), "off": ("-", "yellow"), "never": ("x", "red")}


def listing(facts: Fields, page: Page) -> list[str]:
    """Registries, a line each."""
    rows = [("ID", "HOSTS", "TAKES", "NAME")]
    rows += [_row(registry) for registry in facts["registries"]]
    heading, *lines = page.table([tuple(map(clean, row)) for row in rows])
    if not facts["registries"]:
        return ["No registry of the catalogue has this word.", *_source(facts, page)]
    return [page.paint(heading, "bold"), *lines, *_source(facts, page)]


def _row(registry: Fields) -> tuple[str, str, str, str]:
    notes = [registry["name"]]
    if registry["needs"]:
        notes.append(f"with {listed(registry['needs'])}")
    if registry["refused"]:
        notes.append("cannot be permitted")
    takes = ", ".join(registry["takes"]) or "-"
    return registry["id"], str(registry["hosts"] or "-"), takes, "; ".join(notes)


def whole(facts: Fields, page: Page) -> list[str]:
    """One registry: its hosts, what is off and why, and where all that is known from."""
    return [
        page.paint(clean(f"{facts['id']}: {facts['name']}"), "bold"),
        *_remarks(facts, page),
        "",
        *(line for host in facts["hosts"] for line in _host(host, facts, page)),
        *_entry(facts, page),
        *_source(facts, page),
    ]


def _remarks(facts: Fields, page: Page) -> Iterator[str]:
    if facts["aliases"]:
        yield from page.wrap(f"also called {listed(facts['aliases'])}", 2, 4)
    if facts["needs"]:
        yield from page.wrap(f"hands over to {listed(facts['needs'])}: permitted with it", 2, 4)
    for placeholder in facts["placeholders"]:
        may = ", which may be left out" if placeholder["optional"] else ""
        text = f"{placeholder['name']}: {placeholder['means']}, as {placeholder['example']}{may}"
        yield from page.wrap(text, 2, 4)
    for words, color in ((facts["refused"], "red"), (facts["danger"], "yellow")):
        yield from (page.paint(line, color) for line in page.wrap(words, 2, 4))


def _host(host: Fields, facts: Fields, page: Page) -> Iterator[str]:
    mark, color = _MARKS[host["state"]]
    ports = ",".join(map(str, host["ports"] or facts["ports"])) or "PORT"
    needed = f"{host['use']}; {host['when']}" if host["when"] else host["use"]
    what = f"{host['pattern']}:{ports} ({', '.join(host['roles'])}: {needed})"
    first, *others = page.wrap(what, 4, 6)
    yield f"  {page.paint(mark, color)} {first.lstrip()}"
    yield from others
    for words in _about(host):
        yield from page.wrap(words, 6, 8)
    source = host["source"] or "no source that could be named"
    for line in page.wrap(f"{host['grade']}, {host['date']}: {source}", 6, 8):
        yield page.paint(line, "dim")


def _about(host: Fields) -> Iterator[str]:
    if host["state"] == "permitted":
        if host["why"]:
            yield f"permitted all the same: {host['why']}"
    else:
        state = "off" if host["state"] == "off" else "never permitted"
        yield f"{state}: {host['why']}"
    if host["instead"]:
        yield f"instead: {host['instead']}"
    if host["deprecated"]:
        yield f"deprecated: {host['deprecated']}"
    if host["opens"]:
        yield f"opens: {host['opens']}"
    if host["shared"]:
        yield f"shares its addresses with others: {host['shared']}"


def _entry(facts: Fields, page: Page) -> Iterator[str]:
    if facts["entry"]:
        yield ""
        yield from page.wrap("In a policy:")
        yield from (f"    {clean(line)}" for line in facts["entry"].splitlines())


def hosts(facts: Fields, page: Page) -> list[str]:
    """The hosts of an entry, one after the other."""
    lines = []
    for host in facts["hosts"]:
        whose = "" if host["registry"] == facts["id"] else f", of {host['registry']}"
        name = f"{host['host']}:{','.join(map(str, host['ports']))}"
        lines += page.wrap(f"{name} ({host['role']}{whose}: {host['needed']})", 0, 4)
    return lines


def _source(facts: Fields, page: Page) -> Iterator[str]:
    catalog = facts["catalog"]
    count = (
        f"{number(len(facts['registries']), 'registry', 'registries')}, "
        if ("registries" in facts)
        else ""
    )
    yield ""
    text = f"{count}catalogue {catalog['edition']} ({catalog['source']})"
    yield from (page.paint(line, "dim") for line in page.wrap(text))
    if catalog["problem"]:
        problem = f"The organization's catalogue is not used: {catalog['problem']}"
        yield from (page.paint(line, "yellow") for line in page.wrap(problem))
