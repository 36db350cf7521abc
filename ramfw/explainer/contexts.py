"""The certificate for each host that is asked for: the signer's, or else one that is the message.

Kept for a while, and only so many: whoever asks for names without end pushes out the oldest.
"""

from __future__ import annotations

import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import NamedTuple

from ramfw.explainer.certificates import SIGNED_LIFE, Identity
from ramfw.explainer.signing import signed_chain

MOST_KEPT = 128
KEPT_FOR = SIGNED_LIFE.total_seconds() / 2
"""Seconds; a signed certificate is then far from its end."""
SELF_MADE_KEPT_FOR = 30.0
"""Seconds, so that a signer that comes back is asked again."""
UNANSWERED_KEPT_FOR = 2.0
"""Seconds after a question that was not answered in time: a signer is started when it is asked."""


class _Kept(NamedTuple):
    context: ssl.SSLContext
    until: float


class Contexts:
    """TLS contexts by host and message."""

    def __init__(self, signer: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._signer = signer
        self._clock = clock
        self._identity = Identity()
        self._kept: OrderedDict[tuple[str, str, bool], _Kept] = OrderedDict()

    async def get(self, host: str, message: str, *, may_be_signed: bool) -> ssl.SSLContext:
        """The context to answer a hello with, for a canonical name or for an address."""
        key = (host, message, may_be_signed)
        now = self._clock()
        kept = self._kept.get(key)
        if kept is not None and now < kept.until:
            self._kept.move_to_end(key)
            return kept.context
        chain, without_one = None, SELF_MADE_KEPT_FOR
        if may_be_signed:
            try:
                chain = await signed_chain(self._signer, host, self._identity.public_key)
            except TimeoutError:
                without_one = UNANSWERED_KEPT_FOR
        context = self._signed(chain)
        until = now + KEPT_FOR
        if context is None:
            context = self._identity.context(self._self_made(host, message))
            until = now + without_one
        self._kept[key] = _Kept(context, until)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return context

    def _self_made(self, host: str, message: str) -> bytes:
        try:
            address = ip_address(host)
        except ValueError:
            return self._identity.self_made(message)
        return self._identity.self_made_for_address(message, address)

    def _signed(self, chain: bytes | None) -> ssl.SSLContext | None:
        try:
            return self._identity.context(chain) if chain else None
        except ssl.SSLError:
            return None
