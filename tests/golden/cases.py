"""The golden rulesets: each case is a policy and the batch that it becomes on a known machine.

`python -m tests.golden.cases` writes the batches anew; what changed is then read in the diff.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from ramfw.core.catalog import shipped
from ramfw.core.compiler import compile_ruleset
from ramfw.core.numbering import Numbering
from ramfw.core.plan import Machine
from ramfw.core.policy import ScopeName
from ramfw.core.policy_parser import parse
from ramfw.core.reconcile import diff
from ramfw.core.ruleset import CgroupElement, Ruleset
from ramfw.core.transaction import Transaction
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm
from ramfw.program.batches import needs_hand
from ramfw.wire.nft_writer import write

HERE = Path(__file__).parent

MACHINE = Machine(
    uplinks=frozenset({"br-lan"}),
    servers=frozenset({ip_address("192.0.2.53"), ip_address("2001:db8::53")}),
    watch=WatchForm.COPY,
    turning=Turning.ALL,
)
NAMES = {
    f"names-{form}": replace(MACHINE, watch=form, names=True, tells_answers=True)
    for form in (WatchForm.NATIVE, WatchForm.XT)
} | {"names-probe": replace(MACHINE, watch=WatchForm.NATIVE, names=True)}
"""Machines that read first bytes and tell answers apart, by the case that is compiled for them."""


@dataclass(frozen=True)
class Case:
    """One directory below this one."""

    directory: Path

    @property
    def name(self) -> str:
        return self.directory.name

    @cached_property
    def ruleset(self) -> Ruleset:
        return self.compile(NAMES.get(self.name, MACHINE))

    def compile(self, machine: Machine) -> Ruleset:
        text = (self.directory / "policy.toml").read_text()
        policy, _ = parse(text, "policy.toml", shipped())
        numbering = Numbering()
        numbering.assign(policy.entries, frozenset())
        return compile_ruleset(policy, machine, numbering.numbered.values())

    @property
    def transaction(self) -> Transaction:
        first, last = diff(self.ruleset, None)
        return (*first, *last)

    @property
    def batch(self) -> str:
        """Without the rules with an xt target, which are packed by hand."""
        return write(tuple(op for op in self.transaction if not needs_hand(op)))

    @property
    def golden(self) -> Path:
        return self.directory / "ruleset.nft"


def with_engine(path: str) -> Machine:
    """The machine, with an engine's cgroup on it."""
    found = frozenset({CgroupElement(path, path.count("/") + 1)})
    return replace(MACHINE, cgroups={ScopeName.ENGINES: found})


ALL_CASES = tuple(Case(path.parent) for path in sorted(HERE.glob("*/policy.toml")))
CASES = tuple(case for case in ALL_CASES if case.name not in NAMES)
"""Those that every kernel takes as text."""


if __name__ == "__main__":
    for case in ALL_CASES:
        case.golden.write_text(case.batch)
