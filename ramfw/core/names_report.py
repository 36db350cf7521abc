"""names_report(...) -> what `ramfw status` tells of the check of names. Pure (docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from ramfw.core.name_check import NameCheck
from ramfw.core.policy import Policy, ScopeMode, ScopeName
from ramfw.core.tablestate import Count, Counts

MOST_SHOWN = 50
"""Refusals, the latest first."""
NOTHING = Count()


def names_report(
    check: NameCheck, counts: Counts, now: float, *, checked: bool, viewer: int
) -> dict[str, Any]:
    """What was judged since the daemon began, and what the kernel counted.

    Whose connections were refused is not known here, so root alone sees which names they were.
    """
    latest = islice(reversed(check.refusals.values()), 0 if viewer else MOST_SHOWN)
    return {
        "checked": checked,
        **{what: check.judged[what] for what in ("permitted", "passed", "refused", "unseen")},
        "openings": counts.named.get("openings", NOTHING).packets,
        "unread": counts.named.get("unread", NOTHING).packets,
        "refusals": [
            {
                "ago": now - refusal.when,
                "scope": str(refusal.scope),
                "address": refusal.address,
                "port": refusal.port,
                "name": refusal.name,
                "reason": refusal.reason,
            }
            for refusal in latest
        ],
    }


def names_problems(
    policy: Policy, counts: Counts, *, checked: bool
) -> Iterator[tuple[str, str, str]]:
    """What is not enforced: what, what follows, and what mends it."""
    scopes = {policy.scope_mode(scope) for scope in ScopeName}
    if not checked and scopes != {ScopeMode.OFF}:
        yield (
            "names are not checked: packets cannot be held here",
            (
                "an address that a permitted registry shares (a CDN) is open whatever name is "
                "asked there; mode registries is strict for containers, and off for the host"
            ),
            "ramfw doctor; [names] required = true does not start so",
        )
    unread = counts.named.get("unread", NOTHING).packets
    if unread:
        yield (
            f"{unread:,} packets passed unread",
            ("no daemon was there to read them, and the scope is in mode registries"),
            "",
        )
