"""Loads rules that tell answers apart by ten thousand names, reads them back, and changes one name.

A program of its own, as `kernel_round_trip` is, and says in the same way what went otherwise.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from ramfw.core.catalog import shipped
from ramfw.core.compiler import compile_ruleset
from ramfw.core.policy import Target
from ramfw.core.policy_parser import parse
from ramfw.core.reconcile import diff
from ramfw.core.ruleset import Ruleset
from ramfw.core.transaction import AddElements, DeleteElements
from ramfw.core.watch_rules import WatchForm
from tests.golden.cases import MACHINE
from tests.lab.kernel_round_trip import RoundTrip
from tests.lab.watch_forms import forms_to_try

NAMES = 10_000


def told_by(last: str, form: WatchForm) -> Ruleset:
    """The rules where one entry permits all names, this one the last of them."""
    policy, _ = parse('version = 1\n[[allow]]\nhost = "a.example"\n', "policy.toml", shipped())
    names = (*(f"r{number}.example" for number in range(NAMES - 1)), last)
    entry = replace(policy.entries[0], targets=tuple(Target(name, (443,)) for name in names))
    machine = replace(MACHINE, watch=form, tells_answers=True)
    return compile_ruleset(replace(policy, entries=(entry,)), machine, ())


def main() -> int:
    trip = RoundTrip()
    for form in forms_to_try(sys.argv[1:]):
        before, after = told_by("before.example", form), told_by("after.example", form)
        (held,) = (named for named in before.sets if named.name == "held_names")
        if len(held.elements or ()) < NAMES * 9 // 10:
            trip.wrong.append(f"only {len(held.elements or ())} fronts of {NAMES} names")
        first, last = diff(before, None)
        trip.load(f"many names, {form}", (*first, *last), before)
        first, last = diff(after, before)
        if tuple(map(type, (*first, *last))) != (AddElements, DeleteElements):
            trip.wrong.append(f"one name changes {(*first, *last)[:5]}")
        trip.load(f"another name, {form}", (*first, *last), after)
        trip.clear()
    sys.stdout.write("".join(f"{line}\n" for line in trip.wrong))
    return 1 if trip.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
