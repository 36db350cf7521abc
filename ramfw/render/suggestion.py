"""`ramfw suggest` for people, as lines that can be put into a policy. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ramfw.render.text import Page, clean, listed, number, span

Fields = dict[str, Any]

MOST_HOSTS = 4
"""Hosts of an entry that are told one by one."""


def suggestion(facts: Fields, page: Page) -> list[str]:
    """A policy's entries, each with how often it was wanted and by whom, in comments."""
    if not facts["entries"]:
        return page.wrap(_nothing(facts))
    lines = [line for entry in facts["entries"] for line in _entry(entry, page)]
    if facts["forgotten"]:
        more = number(facts["forgotten"], "other name or address", "other names and addresses")
        lines += _comment(f"There was no room for {more}.", page)
    return lines


def _nothing(facts: Fields) -> str:
    if facts["mode"] == "audit":
        return "Nothing would have been refused since the daemon began."
    return (
        "Nothing was gathered: only audit mode gathers what would be refused. "
        'Write mode = "audit" under [enforcement], then ramfw reload.'
    )


def _entry(entry: Fields, page: Page) -> Iterator[str]:
    who = f", by {listed(entry['who'])}" if entry["who"] else ""
    connections = number(entry["connections"], "connection")
    last = min(found["last_ago"] for found in entry["reached_for"])
    yield from _comment(
        f"{connections} of {listed(entry['scopes'])}{who}; the last {span(last)} ago", page
    )
    hosts = [_host(found) for found in entry["reached_for"]]
    more = len(hosts) - MOST_HOSTS
    shown = hosts if more <= 0 else [*hosts[:MOST_HOSTS], f"{more} more"]
    yield from _comment(f"to {listed(shown)}", page)
    if entry["doubt"]:
        yield from _comment(f"not without thought: {entry['doubt']}", page)
    mark = "# " if entry["doubt"] else ""
    yield from (f"{mark}{clean(line)}" for line in entry["lines"].splitlines())
    yield ""


def _host(found: Fields) -> str:
    name = f"[{found['host']}]" if ":" in found["host"] else found["host"]
    protocol = "" if found["protocol"] == "tcp" else f"/{found['protocol']}"
    others = f" (or {', '.join(found['other_names'])})" if found["other_names"] else ""
    return f"{name}:{found['port']}{protocol}{others}"


def _comment(text: str, page: Page) -> Iterator[str]:
    narrower = Page(page.width - 2, page.color)
    yield from (page.paint(f"# {line}", "dim") for line in narrower.wrap(text))
