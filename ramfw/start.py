"""Starts the daemon: its log, its watchdog, and the policy that it begins with."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from ramfw import journal, memory, policyfile
from ramfw.core.policy import Policy
from ramfw.errors import PolicyError
from ramfw.loop import Loop
from ramfw.prober import PROBER_SOCKET
from ramfw.program.ahead import Ahead
from ramfw.state import State
from ramfw.watchdog import Watchdog

log = logging.getLogger("ramfw")


def run(
    policy: Path, control: Path, directory: Path | None = None, prober: Path = PROBER_SOCKET
) -> int:
    """Enforce the policy in this network namespace until SIGTERM or `unload`.

    In the directory the last good rules and policy are kept; where the policy file is bad at the
    start, the last good one is in force. The rules stay when it ends by a signal. Raises
    PolicyError, MissingError or ControlError where it cannot start; nothing in the kernel has
    changed then.
    """
    memory.bound()
    _log_to_stderr()
    watchdog = Watchdog()
    ahead = Ahead()
    from ramfw.daemon import Daemon  # noqa: PLC0415 - while the kernel answers

    state = State(directory) if directory else None
    loaded = _policy_at_start(policy, state)
    daemon = Daemon(policy, control, watchdog.beat, ahead, state, prober)
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(daemon.run(*loaded))
    return 0


def _policy_at_start(path: Path, state: State | None) -> tuple[Policy, str, tuple[str, ...]]:
    """The policy, its text, and what is wrong with the file where it is the last good one's."""
    try:
        policy, warnings, text = policyfile.read_text(path)
    except PolicyError as error:
        kept = state.last_policy() if state else None
        if kept is None:
            raise
        with contextlib.suppress(PolicyError):
            policy = policyfile.again(kept, str(path))
            return policy, kept, tuple(str(problem) for problem in error.problems)
        raise
    for warning in warnings:
        log.warning("%s", warning)
    return policy, text, ()


def _log_to_stderr() -> None:
    log.handlers[:] = [journal.Handler()]
    log.setLevel(logging.INFO)
    log.propagate = False
