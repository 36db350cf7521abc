"""Loads rulesets into the network namespace that it is started in, and reads them back.

A program of its own, because libnftables works in the namespace of its process. Prints a line for
each step that went otherwise than meant, and ends with 1 if there was one. Arguments: the ways to
hold answers that are tried; without any, all that the kernel has.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from itertools import permutations, product

from ramfw.core.reconcile import diff
from ramfw.core.ruleset import Ruleset
from ramfw.core.transaction import AddGrant, DeleteGrant, DeleteTable, GrantKey, Transaction
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import KernelError
from ramfw.program.nft import Nft
from tests.golden.cases import ALL_CASES, CASES, MACHINE, Case
from tests.lab.watch_forms import forms_to_try

ADDRESSES = {
    "4": ("192.0.2.10", "198.51.100.0/25"),
    "6": ("2001:db8::10", "2001:db8:5::/64"),
}


@dataclass
class RoundTrip:
    """One kernel table, and what was found wrong with it."""

    nft: Nft = field(default_factory=Nft)
    wrong: list[str] = field(default_factory=list)

    def load(self, what: str, transaction: Transaction, meant: Ruleset) -> None:
        """Commit, read back, compare."""
        try:
            self.nft.run(transaction)
        except KernelError as error:
            self.wrong.append(f"{what}: {error}")
            return
        state = self.nft.read(with_grants=False)
        if state is None or state.ruleset != meant.as_read():
            self.wrong.append(f"{what}: reads back otherwise")
        elif diff(meant.as_read(), state.ruleset) != ((), ()):
            self.wrong.append(f"{what}: differs from itself")

    def grants(self, case: Case) -> None:
        """Give, renew and take back a grant in every map."""
        keys = list(grant_keys(case.ruleset))
        give: Transaction = tuple(AddGrant(key, 4, 300) for key in keys)
        again = tuple(
            op
            for key in keys
            for op in (AddGrant(key, 4, 9), DeleteGrant(key), AddGrant(key, 4, 900))
        )
        take = tuple(op for key in keys for op in (AddGrant(key, 4, 9), DeleteGrant(key)))
        for what, transaction, least, count in (
            ("given", give, 290, len(keys)),
            ("renewed", again, 890, len(keys)),
            ("taken back", take, 0, 0),
        ):
            self.nft.run(transaction)
            state = self.nft.read(with_grants=True)
            maps = dict(state.grants or {}) if state else {}
            held = {(name, key): one for name, of in maps.items() for key, one in of.items()}
            given = {(key.map, key.packed) for key in keys} if count else set()
            if set(held) != given or any(grant.remaining < least for grant in held.values()):
                self.wrong.append(f"{case.name}: grants {what}: {held}")

    def clear(self) -> None:
        self.nft.run((DeleteTable(),))


def grant_keys(ruleset: Ruleset) -> Iterator[GrantKey]:
    """A key for each map of grants."""
    for named in ruleset.sets:
        if named.holds_grants:
            exact, wide = ADDRESSES[named.name[-1]]
            network = ip_network(wide if "ranges" in named.name else exact)
            yield GrantKey.of(named.name, network, "tcp", 443)


def main() -> int:
    trip = RoundTrip()
    if trip.nft.read(with_grants=True) is not None:
        trip.wrong.append("a table where there is none")
    for form in (WatchForm.NONE, *forms_to_try(sys.argv[1:])):
        for case, names in product(ALL_CASES, (False, True)):
            if names and not form.holds:
                continue
            ruleset = case.compile(replace(MACHINE, watch=form, names=names, tells_answers=names))
            first, last = diff(ruleset, None)
            trip.load(f"{case.name}, {form}, names {names}", (*first, *last), ruleset)
            trip.clear()
    for case in CASES:
        trip.load(case.name, case.transaction, case.ruleset)
        trip.grants(case)
        trip.clear()
    for before, after in permutations(CASES, 2):
        what = f"{before.name} -> {after.name}"
        trip.load(before.name, before.transaction, before.ruleset)
        first, last = diff(after.ruleset, before.ruleset)
        trip.load(what, (*first, *last), after.ruleset)
        trip.clear()
    sys.stdout.write("".join(f"{line}\n" for line in trip.wrong))
    return 1 if trip.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
