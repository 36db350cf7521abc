"""Tells, as JSON, what the kernel makes of the timeout of an element that is added again.

Works in the network namespace that it is started in. Each way is tried with an element that was
added for 300 seconds; told is how many seconds it then has.
"""

from __future__ import annotations

import json
import sys

from ramfw.core.transaction import AddGrant, DeleteGrant, Transaction
from ramfw.program.nft import Nft
from tests.golden.cases import CASES
from tests.lab.kernel_round_trip import grant_keys


def main() -> None:
    case = CASES[0]
    nft = Nft()
    nft.run(case.transaction)
    key = next(grant_keys(case.ruleset))
    first, longer = AddGrant(key, 4, 300), AddGrant(key, 4, 900)
    ways: dict[str, Transaction] = {
        "add": (longer,),
        "add, delete, add": (longer, DeleteGrant(key), longer),
    }
    told = {}
    for name, transaction in ways.items():
        nft.run((first,))
        nft.run(transaction)
        state = nft.read(with_grants=True)
        assert state
        assert state.grants
        told[name] = state.grants[key.map][key.packed].remaining
        nft.run((DeleteGrant(key),))
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
