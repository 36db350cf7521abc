"""names_report(...) -> what `ramfw status` tells of the check of names. Pure (docs/json.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import islice
from typing import Any

from ramfw.core.name_check import NameCheck
from ramfw.core.policy import Policy, ScopeMode, ScopeName
from ramfw.core.probing import Count, Probing
from ramfw.core.tablestate import Count as Counter
from ramfw.core.tablestate import Counts

MOST_SHOWN = 50
"""Refusals, the latest first."""
MOST_FOUND_SHOWN = 200
NOTHING = Counter()


@dataclass(frozen=True, slots=True)
class Beside:
    """What the daemon knows of it beside the engine."""

    told: int = 0
    heard: int = 0
    """Refused clients that were told why, and those of them to whom that got through."""
    problem: str = ""
    """Why nobody is told; empty where they are."""
    unheard: tuple[str, ...] = ()
    """Where that does not get through, as `host (IPv6)`."""
    absences: tuple[dict[str, Any], ...] = ()
    """When no daemon was there and connections passed unread, the latest first."""


NOT_TOLD = "clients that are refused by name are only reset, not told why"


def names_report(  # noqa: PLR0913 - all that is told of it
    check: NameCheck, counts: Counts, beside: Beside, now: float, *, checked: bool, viewer: int
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
        "probe": _probe(check.probing, now),
        "absences": list(beside.absences),
        "telling": {
            "told": beside.told,
            "heard": beside.heard,
            "problem": beside.problem,
            "unheard": list(beside.unheard),
        },
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


def _probe(probing: Probing, now: float) -> dict[str, Any]:
    """What was asked, and the registries that were found, which are refused to everybody."""
    return {
        **{str(count): probing.counts[count] for count in Count},
        "waiting": probing.waiting,
        "problem": probing.hindrance or probing.problem,
        "registries": [
            {
                "name": found.place.name,
                "address": str(ip_address(found.place.address)),
                "port": found.place.port,
                "ago": now - found.when,
                "evidence": str(found.evidence),
                "everywhere": found.everywhere,
            }
            for found in islice(probing.registries(now), MOST_FOUND_SHOWN)
        ],
    }


def names_problems(
    check: NameCheck, policy: Policy, counts: Counts, beside: Beside, *, checked: bool
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
    probing = check.probing
    if policy.probes and checked and (probing.hindrance or probing.problem):
        yield (
            f"unknown hosts are not asked: {probing.hindrance or probing.problem}",
            "a registry that the catalogue does not know passes as any web site does",
            "" if probing.hindrance else "systemctl start ramfw-prober.socket, or: ramfw prober",
        )
    passed = [probing.counts[count] for count in (Count.UNASKED, Count.UNANSWERED)]
    if policy.probes and any(passed):
        yield (
            f"{passed[0]:,} connections to unknown hosts passed unasked, {passed[1]:,} unanswered",
            "a registry may have been among them",
            "",
        )
    if checked and beside.problem:
        yield f"{NOT_TOLD}: {beside.problem}", "ramfw log has the reason", "ramfw doctor"
    for way in beside.unheard:
        yield (
            f"answers to clients that are refused by name do not arrive: {way}",
            "they are only reset, not told why; ramfw log has the reason",
            "let the host's own firewall take established connections from any interface",
        )
    unread = counts.named.get("unread", NOTHING).packets
    if unread:
        yield (
            f"{unread:,} connections passed unread",
            ("no daemon was there to read them, and the scope is in mode registries"),
            "",
        )
