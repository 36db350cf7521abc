"""Tells, as JSON, whether the table can be locked here, and what others can do to it then.

Works in the network namespace that it is started in, where it may remove all rules.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from typing import Any

from ramfw.core.reconcile import diff
from ramfw.core.transaction import AddGrant, DeleteTable
from ramfw.program.batches import Batches
from ramfw.program.nft import Nft, _text_context
from tests.golden.cases import CASES
from tests.lab.kernel_round_trip import grant_keys

CASE = CASES[0]
KEY, OTHER = list(grant_keys(CASE.ruleset))[:2]


def others(command: str) -> str:
    """What another program's nft says; empty where it was done."""
    done = subprocess.run(["nft", command], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stderr.splitlines()[0].rpartition(": ")[2]


def is_whole(nft: Nft) -> bool:
    state = nft.read(with_grants=True)
    if state is None or state.grants is None or KEY.packed not in state.grants[KEY.map]:
        return False
    # Who owns it is asked elsewhere.
    rules = frozenset(line for line in state.ruleset.foreign if not line.startswith("flags "))
    found = replace(state.ruleset, foreign=rules)
    return diff(CASE.ruleset.as_read(), found) == ((), ())


def forget(daemon: Nft) -> None:
    """As at the end of its process: its sockets are closed."""
    daemon._lock, daemon._by_hand = None, None
    daemon._text = _text_context()


def survives(nft: Nft) -> dict[str, Any]:
    """What comes of the attempts of others, and whether the table is whole after all of them."""
    commands = (
        "flush ruleset",
        "delete table inet ramfw",
        "flush chain inet ramfw guard_output",
        "insert rule inet ramfw guard_output accept",
        "add table inet ramfw { flags dormant; }",
    )
    return {**{c: others(c) for c in commands}, "whole": is_whole(nft)}


def main() -> None:
    plain = Nft()
    plain.run((*CASE.transaction, AddGrant(KEY, 16, 300)))
    owner = Nft()
    problem = owner.lock_table(None)
    told: dict[str, Any] = {"problem": problem}
    if not problem:
        told |= locked(owner)
    json.dump(told, sys.stdout)


def locked(owner: Nft) -> dict[str, Any]:
    told: dict[str, Any] = {}
    before = owner.read(with_grants=True)
    assert before
    # As the engine does with a table that is not as it is meant, in one transaction.
    told["a plain table is not as meant"] = sorted(before.ruleset.foreign)
    owner.run((DeleteTable(), *CASE.transaction, AddGrant(KEY, 16, 300)))
    told["while the owner lives"] = survives(owner)

    shared = owner.shared_socket()
    with Batches(shared) as batches:
        batches.grant([AddGrant(OTHER, 16, 300)])
    state = owner.read(with_grants=True)
    assert state
    assert state.grants
    told["batches share the lock"] = OTHER.packed in state.grants[OTHER.map]

    # libnftables has opened a new socket, as it does when a listing was interrupted.
    owner._text = _text_context()
    owner.run((AddGrant(KEY, 16, 900),))
    told["it goes on after a new socket"] = is_whole(owner)

    # The service manager's copy of the socket, and the daemon's end.
    kept = owner.shared_socket()
    assert kept
    os.dup2(kept.fileno(), 400, inheritable=False)
    kept.close()
    forget(owner)
    heir = Nft()
    told["while no daemon lives"] = survives(heir)
    told["an heir has the lock"] = heir.lock_table(socket.socket(fileno=400))
    heir.run((AddGrant(KEY, 16, 900),))
    told["while the heir lives"] = survives(heir)

    # Nobody kept the socket: the table stays, and who comes next adopts it.
    forget(heir)
    told["without a keeper it stays"] = is_whole(heir)
    last = Nft()
    told["and is adopted"] = last.lock_table(None)
    last.run((AddGrant(KEY, 16, 900),))
    told["while it was adopted"] = survives(last)
    last.run((DeleteTable(),))
    return told


if __name__ == "__main__":
    main()
