"""write(transaction) -> text in nft's grammar, the one place where rules become text.

Pure. Text and not JSON because libnftables' JSON cannot say `socket cgroupv2` (1.0.6, 1.1.3).
Every name and element written here comes from values whose form was checked when they were made;
strings are quoted, and a quote or line break inside one raises ValueError.
"""

from __future__ import annotations

from io import StringIO
from ipaddress import IPv4Address, IPv6Address

from ramfw.core.ruleset import (
    ACKNOWLEDGED,
    TABLE,
    CgroupElement,
    Chain,
    Count,
    Dispatch,
    Element,
    Expression,
    Field,
    FlagsMatch,
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
from ramfw.core.transaction import (
    AddChain,
    AddCounter,
    AddElements,
    AddGrant,
    AddRule,
    AddSet,
    AddTable,
    DeleteChain,
    DeleteCounter,
    DeleteElements,
    DeleteGrant,
    DeleteSet,
    DeleteTable,
    FlushChain,
    FlushSet,
    GrantKey,
    Operation,
    Transaction,
)

OWN = f"inet {TABLE}"
FLAG_ORDER = ("fin", "syn", "rst", "psh", "ack", "urg")


def write(transaction: Transaction) -> str:
    """The transaction as one batch, a command a line."""
    text = StringIO()  # not a list of lines: they may be 60,000
    for operation in transaction:
        text.write(_line(operation))
        text.write("\n")
    return text.getvalue()


def write_rule(rule: Rule) -> str:
    """One rule, as nft takes it after `add rule TABLE CHAIN`."""
    return " ".join(_statement(statement) for statement in rule)


def _line(operation: Operation) -> str:  # noqa: C901, PLR0911, PLR0912 - a case each
    match operation:
        case AddTable(locked):
            return f"add table {OWN}{' { flags owner, persist; }' if locked else ''}"
        case DeleteTable():
            return f"delete table {OWN}"
        case AddCounter(name):
            return f"add counter {OWN} {name}"
        case DeleteCounter(name):
            return f"delete counter {OWN} {name}"
        case AddChain(chain):
            return f"add chain {OWN} {chain.name}{_chain_body(chain)}"
        case FlushChain(name):
            return f"flush chain {OWN} {name}"
        case DeleteChain(name):
            return f"delete chain {OWN} {name}"
        case AddRule(chain, rule):
            return f"add rule {OWN} {chain} {write_rule(rule)}"
        case AddSet(named):
            return f"add {kind(named)} {OWN} {named.name} {{ {_set_body(named)} }}"
        case DeleteSet(name):
            return f"delete set {OWN} {name}"
        case FlushSet(name):
            return f"flush set {OWN} {name}"
        case AddElements(name, elements):
            return f"add element {OWN} {name} {{ {_element_list(elements)} }}"
        case DeleteElements(name, elements):
            return f"delete element {OWN} {name} {{ {_element_list(elements)} }}"
        case AddGrant(key, entry_id, timeout):
            element = f"{_grant(key)} timeout {timeout}s : {_classid(entry_id)}"
            return f"add element {OWN} {key.map} {{ {element} }}"
        case DeleteGrant(key):
            return f"delete element {OWN} {key.map} {{ {_grant(key)} }}"


def _chain_body(chain: Chain) -> str:
    if chain.hook is None:
        return ""
    kind, hook, priority = chain.hook.kind, chain.hook.hook, chain.hook.priority
    return f" {{ type {kind} hook {hook} priority {priority}; policy {chain.policy}; }}"


def kind(named: NamedSet) -> str:
    """What nft calls it."""
    return "map" if named.data else "set"


def _set_body(named: NamedSet) -> str:
    word = "type" if named.is_typed else "typeof"
    parts = [f"{word} {' . '.join(named.key)}{f' : {named.data}' if named.data else ''};"]
    if named.size:
        parts.append(f"size {named.size};")
    if named.flags:
        parts.append(f"flags {', '.join(sorted(named.flags))};")
    if named.lifetime:
        parts.append(f"timeout {named.lifetime}s;")
    if named.counted:
        parts.append("counter;")
    return " ".join(parts)


def _element_list(elements: frozenset[Element]) -> str:
    return ", ".join(sorted(_element(element) for element in elements))


def _element(element: Element) -> str:
    if isinstance(element, int | IPv4Address | IPv6Address):
        return str(element)
    if isinstance(element, Jump):
        value = str(element.value) if element.is_mark else _classid(element.value)
        return f"{value} : jump {element.chain}"
    if isinstance(element, NumberedElement):
        return f"{_classid(element.entry_id)} comment {_quoted(element.comment)}"
    if isinstance(element, MarkedId):
        return f"{element.mark} : {_classid(element.entry_id)}"
    return _quoted(element.path if isinstance(element, CgroupElement) else element)


def _classid(entry_id: int) -> str:
    """An id as nft spells a packet's priority: two halves in hexadecimal."""
    return f"{entry_id >> 16:x}:{entry_id & 0xFFFF:x}"


def _grant(key: GrantKey) -> str:
    network = key.network
    address = network.network_address if network.num_addresses == 1 else network
    return f"{address} . {key.protocol} . {key.port}"


def _quoted(text: str) -> str:
    # nft's quoted strings know no escapes: a backslash (systemd writes `\x2d`) stands for itself.
    if '"' in text or not text.isprintable():
        raise ValueError(f"not a string that nft can be given: {text!r}")
    return f'"{text}"'


def _statement(statement: Statement) -> str:  # noqa: C901, PLR0911, PLR0912 - a case each
    match statement:
        case Match(Masked(Field.PRIORITY) as left, int() as right, negated):
            return f"{_expression(left)} {'!= ' if negated else ''}{_classid(right)}"
        case Match(left, right, negated):
            return f"{_expression(left)} {'!= ' if negated else ''}{_right(right)}"
        case FlagsMatch(mask, value, negated):
            bits = " | ".join(flag for flag in FLAG_ORDER if flag in mask)
            wanted = " | ".join(flag for flag in FLAG_ORDER if flag in value)
            return f"tcp flags & ({bits}) {'!=' if negated else '=='} {wanted}"
        case Tag(key, name):
            return f"meta priority set {' . '.join(map(_expression, key))} map @{name}"
        case Untag():
            return "meta priority set none"
        case Dispatch(name, left):
            return f"{_expression(left)} vmap @{name}"
        case Count(counter):
            return f"counter name {_quoted(counter)}"
        case SetMark(kept, value):
            more = f" | {value:#010x}" if value else ""
            return f"ct mark set ct mark & {kept:#010x}{more}"
        case SetPacketMark(kept, value):
            more = f" | {value:#010x}" if value else ""
            return f"meta mark set meta mark & {kept:#010x}{more}"
        case Write() if statement == ACKNOWLEDGED:
            raise ValueError("nft 1.1 does not take this: the rule is packed by hand")
        case Write(field, source):
            return f"{field} set {source}"
        case Verdict(kind, chain):
            return f"{kind} {chain}" if chain else kind
        case Reject(reason):
            return f"reject with {reason}"
        case Log(group, length, prefix):
            words = f"prefix {_quoted(prefix)} " if prefix else ""
            return f"log {words}group {group} snaplen {length} queue-threshold 1"
        case Limit(per_second, burst):
            return f"limit rate {per_second}/second burst {burst} packets"
        case Redirect(port):
            return f"redirect to :{port}"
        case InSet(key, name, negated):
            return f"{' . '.join(key)} {'!= ' if negated else ''}@{name}"
        case Remember(key, name):
            return f"add @{name} {{ {' . '.join(key)} }}"
        case RememberMark(key, name, mask):
            data = _expression(Masked(Field.META_MARK, mask))
            return f"add @{name} {{ {' . '.join(key)} : {data} }}"
        case MarkFrom(key, name):
            return f"meta mark set {' . '.join(key)} map @{name}"
        case Queue(number, is_native, bypass):
            if not is_native:
                raise ValueError("nft's grammar has no xt target: the rule is packed by hand")
            return f"queue {'flags bypass ' if bypass else ''}to {number}"


def _expression(expression: Expression) -> str:
    match expression:
        case Masked(Field.PRIORITY, mask):
            return f"{Field.PRIORITY} & {_classid(mask)}"
        case Masked(field, mask):
            return f"{field} & {mask:#010x}"
        case SocketCgroup(level):
            return f"socket cgroupv2 level {level}"
        case RawPayload(_, _, mask):
            return f"{expression.kind} & {mask:#x}" if mask else expression.kind
        case _:
            return str(expression)


def _right(right: SetRef | int | str | frozenset[str]) -> str:
    match right:
        case SetRef(name):
            return f"@{name}"
        case frozenset():
            return ",".join(sorted(right))
        case int():
            return str(right)
        case _:
            return right
