"""The protocol between the explainer and its signer: one JSON line each way, on a unix socket.

A question is {"name": ..., "key": base64 of a DER public key}; an answer is {"chain": PEM} or
{"error": ...}.
"""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

LONGEST_LINE = 64 * 1024
"""Bytes; a chain of some certificates has a tenth of it."""
PATIENCE = 0.4
"""Seconds that the explainer waits for a signature: a person waits meanwhile."""


def question(name: str, public_key: bytes) -> bytes:
    """A question, as a line."""
    return json.dumps({"name": name, "key": base64.b64encode(public_key).decode()}).encode() + b"\n"


def read_question(line: bytes) -> tuple[str, bytes]:
    """The name and the public key of a question. Raises ValueError."""
    try:
        asked = json.loads(line)
        name, key = asked["name"], base64.b64decode(asked["key"], validate=True)
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not a question") from error
    if not isinstance(name, str):
        raise ValueError("not a question")  # noqa: TRY004 - whatever is wrong with it
    return name, key


async def signed_chain(path: Path, name: str, public_key: bytes) -> bytes | None:
    """The signer's chain in PEM for a name; None where there is no signer, or it does not sign.

    Raises TimeoutError where it does not answer in time, as while it is being started.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
            try:
                writer.write(question(name, public_key))
                await writer.drain()
                answer = json.loads(await reader.readline())
            finally:
                writer.close()
        return str(answer["chain"]).encode()
    except TimeoutError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
