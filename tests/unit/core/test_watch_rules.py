"""Which answers the rules show, told by walking packets through them as the kernel would.

The kernel itself is asked in tests/lab; here every rule is read the same way for every form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from ramfw.core.compiler import compile_ruleset
from ramfw.core.numbering import Numbering
from ramfw.core.plan import Machine
from ramfw.core.policy import ScopeName, Target
from ramfw.core.refusals import REFUSAL_GROUP
from ramfw.core.ruleset import (
    CgroupElement,
    Chain,
    Count,
    Field,
    InSet,
    Log,
    Masked,
    Match,
    Queue,
    RawPayload,
    Remember,
    Rule,
    Ruleset,
    SetMark,
    SetRef,
    SocketCgroup,
    Statement,
    Verdict,
)
from ramfw.core.watch_rules import (
    ANSWER_GROUP,
    QUESTION_GROUP,
    QUEUE_NUMBER,
    WATCH_PRIORITY,
    WatchForm,
)
from tests.unit.core.policies import policy

SERVER, SERVER6, STUB = (
    ip_address("192.0.2.53"),
    ip_address("2001:db8::53"),
    IPv4Address(0x7F000035),
)
STRANGER, STRANGER6 = ip_address("192.0.2.99"), ip_address("2001:db8::99")
HERE, HERE6 = ip_address("192.0.2.2"), ip_address("2001:db8::2")
BOX = ip_address("172.17.0.2")

DOCKER, HOST_BOX = "system.slice/docker.service", "system.slice/docker-0a.scope"
SHOWING = (WatchForm.NATIVE, WatchForm.XT, WatchForm.COPY)
PLAIN = '[[allow]]\nhost = "hub.example"\n[scopes.host]\nmode = '

Address = IPv4Address | IPv6Address


def ruleset(
    form: WatchForm,
    *,
    host: str = "off",
    more: str = "",
    patterns: tuple[str, ...] | None = None,
    tells: bool = True,
) -> Ruleset:
    """Of a policy; of `patterns` where its names matter, then answers are told apart by them."""
    parsed = policy(f'{PLAIN}"{host}"\n{more}')
    if patterns is not None:
        targets = tuple(Target(pattern, (443,)) for pattern in patterns)
        parsed = replace(parsed, entries=(replace(parsed.entries[0], targets=targets),))
    numbering = Numbering()
    numbering.assign(parsed.entries, frozenset())
    cgroups = {
        ScopeName.ENGINES: frozenset({CgroupElement(DOCKER, 2, 1)}),
        ScopeName.CONTAINERS: frozenset({CgroupElement(HOST_BOX, 2, 2)}),
    }
    servers = frozenset({SERVER, SERVER6, STUB})
    tells_answers = tells and patterns is not None
    machine = Machine(frozenset({"br-lan"}), cgroups, servers, form, tells_answers=tells_answers)
    return compile_ruleset(parsed, machine, numbering.numbered.values())


@dataclass(frozen=True)
class Packet:
    """One packet of a flow with a DNS server, at one hook."""

    source: Address = SERVER
    destination: Address = HERE
    sport: int = 53
    dport: int = 40_000
    direction: str = "reply"
    protocol: str = "udp"
    iif: str = "eth0"
    oif: str = ""
    cgroup: str = DOCKER
    message: bytes = b""

    def raw(self, place: RawPayload) -> int | None:
        """What stands there; None where the packet has ended before."""
        header = bytes(8) if self.protocol == "udp" else bytes(22)
        start, size = place.offset // 8, place.length // 8
        found = (header + self.message)[start : start + size]
        if len(found) < size:
            return None
        value = int.from_bytes(found)
        return value & place.mask if place.mask else value

    @property
    def fields(self) -> dict[Field, object]:
        ends = (Field.IP_SADDR, Field.IP_DADDR)
        if self.source.version == 6:
            ends = (Field.IP6_SADDR, Field.IP6_DADDR)
        ports = (Field.UDP_SPORT, Field.UDP_DPORT)
        if self.protocol == "tcp":
            ports = (Field.TCP_SPORT, Field.TCP_DPORT)
        return {
            ends[0]: self.source, ends[1]: self.destination,
            ports[0]: self.sport, ports[1]: self.dport,
            Field.TH_SPORT: self.sport, Field.TH_DPORT: self.dport,
            Field.CT_DIRECTION: self.direction, Field.L4PROTO: self.protocol,
            Field.IIFNAME: self.iif, Field.OIFNAME: self.oif,
        }  # fmt: skip


QUESTION = Packet(HERE, SERVER, 40_000, 53, "original", iif="", oif="eth0")
FORWARDED = Packet(destination=BOX, iif="eth0", oif="docker0", cgroup="")
FROM_BOX = Packet(BOX, SERVER, 40_000, 53, "original", iif="docker0", oif="eth0", cgroup="")


@dataclass
class Walk:
    """The watch's chains, with what their sets and the flow's mark remember."""

    rules: Ruleset
    mark: int = 0
    remembered: dict[str, set[object]] = field(default_factory=dict)
    effects: list[Statement] = field(default_factory=list)

    def at(self, hook: str, packet: Packet) -> list[Statement]:
        """What is shown of the packet: queued, or copied; counted on the way."""
        self.effects = []
        for chain in self.rules.chains:
            if chain.hook and (chain.hook.hook, chain.hook.priority) == (hook, WATCH_PRIORITY):
                self._chain(chain, packet)
        return [e for e in self.effects if isinstance(e, Queue | Log)]

    def _chain(self, chain: Chain, packet: Packet) -> bool:
        """Whether a verdict was final."""
        return any(self._rule(rule, packet) for rule in chain.rules)

    def _rule(self, rule: Rule, packet: Packet) -> bool:
        for statement in rule:
            match statement:
                case Verdict("accept" | "drop"):
                    return True
                case Verdict(kind, name):
                    chain = next(c for c in self.rules.chains if c.name == name)
                    return self._chain(chain, packet) or kind == "goto"
                case Queue():
                    self.effects.append(statement)
                    return True
                case Log() | Count():
                    self.effects.append(statement)
                case SetMark(kept, value):
                    self.mark = self.mark & kept | value
                case Remember((key,), name):
                    self.remembered.setdefault(name, set()).add(packet.fields[key])
                case Match() | InSet():
                    if not self._holds(statement, packet):
                        return False
                case _:
                    raise AssertionError(f"the watch has no such statement: {statement}")
        return False

    def _holds(self, statement: Match | InSet, packet: Packet) -> bool:
        left = statement.left if isinstance(statement, Match) else statement.key[0]
        right = statement.right if isinstance(statement, Match) else SetRef(statement.set)
        match left:
            case Masked(_, mask):
                value: object = self.mark & mask
            case SocketCgroup(level):
                if not packet.cgroup:
                    return False  # no socket: no match, negated or not
                value = "/".join(packet.cgroup.split("/")[:level])
            case (
                Field.IP_SADDR
                | Field.IP_DADDR
                | Field.IP6_SADDR
                | Field.IP6_DADDR
                | (Field.UDP_SPORT | Field.UDP_DPORT | Field.TCP_SPORT | Field.TCP_DPORT)
            ) if left not in packet.fields:
                return False  # nft's own condition on the family or protocol
            case RawPayload():
                if (found := packet.raw(left)) is None:
                    return False
                value = found
            case Field():
                value = packet.fields[left]
        return self._equals(right, value) != statement.negated

    def _equals(self, right: object, value: object) -> bool:
        if not isinstance(right, SetRef):
            return right == value
        named = next(named for named in self.rules.sets if named.name == right.name)
        elements = {*(named.elements or ()), *self.remembered.get(right.name, ())}
        paths = {e.path if isinstance(e, CgroupElement) else e for e in elements}
        if named.key == ("ifname",):
            return any(fnmatchcase(str(value), str(pattern)) for pattern in paths)
        return value in paths


def shown(rules: Ruleset, hook: str, packet: Packet) -> list[Statement]:
    return Walk(rules).at(hook, packet)


def answers(form: WatchForm) -> list[Statement]:
    """What a shown answer is."""
    if form is WatchForm.COPY:
        return [Log(ANSWER_GROUP, 65_535)]
    return [Queue(QUEUE_NUMBER, is_native=form is WatchForm.NATIVE)]


def both_ways(packet: Packet) -> Iterator[Packet]:
    """The packet over UDP and TCP."""
    yield packet
    yield replace(packet, protocol="tcp")


COPIED = [Log(QUESTION_GROUP, 512)]


# -- what is shown -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", SHOWING)
@pytest.mark.parametrize("cgroup", [DOCKER, f"{DOCKER}/below", HOST_BOX])
def test_an_answer_of_a_trusted_server_to_a_scoped_socket_is_shown(
    form: WatchForm, cgroup: str
) -> None:
    rules = ruleset(form)
    for packet in both_ways(Packet(cgroup=cgroup)):
        assert shown(rules, "input", packet) == answers(form)
        six = replace(packet, source=SERVER6, destination=HERE6)
        assert shown(rules, "input", six) == answers(form)


@pytest.mark.parametrize("form", SHOWING)
def test_an_answer_forwarded_to_a_container_is_shown(form: WatchForm) -> None:
    for packet in both_ways(FORWARDED):
        assert shown(ruleset(form), "forward", packet) == answers(form)


@pytest.mark.parametrize("form", SHOWING)
def test_an_answer_that_a_server_on_this_host_gives_a_container_is_shown(form: WatchForm) -> None:
    for packet in both_ways(replace(FORWARDED, iif="", cgroup="system.slice/dnsmasq.service")):
        assert shown(ruleset(form), "output", packet) == answers(form)


@pytest.mark.parametrize("form", SHOWING)
def test_an_answer_of_a_stub_is_shown_where_it_arrives_and_only_there(form: WatchForm) -> None:
    walk = Walk(ruleset(form))
    leaves = Packet(STUB, IPv4Address("127.0.0.1"), iif="", oif="lo",
                    cgroup="system.slice/systemd-resolved.service")  # fmt: skip
    assert walk.at("output", leaves) == []
    assert walk.at("input", replace(leaves, iif="lo", oif="", cgroup=DOCKER)) == answers(form)


@pytest.mark.parametrize("form", SHOWING)
def test_over_loopback_no_server_counts_by_ipv6(form: WatchForm) -> None:
    """There a frame in a stub's name, written by a container on the host's network, arrives."""
    walk = Walk(ruleset(form))
    leaves = Packet(SERVER6, HERE6, iif="", oif="lo", cgroup="system.slice/dnsmasq.service")
    for packet in both_ways(leaves):
        walk.at("output", packet)
        assert walk.at("input", replace(packet, iif="lo", oif="", cgroup=DOCKER)) == []


@pytest.mark.parametrize("form", SHOWING)
def test_questions_of_sockets_and_of_containers_are_copied(form: WatchForm) -> None:
    rules = ruleset(form)
    for packet in both_ways(QUESTION):
        assert shown(rules, "output", packet) == COPIED
    for packet in both_ways(FROM_BOX):
        assert shown(rules, "forward", packet) == COPIED
        to_host = replace(packet, oif="")
        assert shown(rules, "input", to_host) == COPIED


@pytest.mark.parametrize("form", SHOWING)
def test_with_the_host_in_scope_every_socket_s_answers_are_shown(form: WatchForm) -> None:
    packet = Packet(cgroup="user.slice/user-1000.slice")
    assert shown(ruleset(form, host="strict"), "input", packet) == answers(form)
    assert shown(ruleset(form), "input", packet) == []


def test_a_shown_answer_is_counted() -> None:
    walk = Walk(ruleset(WatchForm.NATIVE))
    walk.at("input", Packet())
    assert Count("answers") in walk.effects


# -- what is not -------------------------------------------------------------------------------

NOT_SHOWN = {
    "of another server": ("input", Packet(STRANGER)),
    "of another server over IPv6": ("input", Packet(STRANGER6, HERE6)),
    "to a socket of no scope": ("input", Packet(cgroup="user.slice/user-1000.slice")),
    "to no socket": ("input", Packet(cgroup="")),
    "from another port": ("input", Packet(sport=5353)),
    "in the original direction": ("input", Packet(direction="original")),
    "from a bridge, to a socket": ("input", Packet(iif="docker0")),
    "from a bridge, to a container": ("forward", replace(FORWARDED, iif="br-0a1b")),
    "forwarded to no container": ("forward", replace(FORWARDED, oif="eth1")),
    "forwarded to an uplink": ("forward", replace(FORWARDED, oif="br-lan")),
    "of another server, forwarded": ("forward", replace(FORWARDED, source=STRANGER)),
    "of another server on this host": ("output", replace(FORWARDED, iif="", source=STRANGER)),
    "given to nobody here": ("output", replace(FORWARDED, iif="", oif="eth0", cgroup="")),
    "a question to another server": ("output", replace(QUESTION, destination=STRANGER)),
    "a question of no scope": ("output", replace(QUESTION, cgroup="user.slice/x")),
    "a question that is a reply": ("output", replace(QUESTION, direction="reply")),
    "what leaves an uplink": ("forward", replace(FROM_BOX, iif="br-lan")),
}


@pytest.mark.parametrize("form", SHOWING)
@pytest.mark.parametrize("what", NOT_SHOWN)
def test_what_nobody_need_wait_for_is_not_shown(what: str, form: WatchForm) -> None:
    hook, packet = NOT_SHOWN[what]
    for either in both_ways(packet):
        assert shown(ruleset(form), hook, either) == []


@pytest.mark.parametrize("form", SHOWING)
@pytest.mark.parametrize("cgroup", [DOCKER, HOST_BOX])
def test_an_answer_that_a_scoped_socket_gives_itself_is_forged_and_never_shown(
    form: WatchForm, cgroup: str
) -> None:
    """With CAP_NET_RAW it can be sent, over loopback; the flow is marked when it leaves."""
    walk = Walk(ruleset(form))
    stub = "system.slice/systemd-resolved.service"
    walk.at("output", Packet(STUB, IPv4Address("127.0.0.1"), iif="", oif="lo", cgroup=stub))
    walk.mark = 0xABCD0000  # another flow, while the stub is known
    forged = Packet(STUB, IPv4Address("127.0.0.1"), iif="", oif="lo", cgroup=cgroup)
    assert walk.at("output", forged) == []
    arrives = replace(forged, iif="lo", oif="", cgroup=DOCKER)
    assert walk.at("input", arrives) == []
    assert walk.mark & 0xFFFF0000 == 0xABCD0000, "other people's bits stay"
    assert walk.mark & 0xFFFF != 0


# -- the forms ---------------------------------------------------------------------------------


def test_forms_differ_in_how_an_answer_is_shown_and_nothing_else() -> None:
    native, xt, copy = (ruleset(form) for form in SHOWING)
    changed = {a.name for a, b in zip(native.chains, xt.chains, strict=True) if a.rules != b.rules}
    assert changed == {"hold_answer"}
    assert native.sets == xt.sets
    changed = {
        a.name for a, b in zip(native.chains, copy.chains, strict=True) if a.rules != b.rules
    }
    assert changed == {"hold_answer", "judge_containers", "judge_engines"}
    assert {s.name for s in copy.sets} - {s.name for s in native.sets} == {"tried4", "tried6"}
    assert {s.name for s in native.sets} <= {s.name for s in copy.sets}
    assert native.counters == xt.counters == copy.counters


def test_where_nothing_can_be_shown_there_is_no_rule_of_the_watch() -> None:
    none = ruleset(WatchForm.NONE)
    statements = [s for chain in none.chains for rule in chain.rules for s in rule]
    shown = [s for s in statements if isinstance(s, Queue | Log | InSet | Remember)]
    # Refusals are: those are no answers.
    assert [s for s in shown if not (isinstance(s, Log) and s.group == REFUSAL_GROUP)] == []
    assert not [c for c in none.chains if c.hook and c.hook.priority == WATCH_PRIORITY]


def test_where_no_scope_is_on_nothing_is_watched() -> None:
    more = '[scopes.engines]\nmode = "off"\n[scopes.containers]\nmode = "off"'
    rules = ruleset(WatchForm.NATIVE, more=more)
    assert not [c for c in rules.chains if c.hook]


def test_with_containers_off_nothing_forwarded_is_watched() -> None:
    rules = ruleset(WatchForm.NATIVE, more='[scopes.containers]\nmode = "off"')
    assert shown(rules, "forward", FORWARDED) == []
    assert shown(rules, "input", Packet()) == answers(WatchForm.NATIVE)
    assert shown(rules, "input", Packet(cgroup=HOST_BOX)) == []


def test_sockets_are_told_by_their_cgroup_alone_where_the_host_is_off() -> None:
    rules = {chain.name: chain.rules for chain in ruleset(WatchForm.NATIVE).chains}
    ends = [r for r in rules["answer_to_socket"] if r[-1] == Verdict("goto", "answer_in_scope")]
    assert ends
    assert all(isinstance(r[0], Match) and isinstance(r[0].left, SocketCgroup) for r in ends)


@pytest.mark.parametrize("form", SHOWING)
def test_what_rules_remember_is_bounded_in_number_and_time(form: WatchForm) -> None:
    for named in ruleset(form).sets:
        if "dynamic" in named.flags:
            assert named.size > 0
            assert named.lifetime > 0
            assert named.elements is None


@pytest.mark.parametrize("form", SHOWING)
def test_only_copied_answers_make_a_first_try_be_dropped(form: WatchForm) -> None:
    rules = ruleset(form)
    judged = [r for c in rules.chains if c.name == "judge_engines" for r in c.rules]
    tries = [r for r in judged if any(isinstance(s, Remember) for s in r)]
    assert len(tries) == (2 if form is WatchForm.COPY else 0)
    assert all(rule[-1] == Verdict("drop") for rule in tries)


def test_a_first_try_is_never_dropped_in_audit_mode() -> None:
    rules = ruleset(WatchForm.COPY, more='[enforcement]\nmode = "audit"')
    judged = [s for c in rules.chains if c.name == "judge_engines" for r in c.rules for s in r]
    assert not [s for s in judged if isinstance(s, Remember)]
