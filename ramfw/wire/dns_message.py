"""A strict decoder of DNS messages that pass by, for the path on which an answer waits.

Pure, and never raises, for whatever bytes. `question` reads the header and the first name only, so
that a name nobody permitted costs next to nothing; `answers` reads all. A message counts only as a
whole: one wrong byte anywhere and it opens nothing. What dnspython refuses is refused here too:
records that no answer is made of (RRSIG, SVCB, options of EDNS, ...) are handed to it. Names are
compared in lower-case wire form, in which a dot inside a label is no boundary. Formats: RFC 1035,
RFC 2181, RFC 6891.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import dns.rdata
import dns.rdataclass
import dns.rdatatype

A = 1
NS = 2
CNAME = 5
SOA = 6
PTR = 12
AAAA = 28
OPT = 41
SVCB = 64
HTTPS = 65
TSIG = 250
IN = 1

NOERROR = 0

MAX_ADDRESSES = 64
"""Addresses that count of one answer."""

MAX_CHAIN = 16
"""CNAMEs that are followed, one after the other."""

MAX_POINTERS = 16
"""Compression pointers in one name; dnspython's bound too."""

MAX_RARE = 128
"""Records handed to dnspython of one message: it takes long over them."""

MAX_NAME = 255
"""The bytes of a name, with its length bytes and the root's."""

_HEADER = struct.Struct("!HHHHHH")
_TYPE_AND_CLASS = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_POINTER = struct.Struct("!H")
# A record at a compressed name, and one at the root.
_USUAL = struct.Struct("!HHHIH")
_OPTION = struct.Struct("!BHHIH")
_COUNTS = struct.Struct("!HHH")

_HEADER_SIZE = 12
_COUNTS_AT = 6
_QR = 0x8000
_TC = 0x0200
_RCODE = 0x000F
_QR_AND_OPCODE = 0xF800
_SOA_NUMBERS = 20
_MAX_TTL = 0x7FFFFFFF
_ADDITIONAL = 2
_FIXED = {A: 4, AAAA: 16}
_EXTENDED_RCODE = 0xFF000000
_ROOT = b"\0"
_FIRST_NAME = b"\xc0\x0c"
_FIRST_POINTER = 0xC00C
_POINTERS, _LAST_POINTED = 0xC000, 0x3FFF
_FEW = 4
"""CNAMEs, and pointers in the name of one, of the usual form."""
_NO_NAME = b"\x80" * _HEADER_SIZE
_TARGETS_AT_HAND = 1024
_ONE_NAME = frozenset({NS, CNAME, PTR})
_RARE = frozenset(map(int, dns.rdatatype.RdataType)) - {A, AAAA, SOA, OPT, TSIG} - _ONE_NAME
_HOST_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")
_DOT = ord(".")
_NAMES_AT_HAND = 256  # few: what is looked up while an answer waits should stay in a CPU's cache


class Question(NamedTuple):
    """The header and the only question of a message.

    `name` is canonical text, as in `core.fqdn`: lower case, no trailing dot. `end` is where the
    question ends in the message.
    """

    id: int
    flags: int
    name: str
    type: int
    klass: int
    end: int

    @property
    def is_response(self) -> bool:
        """Whether it is a response (QR) to a standard query (opcode 0)."""
        return self.flags & _QR_AND_OPCODE == _QR

    @property
    def is_truncated(self) -> bool:
        """The TC bit: the client will ask again over TCP."""
        return self.flags & _TC != 0

    @property
    def rcode(self) -> int:
        """The response code, without the upper bits that EDNS may add."""
        return self.flags & 15


class Answers(NamedTuple):
    """What a response says of its question: packed addresses, and the seconds they hold for.

    The TTL is the least of the addresses' own and those along the chain of CNAMEs. `services`
    tells that there are SVCB or HTTPS records, so that `dns_service.neutralize` has work.
    """

    addresses: tuple[bytes, ...]
    ttl: int
    services: bool


class Record(NamedTuple):
    """One record of the sections after the question; its data is message[start:end].

    `owner` is the name in lower-case wire form, `target` the one in a CNAME, NS or PTR (else
    empty). Section 0 is the answer's.
    """

    section: int
    owner: bytes
    type: int
    ttl: int
    start: int
    end: int
    target: bytes


Suffixes = dict[int, tuple[bytes, int, int]]
"""What stands where pointers lead: wire form, end, pointers that were followed."""


class MalformedError(ValueError):
    """Bytes that are no DNS message."""


def question(payload: bytes) -> Question | None:
    """The question of a message that has one about a host name (RFC 1123); None for all others.

    What comes behind the question is not looked at.
    """
    if len(payload) < _HEADER_SIZE:
        return None
    ident, flags, count, _answers, _authorities, _additional = _HEADER.unpack_from(payload)
    if count != 1:
        return None
    # No byte of a host name is zero, so the first zero ends it. A pointer is no length.
    root = payload.find(0, _HEADER_SIZE, _HEADER_SIZE + MAX_NAME)
    if root < 0 or root + 5 > len(payload):
        return None
    name = host_name(payload[_HEADER_SIZE:root])
    if name is None:
        return None
    kind, klass = _TYPE_AND_CLASS.unpack_from(payload, root + 1)
    return Question(ident, flags, name, kind, klass, root + 5)


# The same names are asked for again and again.
@lru_cache(maxsize=_NAMES_AT_HAND)
def host_name(wire: bytes) -> str | None:
    """The canonical text of a name in wire form, without the root; None if it is no host's."""
    text = bytearray(wire)
    position, size, labels = 0, len(wire), 0
    while position < size:
        length = wire[position]
        if length > 63:  # noqa: PLR2004 - RFC 1035, section 2.3.4
            return None
        text[position] = _DOT
        position += length + 1
        labels += 1
    name = text[1:].lower().decode("latin-1")
    # A label that is cut short, or has a dot in it, makes the whole name another than its labels.
    if position != size or name.count(".") != labels - 1 or not _HOST_NAME.fullmatch(name):
        return None
    return None if ".-" in name or "-." in name else name


def wire_name(payload: bytes, asked: Question) -> bytes:
    """The name of the message's question in lower-case wire form."""
    return payload[_HEADER_SIZE : asked.end - _TYPE_AND_CLASS.size].lower()


def answers(payload: bytes, asked: Question) -> Answers | None:
    """What a response says of the addresses that its own question asks for.

    `asked` is `question(payload)`. Only class IN and the type that was asked count, A or AAAA, of
    the answer section, at the name that was asked or at the end of its CNAMEs, in whatever order
    the records come; of many addresses the first 64. Any other code than NOERROR has none. None
    for what is no response to a standard query and for every malformed message: also where bytes
    follow the last record, a record is of another class, two CNAMEs of one name differ, or a
    chain is a loop or too long. A truncated response (TC) that is whole in itself counts: some
    clients use it.
    """
    if not asked.is_response:
        return None
    usual = _usual_answers(payload, asked) or _usual_aliased(payload, asked)
    return _any_answers(payload, asked) if usual is None else usual


def _usual_answers(payload: bytes, asked: Question) -> Answers | None:
    """The same as `_any_answers`, in less time, of the usual form; None for all others.

    Usual: NOERROR, and then only records of the type and at the name that were asked, the name
    written as a pointer to the question; perhaps an OPT record without options at the end.
    """
    length = _FIXED.get(asked.type)
    if length is None or asked.flags & _RCODE or asked.klass != IN:
        return None
    counts = _COUNTS.unpack_from(payload, _COUNTS_AT)
    return _usual_addresses(payload, asked, counts, asked.end, _FIRST_POINTER, _MAX_TTL)


def _usual_aliased(payload: bytes, asked: Question) -> Answers | None:
    """As `_usual_answers`, where CNAMEs stand before: what a CDN's customers answer.

    Usual: each record at the name that the one before it leads to, written as a pointer to there.
    """
    if asked.type not in _FIXED or asked.flags & _RCODE or asked.klass != IN:
        return None
    count, authorities, additional = _COUNTS.unpack_from(payload, _COUNTS_AT)
    size, position, owner, least = len(payload), asked.end, _FIRST_POINTER, _MAX_TTL
    first = wire_name(payload, asked)
    names = [first]
    while position + _USUAL.size <= size:
        pointer, kind, klass, ttl, length = _USUAL.unpack_from(payload, position)
        if kind != CNAME:
            break
        start = position + _USUAL.size
        position = start + length
        if pointer != owner or klass != IN or position > size or start > _LAST_POINTED:
            return None
        name = _target(payload[start:position], first) or _any_target(payload, start, position)
        if name is None or name in names or len(names) > _FEW:
            return None
        names.append(name)
        owner, least = _POINTERS | start, min(least, 0 if ttl > _MAX_TTL else ttl)
    counts = count - len(names) + 1, authorities, additional
    return _usual_addresses(payload, asked, counts, position, owner, least)


def _any_target(payload: bytes, start: int, end: int) -> bytes | None:
    """The name in a CNAME's data, which may end in a pointer to anywhere before it."""
    try:
        name, after, pointers = _read_name(payload, start, end, 0, {})
    except MalformedError:
        return None
    return name if after == end and pointers <= _FEW and len(name) <= MAX_NAME else None


# A CDN's customers name the same host again and again.
@lru_cache(maxsize=_TARGETS_AT_HAND)
def _target(data: bytes, first: bytes) -> bytes | None:
    """The name in a CNAME's data, in lower-case wire form; None for all but the usual form.

    Usual: whole, or ending in a pointer into `first`, the question's name. Before that stands a
    header, in which no pointer finds a name.
    """
    before = _NO_NAME + first
    try:
        name, end = read_name(before + data, len(before), len(before) + len(data), {})
    except MalformedError:
        return None
    return name if end == len(before) + len(data) else None


def _usual_addresses(  # noqa: PLR0913, PLR0917 - one step of a quick path
    payload: bytes,
    asked: Question,
    counts: tuple[int, int, int],
    start: int,
    owner: int,
    least: int,
) -> Answers | None:
    """The addresses from `start` on, all at the name that `owner` points to, and nothing else."""
    count, authorities, additional = counts
    length = _FIXED[asked.type]
    step = _USUAL.size + length
    end = start + count * step
    behind = len(payload) - end
    if not 0 < count <= MAX_ADDRESSES or authorities or behind != additional * _OPTION.size:
        return None
    if additional:
        root, kind, _, extended, size = _OPTION.unpack_from(payload, end)
        if additional != 1 or root or kind != OPT or extended & _EXTENDED_RCODE or size:
            return None
    found = []
    for position in range(start, end, step):
        pointer, kind, klass, ttl, size = _USUAL.unpack_from(payload, position)
        if pointer != owner or kind != asked.type or klass != IN or size != length:
            return None
        if ttl < least or ttl > _MAX_TTL:
            least = 0 if ttl > _MAX_TTL else ttl
        found.append(payload[position + _USUAL.size : position + step])
    addresses = tuple(found) if count == 1 else tuple(dict.fromkeys(found))
    return Answers(addresses, least, services=False)


def _any_answers(payload: bytes, asked: Question) -> Answers | None:
    name = wire_name(payload, asked)
    wanted = asked.type if asked.type in (A, AAAA) else None
    aliases: dict[bytes, tuple[bytes, int]] = {}
    found: dict[bytes, tuple[list[bytes], int]] = {}
    failed, services = asked.rcode != NOERROR or asked.klass != IN, False
    try:
        for section, owner, kind, ttl, start, end, target in records(payload, asked.end, name):
            if kind in (SVCB, HTTPS):
                services = True
            elif kind == OPT:
                failed |= ttl & _EXTENDED_RCODE != 0
            elif section == 0 and kind == wanted:
                held, least = found.get(owner) or ([], ttl)
                held.append(payload[start:end])
                found[owner] = held, min(ttl, least)
            elif section == 0 and kind == CNAME:
                known, least = aliases.get(owner) or (target, ttl)
                if known != target:
                    return None
                aliases[owner] = target, min(ttl, least)
    except MalformedError:
        return None
    if failed:
        return Answers((), 0, services)
    return _follow(name, aliases, found, services=services)


def _follow(
    name: bytes,
    aliases: dict[bytes, tuple[bytes, int]],
    found: dict[bytes, tuple[list[bytes], int]],
    *,
    services: bool,
) -> Answers | None:
    """The addresses at the end of the chain that starts at the name."""
    least = _MAX_TTL
    for _ in range(MAX_CHAIN + 1):
        if name in found:
            addresses, ttl = found[name]
            kept = tuple(dict.fromkeys(addresses))[:MAX_ADDRESSES]
            return Answers(kept, min(ttl, least), services)
        if name not in aliases:
            return Answers((), 0, services)
        name, ttl = aliases[name]
        least = min(least, ttl)
    return None


def records(payload: bytes, position: int, first: bytes) -> Iterator[Record]:
    """The records from `position`, where the question ends, to the last, each one checked.

    `first` is the question's name in wire form. Raises MalformedError where anything is wrong, at
    the latest after the last record.
    """
    size = len(payload)
    suffixes: Suffixes = {}
    options, rare = False, 0
    for section, count in enumerate(_HEADER.unpack_from(payload)[3:]):
        for _ in range(count):
            if payload[position : position + 2] == _FIRST_NAME:
                owner, position = first, position + 2
            else:
                owner, position = read_name(payload, position, size, suffixes)
            start = position + _RECORD.size
            kind, klass, ttl, position = _record_header(payload, position, size)
            if kind == OPT:
                if section != _ADDITIONAL or options or owner != _ROOT:
                    raise MalformedError("an OPT record where none may be")
                options = True
            elif klass != IN:
                raise MalformedError("a record of another class")
            elif ttl > _MAX_TTL:
                ttl = 0  # RFC 2181, section 8
            rare += kind in _RARE
            if rare > MAX_RARE:
                raise MalformedError("too many records of rare types")
            target = _check_data(payload, kind, start, position, suffixes)
            yield Record(section, owner, kind, ttl, start, position, target)
    if position != size:
        raise MalformedError("bytes after the last record")


def _record_header(payload: bytes, position: int, size: int) -> tuple[int, int, int, int]:
    """A record's type, class and TTL, and where its data ends."""
    if position + _RECORD.size > size:
        raise MalformedError("a record that is cut short")
    kind, klass, ttl, length = _RECORD.unpack_from(payload, position)
    end = position + _RECORD.size + length
    if end > size:
        raise MalformedError("a record that is cut short")
    return kind, klass, ttl, end


def _check_data(payload: bytes, kind: int, start: int, end: int, suffixes: Suffixes) -> bytes:
    """The name in a record of one name; raises MalformedError for data that its type forbids."""
    target = b""
    if kind in _FIXED:
        good = end - start == _FIXED[kind]
    elif kind in _ONE_NAME:
        target, after = read_name(payload, start, end, suffixes)
        good = after == end
    elif kind == SOA:
        _, after = read_name(payload, start, end, suffixes)
        _, after = read_name(payload, after, end, suffixes)
        good = after + _SOA_NUMBERS == end
    elif kind == OPT:
        good = start == end or _suits_dnspython(payload, kind, start, end)
    else:
        # Nobody here holds the key of a TSIG.
        good = kind != TSIG and (kind not in _RARE or _suits_dnspython(payload, kind, start, end))
    if not good:
        raise MalformedError(f"a record of type {kind} that is malformed")
    return target


def read_name(payload: bytes, position: int, end: int, suffixes: Suffixes) -> tuple[bytes, int]:
    """The name at `position` that must end before `end`: its wire form, and where it ends.

    A pointer leads to before the name it is in, and what it leads to ends before that name, too;
    so no walk is endless. Raises MalformedError.
    """
    wire, position, _ = _read_name(payload, position, end, 0, suffixes)
    if len(wire) > MAX_NAME:
        raise MalformedError("a name of more than 255 bytes")
    return wire, position


def _read_name(
    payload: bytes, position: int, end: int, pointers: int, suffixes: Suffixes
) -> tuple[bytes, int, int]:
    """A name, where it ends, and how many pointers were followed for it."""
    start = position
    while position < end:
        length = payload[position]
        if length == 0:
            position += 1
            return payload[start:position].lower(), position, 0
        if length < 64:  # noqa: PLR2004 - RFC 1035, section 2.3.4
            position += length + 1
            if position - start > MAX_NAME:
                break
            continue
        if length < 192 or position + 2 > end:  # noqa: PLR2004 - section 4.1.4
            break
        target = _POINTER.unpack_from(payload, position)[0] & 0x3FFF
        if target >= start or pointers >= MAX_POINTERS:
            break
        known = suffixes.get(target)
        if known is None:
            known = suffixes[target] = _read_name(payload, target, start, pointers + 1, suffixes)
        suffix, target_end, more = known
        if target_end > start or pointers + 1 + more > MAX_POINTERS:
            break
        return payload[start:position].lower() + suffix, position + 2, more + 1
    raise MalformedError("a name that is none")


def _suits_dnspython(payload: bytes, kind: int, start: int, end: int) -> bool:
    rdtype = dns.rdatatype.RdataType(kind)
    try:
        dns.rdata.from_wire(dns.rdataclass.IN, rdtype, payload, start, end - start)
    except Exception:  # noqa: BLE001 - a stranger's bytes in another's parser: nothing may escape
        return False
    return True
