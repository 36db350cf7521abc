"""Whether the daemon refused a name just now, asked over its control socket.

Who asks is the signer, which takes every other word than a plain yes for a no.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

PATIENCE = 0.25
"""Seconds; the explainer waits for the signature meanwhile (`signing.PATIENCE`)."""
LONGEST_ANSWER = 4096


async def was_refused(control: Path, name: str) -> bool:
    """Whether the daemon at the socket says so, and soon. Never raises."""
    question = json.dumps({"command": "refused", "arguments": {"name": name}}) + "\n"
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(control, limit=LONGEST_ANSWER)
            try:
                writer.write(question.encode())
                await writer.drain()
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
        return answer["result"]["refused"] is True
    except (OSError, TimeoutError, ValueError, KeyError, TypeError, RecursionError):
        return False
