"""Rules for a machine that has none, before the daemon runs: `ramfw boot`.

The boot unit loads what the daemon kept with nft alone; this is for where there is nothing kept,
or the kernel does not take it.
"""

from __future__ import annotations

from pathlib import Path

from ramfw import policyfile
from ramfw.core.boot import boot_rules
from ramfw.core.catalog import shipped
from ramfw.core.policy import Policy
from ramfw.core.policy_parser import parse
from ramfw.errors import PolicyError
from ramfw.program.nft import Nft
from ramfw.state import State


def load(policy_path: Path, state: State, nft_prefix: str) -> str:
    """Put the policy's scopes in force, with nothing permitted; a sentence on whose they are.

    `nft_prefix` goes before a cgroup's path. A table that is there is left alone. Raises
    KernelError or MissingError.
    """
    nft = Nft()
    if nft.read(with_grants=False) is not None:
        return "the rules are in the kernel already"
    policy, whose = _policy(policy_path, state)
    nft.run(boot_rules(policy, nft_prefix=nft_prefix, by_cgroup=nft.matches_cgroups()))
    return f"rules that permit nothing are in force, with the scopes of {whose}"


def _policy(path: Path, state: State) -> tuple[Policy, str]:
    """The policy whose scopes count: the file's, else the last good one's, else the defaults."""
    try:
        return policyfile.read(path)[0], str(path)
    except PolicyError:
        pass
    kept = state.last_policy()
    if kept is not None:
        try:
            return policyfile.again(kept, str(path)), "the last good policy"
        except PolicyError:
            pass
    return parse("version = 1", "", shipped())[0], "the default policy"
