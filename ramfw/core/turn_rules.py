"""The rules that turn refused connections to the explainer, who tells why.

Pure. A refused connection of a socket here is turned in the output hook, after it was judged. One
of a container must be turned before it is routed, so before it is judged in the forward hook: only
what will be refused there is turned, and what others' NAT has sent elsewhere is left alone. The
explainer's port takes turned connections and no others; where nobody listens, the kernel resets.

A host's own firewall may drop what is turned. So each turned SYN is remembered for a moment: if it
comes again, the first did not arrive, it is refused as without an explainer, and nothing more is
turned on its interface for a while. A client waits a second once, and none hangs. It is known by
its sequence number: a new connection from the same port has another, which no user can choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from ramfw.core.ruleset import (
    ACCEPT,
    Chain,
    Count,
    Field,
    FlagsMatch,
    Hook,
    InSet,
    Match,
    NamedSet,
    Redirect,
    Remember,
    Rule,
    SetMark,
    SetRef,
    Untag,
    goto,
    jump,
)

EXPLAINER_PORT = 307
"""Below 1024, so that no user can wait there in the explainer's place."""
TURN_PRIORITY = -95
"""After the NAT of others (Docker's is at -100): what they sent elsewhere is theirs."""
INPUT_PRIORITY = -10
ARRIVES_WITHIN = 3
"""Seconds in which a SYN that did not arrive is sent again; TCP repeats it after one."""
MOST_TURNED = 16_384
NOT_TURNED_FOR = 60
"""Seconds for which nothing is turned on an interface after a SYN did not arrive."""
MOST_INTERFACES = 128
UNHEARD = "unheard"
"""The set of these interfaces."""
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


class Turning(StrEnum):
    """Which refused connections can be turned, by what the kernel has."""

    ALL = "all"
    SOCKETS = "sockets"
    """Those of sockets on this host; no container's, for the kernel has no `fib` expression."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Flows:
    """What the compiler knows of the rest."""

    bridges: str
    patterns: tuple[str, ...]
    uplinks: frozenset[str]
    ports: str
    unmarked: Match
    is_refused: Match
    refuse: SetMark
    lookups: tuple[Rule, ...]
    """Write the id of the entry that permits the packet into its priority, or leave it empty."""
    tried_once: bool
    """Whether a first SYN to an unknown address is dropped, for its repetition to be judged."""
    log: Rule
    containers: bool


def turn_sets() -> Iterable[NamedSet]:
    """What was turned just now, and the interfaces on which it does not arrive."""
    for family in LOOPBACK:
        yield NamedSet(
            f"turned{family}",
            tuple(_key(family)),
            frozenset({"dynamic", "timeout"}),
            lifetime=ARRIVES_WITHIN,
            size=MOST_TURNED,
        )
    yield NamedSet(
        UNHEARD,
        ("ifname",),
        frozenset({"dynamic", "timeout"}),
        lifetime=NOT_TURNED_FOR,
        size=MOST_INTERFACES,
    )


def turn_chains(flows: Flows) -> Iterable[Chain]:
    """The nat chains, and the one that keeps the explainer's port for what they turn."""
    yield Chain(
        "turn_output",
        (
            (Match(Field.OIFNAME, SetRef(UNHEARD)), ACCEPT),
            (
                flows.is_refused,
                Match(Field.L4PROTO, "tcp"),
                Count("turned"),
                Redirect(EXPLAINER_PORT),
            ),
        ),
        Hook("output", TURN_PRIORITY, "nat"),
    )
    yield Chain("pass_turned", tuple(_pass_turned()))
    if flows.containers:
        yield from _container_chains(flows)
    to_explainer = Match(Field.TCP_DPORT, EXPLAINER_PORT)
    yield Chain(
        "explainer_input",
        (
            (replace(to_explainer, negated=True), ACCEPT),
            (to_explainer, Match(Field.CT_DIRECTION, "reply"), ACCEPT),
            (to_explainer, flows.is_refused, Match(Field.CT_STATUS, "dnat"), ACCEPT),
            (to_explainer, goto("refusal")),
        ),
        Hook("input", INPUT_PRIORITY),
    )


def _container_chains(flows: Flows) -> Iterable[Chain]:
    not_syn = FlagsMatch(frozenset({"fin", "syn", "rst", "ack"}), frozenset({"syn"}), negated=True)
    yield Chain(
        "turn_prerouting",
        (
            (
                Match(Field.IIFNAME, SetRef(flows.bridges)),
                Match(Field.IIFNAME, SetRef("uplinks"), negated=True),
                Match(Field.L4PROTO, "tcp"),
                flows.unmarked,
                goto("turn_container"),
            ),
        ),
        Hook("prerouting", TURN_PRIORITY, "nat"),
    )
    # To this host, and from bridge to bridge, is no way out; uplinks fit the patterns and are one.
    yield Chain(
        "turn_container",
        (
            (Match(Field.TCP_DPORT, SetRef(flows.ports), negated=True), ACCEPT),
            (not_syn, ACCEPT),
            (Match(Field.FIB_TYPE, "local"), ACCEPT),
            *((Match(Field.FIB_OIFNAME, u), goto("turn_judge")) for u in sorted(flows.uplinks)),
            *((Match(Field.FIB_OIFNAME, p), ACCEPT) for p in sorted(flows.patterns)),
            (goto("turn_judge"),),
        ),
    )
    yield Chain(
        "turn_judge",
        (
            *_not_yet_tried(flows),
            *flows.lookups,
            (Match(Field.PRIORITY, "none"), goto("turn_new")),
            (Untag(),),
        ),
    )
    yield Chain(
        "turn_new",
        (
            (Match(Field.IIFNAME, SetRef(UNHEARD)), ACCEPT),
            *(
                (InSet(_key(f), f"turned{f}"), Remember((Field.IIFNAME,), UNHEARD), ACCEPT)
                for f in LOOPBACK
            ),
            *((Remember(_key(f), f"turned{f}"), goto("turn")) for f in LOOPBACK),
        ),
    )
    yield Chain(
        "turn",
        (
            flows.log,
            (
                Match(Field.L4PROTO, "tcp"),
                Count("containers_refused"),
                Count("turned"),
                flows.refuse,
                Redirect(EXPLAINER_PORT),
            ),
        ),
    )


def turned_to_explainer(is_refused: Match) -> Rule:
    """The guard's rule in the output hook for what a socket's refused connection has become."""
    return (
        is_refused,
        Match(Field.CT_STATUS, "dnat"),
        Match(Field.TCP_DPORT, EXPLAINER_PORT),
        jump("pass_turned"),
    )


def _pass_turned() -> Iterable[Rule]:
    """What was turned goes to the explainer and nowhere else, and its SYN only once."""
    new = Match(Field.CT_STATE, frozenset({"new"}))
    for family, loopback in LOOPBACK.items():
        address = Field.IP_DADDR if family == 4 else Field.IP6_DADDR  # noqa: PLR2004 - IPv4
        turned = Match(address, loopback)
        key, name = _key(family), f"turned{family}"
        unheard = Remember((Field.OIFNAME,), UNHEARD)
        yield (turned, new, InSet(key, name), unheard, goto("refusal"))
        yield (turned, new, Remember(key, name), ACCEPT)
        yield (turned, ACCEPT)


def _key(family: int) -> tuple[Field, ...]:
    source = {4: Field.IP_SADDR, 6: Field.IP6_SADDR}[family]
    return source, Field.TCP_SPORT, Field.TCP_SEQUENCE


def _not_yet_tried(flows: Flows) -> Iterable[Rule]:
    if not flows.tried_once:
        return
    for family, source, destination in (
        (4, Field.IP_SADDR, Field.IP_DADDR),
        (6, Field.IP6_SADDR, Field.IP6_DADDR),
    ):
        yield InSet((source, destination, Field.TCP_DPORT), f"tried{family}", negated=True), ACCEPT
