"""The signer: holds the organization's key, and signs for refused names only.

Whoever asks is taken for an enemy: an explainer that was taken over asks here too. So the signer
reads the policy itself, and signs for those names only that a scope of it refuses, for an hour, and
not too often. In a strict scope that is every name that no entry permits, whoever it belongs to: so
for one that is no registry's the daemon must have refused a connection just now.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ramfw.core.fqdn import canonical
from ramfw.core.policy import Mode, Policy
from ramfw.core.policy_names import entry_for, is_refused
from ramfw.errors import MissingError
from ramfw.explainer.certificates import Authority
from ramfw.explainer.lately import was_refused
from ramfw.explainer.policy_cache import PolicyCache
from ramfw.explainer.signing import read_question

log = logging.getLogger("ramfw")

MOST_AT_ONCE = 16
PATIENCE = 2.0
"""Seconds that a connection may take."""
PER_SECOND = 20.0
BURST = 60.0
"""Signatures; the explainer keeps what it got, so that people never come near it."""


def refusal(policy: Policy | None, name: str, is_registry: Callable[[str], bool]) -> str | None:
    """Why a name must not be signed for; None where it may."""
    if policy is None:
        return "the policy cannot be used"
    try:
        is_canonical = canonical(name) == name
    except ValueError:
        is_canonical = False
    if not is_canonical:
        return "not a name in its canonical form"
    if policy.mode is Mode.AUDIT:
        return "nothing is refused in audit mode"
    if entry_for(policy, name) is not None:
        return "the policy permits this name"
    if not is_refused(policy, name, is_registry=is_registry(name)):
        return "no scope refuses this name: it is no registry's"
    return None


class Signer:
    """Answers questions on one listening socket."""

    def __init__(self, policy: Path, control: Path) -> None:
        """`control` is the daemon's socket.

        Raises MissingError where there is no authority, or its key cannot be used.
        """
        self._policies = PolicyCache(policy)
        self._control = control
        current = self._policies.current
        if current is None:
            raise MissingError(f"the policy {policy} cannot be used: ramfw check {policy}")
        files = current.explainer
        if not files.ca:
            raise MissingError("the policy names no authority: [explainer] ca and key")
        try:
            self._authority = Authority(Path(files.ca), Path(files.key))
        except (OSError, ValueError) as error:
            raise MissingError(f"the authority cannot be used: {error}") from error
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)
        self._left, self._since = BURST, time.monotonic()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's one question."""
        expected = (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        try:
            async with self._slots, asyncio.timeout(PATIENCE):
                answer = await self.answer(await reader.readuntil(b"\n"))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except expected:
            pass
        finally:
            writer.close()

    async def answer(self, line: bytes) -> dict[str, str]:
        """The answer to a question."""
        try:
            name, public_key = read_question(line)
        except ValueError as error:
            return {"error": str(error)}
        why = self._refusal(name)
        if why is None and not self._policies.is_registry(name):
            why = await self._not_refused_lately(name)
        if why is not None:
            log.warning("not signed for %s: %s", ascii(name)[:260], why)
            return {"error": why}
        if not self._may_sign():
            return {"error": "too many signatures are asked for"}
        try:
            chain = self._authority.sign(name, public_key, datetime.now(UTC))
        except ValueError as error:
            return {"error": str(error)}
        log.info("signed for %s", name)
        return {"chain": chain.decode()}

    def _refusal(self, name: str) -> str | None:
        return refusal(self._policies.current, name, self._policies.is_registry)

    async def _not_refused_lately(self, name: str) -> str | None:
        if await was_refused(self._control, name):
            return None
        return "it is no registry's, and the daemon has refused no connection to it just now"

    def _may_sign(self) -> bool:
        now = time.monotonic()
        self._left = min(BURST, self._left + (now - self._since) * PER_SECOND)
        self._since = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
