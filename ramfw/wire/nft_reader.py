"""read(listing) -> Ruleset: nft's listing of ramfw's table, as the same values that were written.

Pure. Reads what `nft -t -s` (terse, stateless, numeric priorities) prints of the table, and of
the sets listed beside it with their elements. Strict: what ramfw never writes is not guessed at
but kept as a `Foreign` statement, or as `Ruleset.foreign`, which equal nothing ramfw means; so what
somebody added or changed always shows as a difference. Both spellings of nft 1.0 and 1.1 are known.
What may differ without a difference, for it means the same: quotes around one word, how a number
is spelled, a `==`, the order of words, a bit of a mark that is kept and set at once, a table's own
comment, and whether a listed element has a counter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_address

from ramfw.core.marks import ALL_BITS
from ramfw.core.ruleset import (
    IDS,
    TABLE,
    UNTOLD,
    VERDICTS,
    CgroupElement,
    Chain,
    Count,
    Dispatch,
    Element,
    Expression,
    Field,
    FlagsMatch,
    Hook,
    InSet,
    Jump,
    Limit,
    Log,
    MarkedId,
    MarkFrom,
    Masked,
    Match,
    NamedSet,
    NumberedElement,
    Queue,
    RawPayload,
    Redirect,
    Reject,
    Remember,
    RememberMark,
    Rule,
    Ruleset,
    SetMark,
    SetPacketMark,
    SetRef,
    SocketCgroup,
    Statement,
    Tag,
    Untag,
    Verdict,
    Write,
)

TOKEN = re.compile(r'"[^"]*"|[^\s"]+')
NUMERIC = ("port", "length", "doff", "sequence")
NUMBERS = frozenset(name for name in Field if name.value.endswith(NUMERIC))
MARKS = frozenset({Field.CT_MARK, Field.META_MARK})
FIELDS = sorted(Field, key=lambda f: -len(f.value.split()))
BASE = r"type (filter|nat) hook (\w+) priority (-?\d+); policy (\w+);"
HEADER = f"table inet {TABLE} {{"
SET = re.compile(
    r"(?:type (?P<key>\w+(?: \. \w+)*)"
    r"|typeof (?P<raw>@th,\d+,\d+|\w+ \w+(?: \. \w+ \w+)*))"
    r"(?: : (?P<data>classid|verdict|meta mark))?(?: size (?P<size>\d+))?"
    r"(?: flags (?P<flags>\w+(?:, ?\w+)*))?(?: timeout (?P<lifetime>(?:\d+[dhms])+))?"
    r"(?P<counter> counter)?(?: elements = \{ (?P<elements>.*) \})?"
)
SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
RAW = re.compile(r"@th,(\d+),(\d+)")
COUNTED = re.compile(r"(packets \d+ bytes \d+)?")
ELEMENT = re.compile(r'(?:"[^"]*"|[^",])+')


@dataclass(frozen=True, slots=True)
class Foreign:
    """A statement that ramfw does not write; it equals no statement that it does."""

    text: str


class ListingError(ValueError):
    """The listing is not of the form that nft prints."""


@dataclass(slots=True)
class _Draft:
    """A ruleset while its listing is read."""

    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str, NamedSet] = field(default_factory=dict)
    counters: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    known_chains: dict[str, Chain] = field(default_factory=dict)
    known_sets: dict[str, NamedSet] = field(default_factory=dict)


def read(
    listing: str | Iterable[str],
    closer: Callable[[NamedSet], str | Iterable[str]] | None = None,
    known: Ruleset | None = None,
) -> Ruleset:
    """The ruleset that a listing, or its lines, tell, in the terms of `Ruleset.as_read`.

    `closer` lists a set, or a map that holds no grants, by itself, with its elements. A set that
    is listed twice has the elements of the second listing; one listed only in the terse table has
    elements None if it is a map of grants. A chain or set that equals one of `known` is that one:
    of 10,000 each is held once. Raises ListingError where the listing's frame is not
    understood.
    """
    draft = _Draft()
    if known is not None:
        draft.known_chains = {chain.name: chain for chain in known.chains}
        draft.known_sets = {named.name: named for named in known.sets}
    for block in _blocks(listing):
        _read_block(block, draft)
    if closer is not None:
        for named in [one for one in draft.sets.values() if one.elements is not None]:
            for block in _blocks(closer(named)):
                _read_block(block, draft)
    return Ruleset(
        tuple(draft.chains[name] for name in sorted(draft.chains)),
        tuple(draft.sets[name] for name in sorted(draft.sets)),
        frozenset(draft.counters),
        frozenset(draft.foreign),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    kind: str
    name: str
    lines: tuple[str, ...]


def _blocks(listing: str | Iterable[str]) -> Iterator[_Block]:
    """The chains, sets, maps and counters of all `table` blocks, each with its lines."""
    header: list[str] = []
    lines: list[str] = []
    for raw in listing.splitlines() if isinstance(listing, str) else listing:
        line = raw.strip()
        if not line or (not header and (line.partition(" #")[0] == HEADER or line == "}")):
            continue
        if not header:
            if line.startswith("comment "):
                continue
            if line.split()[0] == "flags":
                yield _Block(line, "", ())
                continue
            *header, brace = line.split()
            if not header or brace != "{":
                raise ListingError(f"not a block's first line: {line}")
            lines = []
        elif line == "}":
            yield _Block(" ".join(header[:-1]), _shared(header[-1]), tuple(lines))
            header = []
        else:
            lines.append(line)
    if header:
        raise ListingError(f"the block {header[-1]} does not end")


def _read_block(block: _Block, draft: _Draft) -> None:
    match block.kind:
        case "counter":
            draft.counters.add(block.name)
            if not COUNTED.fullmatch(" ".join(block.lines)):
                draft.foreign.add(f"counter {block.name}")
        case "chain":
            chain = _chain(block)
            same = draft.known_chains.get(block.name)
            draft.chains[block.name] = same if same == chain else chain
        case "set" | "map":
            _read_set(block, draft)
        case _:
            draft.foreign.add(f"{block.kind} {block.name}".rstrip())


# -- sets --------------------------------------------------------------------------------------


def _read_set(block: _Block, draft: _Draft) -> None:
    form = SET.fullmatch(" ".join(block.lines))
    if form is None or (block.kind == "map") != bool(form["data"]):
        draft.foreign.add(f"{block.kind} {block.name}")
        return
    named = NamedSet(
        block.name,
        tuple((form["raw"] or form["key"]).split(" . ")),
        frozenset(re.split(r", ?", form["flags"])) if form["flags"] else frozenset(),
        data=form["data"] or "",
        counted=form["counter"] is not None,
        lifetime=_seconds(form["lifetime"] or ""),
        size=int(form["size"] or 0),
    )
    if not named.holds_grants and not named.lifetime:
        try:
            elements = frozenset(_elements(form["elements"] or "", named))
        except ValueError:
            draft.foreign.add(f"elements of {block.name}")
            elements = frozenset()
        named = replace(named, elements=elements)
    if draft.sets.get(block.name, named).shape != named.shape:
        draft.foreign.add(f"{block.kind} {block.name}")
    same = draft.known_sets.get(block.name)
    draft.sets[block.name] = same if same == named else named


def _seconds(text: str) -> int:
    """A time as nft writes it, `1h30m`."""
    return sum(int(part[:-1]) * SECONDS[part[-1]] for part in re.findall(r"\d+[dhms]", text))


def _elements(listed: str, of: NamedSet) -> Iterator[Element]:
    read_one = _reader_of(of)
    for part in ELEMENT.findall(listed):
        yield read_one(part.strip().removesuffix(" counter"))


def _reader_of(of: NamedSet) -> Callable[[str], Element]:
    """What reads an element of such a set; it raises ValueError."""
    kind = of.key[0]
    if of.data == VERDICTS:
        return _jump_by_mark if kind == "mark" else _jump_by_id
    if of.data == IDS:
        return _marked_id
    if kind == IDS:
        return _numbered
    if kind in ("mark", "inet_service") or kind.startswith("@"):
        return _number
    if kind in ("ipv4_addr", "ipv6_addr"):
        return ip_address
    return _cgroup if kind == "cgroupsv2" else _name


def _jump_by_mark(listed: str) -> Jump:
    mark, chain = _parts(r"(0x[0-9a-f]+|\d+) : jump (\w+)", listed)
    return Jump(int(mark, 0), _shared(chain), is_mark=True)


def _jump_by_id(listed: str) -> Jump:
    entry_id, chain = _parts(r"([0-9a-f]+:[0-9a-f]+) : jump (\w+)", listed)
    return Jump(_classid(entry_id), _shared(chain))


def _marked_id(listed: str) -> MarkedId:
    mark, entry_id = _parts(r"(0x[0-9a-f]+|\d+) : ([0-9a-f]+:[0-9a-f]+)", listed)
    return MarkedId(int(mark, 0), _classid(entry_id))


def _numbered(listed: str) -> NumberedElement:
    entry_id, comment = _parts(r'(\S+)(?: counter)?(?: comment "([^"]*)")?', listed)
    return NumberedElement(_classid(entry_id), comment)


def _number(listed: str) -> int:
    return int(listed, 0)


def _cgroup(listed: str) -> CgroupElement:
    return CgroupElement(_name(listed))


def _name(listed: str) -> str:
    quoted, plain = _parts(r'"([^"]*)"|(\w+)', listed)
    return quoted or plain


def _parts(form: str, listed: str) -> tuple[str, ...]:
    """The groups of an element of this form, empty where there is nothing."""
    found = re.fullmatch(form, listed)
    if found is None:
        raise ValueError(f"an element of another form: {listed}")
    return found.groups("")


def _classid(listed: str) -> int:
    """An id as nft spells it: two halves in hexadecimal, or a word."""
    if listed == "none":
        return 0
    high, low = _parts(r"([0-9a-f]+):([0-9a-f]+)", listed)
    return int(high, 16) << 16 | int(low, 16)


# -- chains ------------------------------------------------------------------------------------


def _chain(block: _Block) -> Chain:
    hook: Hook | None = None
    comment, policy = "", "accept"
    rules: list[Rule] = []
    for line in block.lines:
        if base := re.fullmatch(BASE, line):
            hook, policy = Hook(base[2], int(base[3]), base[1]), base[4]
        elif not rules and (quoted := re.fullmatch(r'comment "([^"]*)"', line)):
            comment = quoted[1]
        else:
            rules.append(_rule(line))
    return Chain(block.name, tuple(rules), hook, comment, policy)


def _rule(line: str) -> Rule:
    tokens = TOKEN.findall(line)
    statements: list[Statement] = []
    try:
        while tokens:
            statement, tokens = _statement(tokens)
            statements.append(statement)
    except (_NotOursError, IndexError, ValueError):
        return (Foreign(line),)  # type: ignore[return-value]
    return tuple(statements)


@lru_cache(1 << 14)
def _shared(name: str) -> str:
    """One text for a name that stands in several places."""
    return name


class _NotOursError(Exception):
    """A statement that ramfw does not write."""


def _statement(  # noqa: C901, PLR0911, PLR0912 - a case each
    tokens: list[str],
) -> tuple[Statement, list[str]]:
    match tokens:
        case ["counter", "name", name, *rest]:
            return Count(_shared(name.strip('"'))), rest
        case ["reject", "with", "tcp", "reset", *rest]:
            return Reject("tcp reset"), rest
        case ["reject", "with", "icmpx", "type", "admin-prohibited", *rest] | [
            "reject",
            "with",
            "icmpx",
            "admin-prohibited",
            *rest,
        ]:
            return Reject("icmpx admin-prohibited"), rest
        case [("jump" | "goto") as kind, chain, *rest]:
            return Verdict(kind, chain), rest
        case [("accept" | "drop" | "return") as kind, *rest]:
            return Verdict(kind), rest
        case [("log" | "queue" | "xt"), *_]:
            return _shown(tokens)
        case ["add", name, "{", *rest] if name.startswith("@"):
            return _remember(name[1:], rest)
        case ["ct", "mark", "set", "ct", "mark", *rest]:
            return _set_mark(rest)
        case ["tcp", "flags", *rest]:
            return _flags(rest)
        case ["limit", "rate", rate, "burst", burst, "packets", *rest]:
            return _limit(rate, burst), rest
        case ["redirect", "to", port, *rest] if port.startswith(":"):
            return Redirect(int(port[1:])), rest
        case ["meta", "priority", "set", *rest]:
            return _priority(rest)
        case ["meta", "mark", "set", *rest]:
            return _packet_mark(rest)
        case _:
            return _match(tokens)


def _remember(name: str, tokens: list[str]) -> tuple[Statement, list[str]]:
    """What is put into a set, or with some bits of the packet's mark into a map."""
    key, rest = _fields(tokens)
    if rest[0] == "}":
        return Remember(key, name), rest[1:]
    data, after = _expression(rest[1:])
    if rest[0] != ":" or after[0] != "}" or not isinstance(data, Masked):
        raise _NotOursError
    if data.field is not Field.META_MARK:
        raise _NotOursError
    return RememberMark(key, name, data.mask), after[1:]


def _shown(tokens: list[str]) -> tuple[Statement, list[str]]:
    """What shows a packet to a listener."""
    match tokens:
        case ["log", "group", group, "snaplen", length, "queue-threshold", "1", *rest]:
            return Log(int(group), int(length)), rest
        case ["log", "prefix", prefix, *rest]:
            plain, rest = _shown(["log", *rest])
            if not isinstance(plain, Log) or plain.prefix:
                raise _NotOursError
            return replace(plain, prefix=prefix.strip('"')), rest
        case ["queue", "flags", "bypass", "to", number, *rest]:
            return Queue(int(number), is_native=True), rest
        case ["queue", "to", number, *rest]:
            return Queue(int(number), is_native=True, bypass=False), rest
        # The xt target, by an nft that knows iptables' words.
        case ["queue", "num", number, "bypass", *rest]:
            return Queue(int(number), is_native=False), rest
        case ["queue", "num", number, *rest]:
            return Queue(int(number), is_native=False, bypass=False), rest
        case ["xt", "target", '"NFQUEUE"', *rest]:
            # The same by an nft that does not, and so tells no number.
            return UNTOLD, rest
        case _:
            raise _NotOursError


def _priority(tokens: list[str]) -> tuple[Statement, list[str]]:
    """What is done with the packet's priority, where an id stands for a while."""
    if tokens[0] == "none":
        return Untag(), tokens[1:]
    first, rest = _expression(tokens)
    if isinstance(first, Masked):
        key: tuple[Field | Masked, ...] = (first,)
    elif isinstance(first, Field) and rest[:1] not in (["."], ["map"]):
        return Write(Field.PRIORITY, first), rest
    else:
        key, rest = _fields(tokens)
    if rest[0] != "map" or not rest[1].startswith("@"):
        raise _NotOursError
    return Tag(key, rest[1][1:]), rest[2:]


def _packet_mark(tokens: list[str]) -> tuple[Statement, list[str]]:
    if tokens[:2] != ["meta", "mark"]:
        key, rest = _fields(tokens)
        if rest[0] != "map" or not rest[1].startswith("@"):
            raise _NotOursError
        return MarkFrom(key, rest[1][1:]), rest[2:]
    (kept, value), rest = _bits(tokens[2:])
    return SetPacketMark(kept, value), rest


def _set_mark(tokens: list[str]) -> tuple[Statement, list[str]]:
    (kept, value), rest = _bits(tokens)
    return SetMark(kept, value), rest


def _bits(tokens: list[str]) -> tuple[tuple[int, int], list[str]]:
    """Which bits are kept and which are set, of `& KEPT | VALUE` or a part of that."""
    kept, value = ALL_BITS, 0
    if tokens[:1] == ["&"]:
        kept, tokens = int(tokens[1], 0), tokens[2:]
    if tokens[:1] == ["|"]:
        value, tokens = int(tokens[1], 0), tokens[2:]
    # nft folds the value into the mask: (x & m) | v is the same as (x & (m | v)) | v.
    return (kept & ~value, value), tokens


def _limit(rate: str, burst: str) -> Limit:
    per_second, _, unit = rate.partition("/")
    if unit != "second":
        raise _NotOursError
    return Limit(int(per_second), int(burst))


def _flags(tokens: list[str]) -> tuple[Statement, list[str]]:
    """`tcp flags & (a | b) != c`, and the other spelling `tcp flags != c / a,b`."""
    if tokens[0] == "&":
        several = tokens[1].startswith("(")
        end = next((i for i, t in enumerate(tokens) if t.endswith(")")), 0) if several else 1
        mask = " ".join(tokens[1 : end + 1]).strip("()")
        operator, value, rest = tokens[end + 1], tokens[end + 2], tokens[end + 3 :]
        while rest[:1] == ["|"]:  # nft 1.1: `== syn | ack`
            value, rest = f"{value}|{rest[1]}", rest[2:]
    else:
        operator = "==" if tokens[1] == "/" else tokens[0]
        value, slash, mask, *rest = tokens if operator == "==" else tokens[1:]
        if slash != "/":
            raise _NotOursError
    if operator not in ("==", "!="):
        raise _NotOursError
    flags = FlagsMatch(_words(mask), _words(value), negated=operator == "!=")
    return flags, rest


def _words(text: str) -> frozenset[str]:
    return frozenset(re.split(r"\s*[|,]\s*", text.strip()))


def _match(tokens: list[str]) -> tuple[Statement, list[str]]:
    left, rest = _expression(tokens)
    if rest[0] == ".":
        key, rest = _fields(tokens)
        negated = rest[0] == "!="
        name = rest[1] if negated else rest[0]
        if not name.startswith("@"):
            raise _NotOursError
        return InSet(key, name[1:], negated), rest[2 if negated else 1 :]
    if rest[0] == "vmap" and rest[1].startswith("@"):
        return Dispatch(rest[1][1:], left), rest[2:]
    if rest[0] == "set":
        source, rest = _expression(rest[1:])
        if not isinstance(left, Field) or not isinstance(source, Field):
            raise _NotOursError
        return Write(left, source), rest
    negated = rest[0] == "!="
    if rest[0] in ("!=", "=="):
        rest = rest[1:]
    if left in MARKS and "/" in rest[0]:
        # How nft writes a comparison under a mask whose bits are the first ones.
        value, _, length = rest[0].partition("/")
        mask = ALL_BITS & ~(ALL_BITS >> int(length))
        return Match(Masked(left, mask), int(value, 0), negated), rest[1:]
    return Match(left, _right(left, rest[0]), negated), rest[1:]


def _fields(tokens: list[str]) -> tuple[tuple[Field, ...], list[str]]:
    """Fields with dots between them."""
    key, rest = [], [".", *tokens]
    while rest[0] == ".":
        part, rest = _expression(rest[1:])
        if not isinstance(part, Field):
            raise _NotOursError
        key.append(part)
    return tuple(key), rest


def _expression(tokens: list[str]) -> tuple[Expression, list[str]]:
    match tokens:
        case ["socket", "cgroupv2", "level", level, *rest]:
            return SocketCgroup(int(level)), rest
    if raw := RAW.fullmatch(tokens[0]):
        return _raw(RawPayload(int(raw[1]), int(raw[2])), tokens[1:])
    for name in FIELDS:
        words = name.value.split()
        if tokens[: len(words)] == words:
            rest = tokens[len(words) :]
            if rest and rest[0] == "&":
                mask = _classid(rest[1]) if name is Field.PRIORITY else int(rest[1], 0)
                return Masked(name, mask), rest[2:]
            return name, rest
    raise _NotOursError


def _raw(plain: RawPayload, rest: list[str]) -> tuple[Expression, list[str]]:
    if rest[0] != "&":
        return plain, rest
    return replace(plain, mask=int(rest[1], 0)), rest[2:]


def _right(left: Expression, token: str) -> SetRef | int | str | frozenset[str]:
    if token.startswith("@"):
        return SetRef(token[1:])
    if isinstance(left, Masked) and left.field is Field.PRIORITY:
        return _classid(token)
    if isinstance(left, Masked | RawPayload) or left in NUMBERS or left in MARKS:
        return int(token, 0)
    if left is Field.CT_STATE:
        return frozenset(token.split(","))
    if token.startswith("{"):
        raise _NotOursError
    return token.strip('"')
