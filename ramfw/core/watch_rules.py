"""The rules that show DNS answers to ramfw before their askers see them.

Pure. Shown are answers of the trusted servers, in the reply direction, to sockets of a scope, or
forwarded to a container, or given to a container by a server on this host; nobody else's. They
wait in a queue until the daemon lets them go; with no daemon they pass (`bypass`). The questions
are only copied, so that an answer can be told from one that nobody asked for; and so are answers
over UDP of which the kernel itself sees, by the name asked for, that they open nothing.

The interface tells a forgery: what comes from a container bridge is no server's answer, although
a forged packet to the translated address would fit conntrack's reply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from ramfw.core.name_fronts import FIRST_PLACE, FOLD, FRONT, LAST_PLACE, Fronts
from ramfw.core.ruleset import (
    ACCEPT,
    Chain,
    Count,
    Field,
    Hook,
    Log,
    Match,
    NamedSet,
    Queue,
    RawPayload,
    Remember,
    Rule,
    SetMark,
    SetRef,
    Statement,
    Verdict,
    goto,
    jump,
)

WATCH_PRIORITY = -20
"""After other people's NAT, before the guard."""
QUEUE_NUMBER = 5353
QUESTION_GROUP = 5353
ANSWER_GROUP = 5354
"""NFQUEUE's number and NFLOG's groups; they are the network namespace's own."""
SECOND_TRY = 3
"""Seconds in which a second SYN is refused instead of dropped; TCP repeats it after one."""
MOST_TRIED = 65535
STUB_KNOWN = 3600
"""Seconds that a server is known to be on this host after it answered from here."""
MOST_STUBS = 64
LONGEST_QUESTION = 512
LONGEST_ANSWER = 65535
NAME_AT = 8 * (8 + 12)
"""Where the name asked for begins: in bits, behind UDP's header and the DNS message's own."""
NAME = RawPayload(NAME_AT, 8 * FRONT, int.from_bytes(bytes((FOLD,)) * FRONT))
"""The front of the name, in which the case of letters is no difference."""


class WatchForm(StrEnum):
    """How answers are shown, by what the kernel has."""

    NATIVE = "native"
    """Held, by nft's own `queue` expression."""
    XT = "xt"
    """Held, by the xt NFQUEUE target in our own table."""
    COPY = "copy"
    """Copied with NFLOG: the answer runs ahead, and the first SYN after it is dropped once."""
    NONE = "none"
    """Not shown at all."""

    @property
    def holds(self) -> bool:
        """Whether packets can wait for the daemon: answers, and first bytes too."""
        return self in (WatchForm.NATIVE, WatchForm.XT)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the compiler knows of the rest: who is in scope, and which interfaces are bridges."""

    bridges: str
    by_socket: tuple[tuple[Match, ...], ...]
    """Matches of scoped sockets; an empty one is every socket of this host."""
    by_cgroup: tuple[tuple[Match, ...], ...]
    """Matches of sockets of engines and of containers on this host's network."""
    forged: SetMark
    is_forged: Match
    forwards: bool
    servers: frozenset[IPv4Address | IPv6Address]
    fronts: Fronts | None = None
    """By what answers that open nothing are told; None where all are shown alike."""


def watch_sets(form: WatchForm, around: Surroundings) -> Iterable[NamedSet]:
    """The trusted servers, which of them are here; for copied answers, what was tried once."""
    v4 = frozenset(server for server in around.servers if isinstance(server, IPv4Address))
    yield NamedSet("resolvers4", ("ipv4_addr",), elements=v4)
    yield NamedSet("resolvers6", ("ipv6_addr",), elements=around.servers - v4)
    if form is not WatchForm.NONE:
        yield NamedSet(
            "stubs4",
            ("ipv4_addr",),
            frozenset({"dynamic", "timeout"}),
            lifetime=STUB_KNOWN,
            size=MOST_STUBS,
        )
    if form is WatchForm.COPY:
        for family in ("ipv4", "ipv6"):
            address = f"{family}_addr"
            yield NamedSet(
                f"tried{family[-1]}",
                (address, address, "inet_service"),
                frozenset({"dynamic", "timeout"}),
                lifetime=SECOND_TRY,
                size=MOST_TRIED,
            )
    if form.holds and around.fronts:
        name, first = NAME.kind, _first_byte().kind
        yield NamedSet("held_names", (name,), elements=frozenset(around.fronts.exact))
        if around.fronts.below:
            yield NamedSet("held_below", (name,), elements=frozenset(around.fronts.below))
            yield NamedSet("held_firsts", (first,), elements=frozenset(around.fronts.firsts))


def watch_chains(form: WatchForm, around: Surroundings) -> Iterable[Chain]:
    """All chains of the watch; none where there is nothing to see with."""
    if form is WatchForm.NONE:
        return
    to_bridges = _on_bridge(Field.OIFNAME, around.bridges)
    from_bridges = _on_bridge(Field.IIFNAME, around.bridges)
    yield Chain("copy_question", ((Log(QUESTION_GROUP, LONGEST_QUESTION),),))
    yield Chain("hold_answer", ((Count("answers"), _show(form)),))
    tells_apart = form.holds and around.fronts is not None
    if form.holds and around.fronts:
        yield Chain("pass_answer", ((Log(ANSWER_GROUP, LONGEST_ANSWER),),))
        yield Chain("tell_answer", tuple(_tell_answer(around.fronts)))
    yield Chain(
        "watch_answer",
        (
            _only("reply"),
            (around.is_forged, ACCEPT),
            *_servers(Field.IP_SADDR, "tell_answer" if tells_apart else "hold_answer"),
        ),
    )
    # With CAP_NET_RAW a container on the host's network can answer itself, over loopback.
    reply = Match(Field.CT_DIRECTION, "reply")
    yield Chain(
        "answer_of_socket", tuple((*m, reply, around.forged, ACCEPT) for m in around.by_cgroup)
    )
    yield Chain("watch_question", (_only("original"), *_servers(Field.IP_DADDR, "copy_question")))
    # First who it is to: all that goes to others leaves at once.
    yield Chain(
        "answer_in_scope",
        ((*from_bridges, ACCEPT), *_from_no_stub(), (goto("watch_answer"),)),
    )
    yield Chain("answer_to_socket", tuple((*m, goto("answer_in_scope")) for m in around.by_socket))
    yield Chain("question_of_socket", tuple((*m, goto("watch_question")) for m in around.by_socket))
    yield from _base(
        "output",
        (
            *_port_53("d", (), "question_of_socket"),
            *_port_53("s", (), "answer_of_socket", jump),
            *_remember_stubs(),
            *_port_53("s", to_bridges, "watch_answer"),
        ),
    )
    yield from _base(
        "input",
        (
            # A question may come from port 53 itself.
            *_port_53("d", from_bridges, "watch_question"),
            *_port_53("s", (), "answer_to_socket"),
        ),
    )
    if around.forwards:
        yield from _base(
            "forward",
            (
                *_port_53("d", from_bridges, "watch_question"),
                (*from_bridges, ACCEPT),
                *_port_53("s", to_bridges, "watch_answer"),
            ),
        )


def _base(hook: str, rules: tuple[Rule, ...]) -> Iterable[Chain]:
    """The rules for what has to do with a DNS server; nearly all else is through at once.

    In one rule nft 1.0 would take "neither port" for "not both ports".
    """
    yield Chain(f"dns_{hook}", rules)
    ports = Field.TH_DPORT, Field.TH_SPORT
    yield Chain(
        f"watch_{hook}",
        tuple((Match(port, 53), goto(f"dns_{hook}")) for port in ports),
        Hook(hook, WATCH_PRIORITY),
    )


def _show(form: WatchForm) -> Statement:
    if form is WatchForm.COPY:
        return Log(ANSWER_GROUP, LONGEST_ANSWER)
    return Queue(QUEUE_NUMBER, is_native=form is WatchForm.NATIVE)


def _tell_answer(fronts: Fronts) -> Iterable[Rule]:
    """Hold what may be to a permitted name; over TCP all: a name may be anywhere in a stream."""
    yield Match(Field.L4PROTO, "tcp"), goto("hold_answer")
    yield Match(NAME, SetRef("held_names")), goto("hold_answer")
    if fronts.below:
        yield from _tell_below()
    else:
        yield (goto("pass_answer"),)


@cache
def _tell_below() -> tuple[Rule, ...]:
    """Look for a wildcard's own part at each place of the name, and hold what is too long for that.

    No byte of a host's name is zero before its end, so the search ends at one. For that only every
    second place is looked at: behind the end there is the upper byte of the question's type, zero
    for all that are in use, or of its class.
    """
    hold, go_on = goto("hold_answer"), goto("pass_answer")
    rules: list[Rule] = []
    for place in range(FIRST_PLACE, LAST_PLACE + 1):
        # The first byte is a label's length, which no letter is: more is seldom looked at.
        begins = Match(_first_byte(place), SetRef("held_firsts"))
        rules.append((begins, Match(_name(place), SetRef("held_below")), hold))
        if place % 2 == 0:
            rules.append((Match(_first_byte(place), 0), go_on))
    return (*rules, (hold,))


def _name(place: int = 0) -> RawPayload:
    return replace(NAME, offset=NAME_AT + 8 * place)


def _first_byte(place: int = 0) -> RawPayload:
    return RawPayload(NAME_AT + 8 * place, 8)


def _on_bridge(field: Field, bridges: str) -> tuple[Match, ...]:
    return Match(field, SetRef(bridges)), Match(field, SetRef("uplinks"), negated=True)


def _remember_stubs() -> Iterable[Rule]:
    """Know a server as one of this host by an answer that it sends, past `answer_of_socket`."""
    to_itself = (Match(Field.OIFNAME, "lo"), Match(Field.CT_DIRECTION, "reply"))
    server = Match(Field.IP_SADDR, SetRef("resolvers4"))
    for port in (Field.UDP_SPORT, Field.TCP_SPORT):
        yield (Match(port, 53), *to_itself, server, Remember((Field.IP_SADDR,), "stubs4"))


def _from_no_stub() -> Iterable[Rule]:
    """Pass by what comes over loopback from a server that is elsewhere.

    With CAP_NET_RAW a container on the host's network can write a frame there that passes no
    output hook. In a stub's name the kernel itself takes no such frame by IPv4; by IPv6 it does,
    so there no answer over loopback counts.
    """
    by_loopback = Match(Field.IIFNAME, "lo")
    yield by_loopback, Match(Field.IP_SADDR, SetRef("stubs4"), negated=True), ACCEPT
    yield by_loopback, Match(Field.IP6_SADDR, SetRef("resolvers6")), ACCEPT


def _only(direction: str) -> Rule:
    other = "original" if direction == "reply" else "reply"
    return Match(Field.CT_DIRECTION, other), ACCEPT


def _servers(field: Field, chain: str) -> tuple[Rule, Rule]:
    field6 = Field.IP6_SADDR if field is Field.IP_SADDR else Field.IP6_DADDR
    return (
        (Match(field, SetRef("resolvers4")), goto(chain)),
        (Match(field6, SetRef("resolvers6")), goto(chain)),
    )


def _port_53(
    side: str, where: tuple[Match, ...], chain: str, go: Callable[[str], Verdict] = goto
) -> tuple[Rule, Rule]:
    udp, tcp = {
        "s": (Field.UDP_SPORT, Field.TCP_SPORT),
        "d": (Field.UDP_DPORT, Field.TCP_DPORT),
    }[side]
    return (Match(udp, 53), *where, go(chain)), (Match(tcp, 53), *where, go(chain))
