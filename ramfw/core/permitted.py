"""The maps of permitted addresses: which there are, and whose an element is.

Pure. A map's data is the id of the entry that opens the address: so the grants of several entries
stand in one map, and a flow carries the id. Families, and ranges, have maps of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from ramfw.core.policy import Entry, Policy, ScopeName
from ramfw.core.ruleset import IDS, Field, NamedSet, Rule, Tag, Untag

KEY4 = ("ipv4_addr", "inet_proto", "inet_service")
KEY6 = ("ipv6_addr", "inet_proto", "inet_service")

EVERY_SCOPE = "permitted"
"""The stem of the maps that all scopes consult."""


@dataclass(frozen=True, slots=True)
class NumberedEntry:
    """An entry of the policy, under the id that its flows carry."""

    entry_id: int
    label: str
    digest: str
    expects_name: bool = False


def entry_comment(numbered: NumberedEntry) -> str:
    """How an id's element tells, to an admin and to a daemon that starts again, whose it is."""
    printable = "".join(c if c.isalnum() or c in ".-_:/*[] " else "?" for c in numbered.label)
    return f"{numbered.digest} {printable}"[:120].rstrip()


def map_stems(entry: Entry, policy: Policy) -> tuple[str, ...]:
    """The stems of the maps that hold the entry's grants."""
    if entry.scopes.issuperset(policy.scopes):
        return (EVERY_SCOPE,)
    return tuple(str(scope) for scope in policy.scopes if scope in entry.scopes)


def map_name(stem: str, network: object, *, is_range: bool) -> str:
    """The map for grants of this stem: by family, ranges apart (they need interval sets)."""
    family = 4 if isinstance(network, IPv4Network) else 6
    return f"{stem}_ranges{family}" if is_range else f"{stem}{family}"


def permitted_maps(policy: Policy) -> Iterable[NamedSet]:
    """All that the policy's entries need, empty."""
    for stem in _stems(policy):
        yield NamedSet(f"{stem}4", KEY4, frozenset({"timeout"}), data=IDS)
        yield NamedSet(f"{stem}6", KEY6, frozenset({"timeout"}), data=IDS)
    for name in _range_maps(policy):
        key = KEY4 if name.endswith("4") else KEY6
        yield NamedSet(name, key, frozenset({"interval", "timeout"}), data=IDS)


def tags(policy: Policy, scope: ScopeName) -> Iterable[Rule]:
    """Of the maps that know the address the last has the flow: exact after range.

    The id stands in the packet's priority, for no map can write a part of a mark. A sender may have
    set the priority, so it is emptied before.
    """
    stems = [stem for stem in _stems(policy) if stem in (EVERY_SCOPE, str(scope))][::-1]
    ranges = _range_maps(policy)
    yield (Untag(),)
    for family, address in ((4, Field.IP_DADDR), (6, Field.IP6_DADDR)):
        key = (address, Field.L4PROTO, Field.TH_DPORT)
        names = [name for stem in stems if (name := f"{stem}_ranges{family}") in ranges]
        names += [f"{stem}{family}" for stem in stems]
        yield from ((Tag(key, name),) for name in names)


def _stems(policy: Policy) -> list[str]:
    """The map stems in use, the one for every scope first."""
    used = {stem for entry in policy.entries for stem in map_stems(entry, policy)}
    return [EVERY_SCOPE, *(str(scope) for scope in policy.scopes if str(scope) in used)]


def _range_maps(policy: Policy) -> list[str]:
    names = {
        map_name(stem, network, is_range=True)
        for entry in policy.entries
        for network in entry.networks
        if network.num_addresses > 1
        for stem in map_stems(entry, policy)
    }
    return sorted(names)
