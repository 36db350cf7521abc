"""Refusals for people: a line each. Pure."""

from __future__ import annotations

from typing import Any

from ramfw.render.text import Page, clean, span

Fields = dict[str, Any]


def refusal(facts: Fields, page: Page, when: str) -> list[str]:
    """One refusal; `when` is how its time is told."""
    verb = "would be refused" if facts["audited"] else "refused"
    color = "yellow" if facts["audited"] else "red"
    again = ""
    if facts["count"] > 1:
        again = f", {facts['count']:,} times in {span(facts['first_ago'] - facts['last_ago'])}"
    said = f"{when}  {verb} {who(facts)} to {where(facts)}: {clean(facts['reason'])}{again}"
    first, *more = page.wrap(said, 0, len(when) + 2)
    # Wrapped first: colour has no width.
    rest = first[len(when) :].lstrip()
    lines = [f"{when}  {rest.replace(verb, page.paint(verb, color), 1)}", *more]
    if facts["hint"]:
        after = f"{clean(facts['after'])} may have sent the client there. If it did, permit it:"
        lines += page.wrap(after, len(when) + 2)
        lines += [" " * (len(when) + 6) + clean(line) for line in facts["hint"].splitlines()]
    return lines


def who(facts: Fields) -> str:
    """Whose connection it was, as precisely as it is known."""
    if facts.get("container"):
        return f"container {clean(facts['container'])} ({facts['source']})"
    if not facts["scope"]:
        return f"a connection from {facts['source']}"
    if facts["uid"] is not None:
        return f"{facts['scope']} (uid {facts['uid']})"
    return f"{facts['scope']} ({facts['source']})"


def where(facts: Fields) -> str:
    """What was to be reached."""
    address = f"{facts['address']} port {facts['port']}/{facts['protocol']}"
    names = " or ".join(map(clean, facts["names"]))
    return f"{names} at {address}" if names else address
