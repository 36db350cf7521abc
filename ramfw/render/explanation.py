"""`ramfw explain` for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ramfw.render.refusals import refusal
from ramfw.render.text import Page, clean, span

Fields = dict[str, Any]


def explanation(facts: Fields, page: Page) -> list[str]:
    """Whether it is permitted, each host with its reason and its addresses, and what mends it."""
    return [
        *_verdict(facts, page),
        *_hosts(facts["hosts"], page),
        *_hint(facts, page),
        *_notes(facts, page),
        *_refused(facts["refused"], page),
    ]


def _verdict(facts: Fields, page: Page) -> Iterator[str]:
    what, color = ("permitted", "green") if facts["permitted"] else ("not permitted", "red")
    if facts["kind"] == "image":
        where = f" (an image of {facts['registry']}: {facts['repository']})"
    else:
        where = ""
    lines = page.wrap(f"{facts['query']} is {what}{where}", 0, 2)
    yield from (page.paint(line, "bold", color) for line in lines)


def _hosts(hosts: list[Fields], page: Page) -> Iterator[str]:
    reasons = {host["reason"] for host in hosts}
    is_same = len(hosts) > 1 and len(reasons) == 1 and not any(h["resolves_to"] for h in hosts)
    for host in hosts:
        bracketed = f"[{host['host']}]" if ":" in host["host"] else host["host"]
        protocol = "" if host["protocol"] == "tcp" else f"/{host['protocol']}"
        name = f"{bracketed}:{host['port']}{protocol}"
        role = f" ({host['role']}: {clean(host['needed'])})" if host["role"] else ""
        mark = page.paint("+", "green") if host["permitted"] else page.paint("-", "red")
        first, *others = page.wrap(f"{name}{role}", 4, 6)
        yield f"  {mark} {first.lstrip()}"
        yield from others
        if not is_same:
            yield from page.wrap(host["reason"], 6)
        addresses = [_address(address) for address in host["addresses"]]
        if not addresses and host["resolves_to"]:
            addresses = [f"resolves to {', '.join(host['resolves_to'])} now"]
        yield from (page.paint(line, "dim") for line in page.items(addresses, 6))
    if is_same:
        yield from page.wrap(f"each of them: {hosts[0]['reason']}", 2, 4)


def _address(address: Fields) -> str:
    if address["expires_in"] is None:
        return str(address["address"])
    return f"{address['address']} ({span(address['expires_in'])})"


def _hint(facts: Fields, page: Page) -> Iterator[str]:
    if facts["hint"]:
        yield from page.wrap("These lines of the policy would permit it, after `ramfw reload`:")
        yield from (f"    {line}" for line in facts["hint"].splitlines())


def _notes(facts: Fields, page: Page) -> Iterator[str]:
    for note in facts["notes"]:
        yield from (page.paint(line, "yellow") for line in page.wrap(note))


def _refused(refusals: list[Fields], page: Page) -> Iterator[str]:
    if refusals:
        yield "Refused there lately:"
    inner = replace(page, width=page.width - 2)
    for facts in refusals:
        lines = refusal(facts, inner, f"{span(facts['last_ago'])} ago")
        yield from (f"  {line}" for line in lines)
