"""The protocol between the daemon and its prober: one JSON line each way, on a unix socket.

A question is {"host": a name or an address, "port": ...}, and beside it the descriptor of a TCP
connection to that port. An answer is {"outcome": ..., "evidence": ...}, in the words of
`core.probe` and `core.registry_check` and no others: what strangers write does not get through.
"""

from __future__ import annotations

import json

from ramfw.core.probe import Outcome
from ramfw.core.registry_check import Evidence

LONGEST_LINE = 2048
MAX_PORT = 0xFFFF


def question(host: str, port: int) -> bytes:
    """A question, as a line."""
    return json.dumps({"host": host, "port": port}).encode() + b"\n"


def read_question(line: bytes) -> tuple[str, int]:
    """The host and the port of a question. Raises ValueError."""
    try:
        asked = json.loads(line)
        host, port = asked["host"], asked["port"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not a question") from error
    if not isinstance(host, str) or type(port) is not int or not 0 < port <= MAX_PORT:
        raise ValueError("not a question")
    return host, port


def answer(outcome: Outcome, found: Evidence | None) -> bytes:
    """An answer, as a line."""
    evidence = found.name if found else None
    return json.dumps({"outcome": str(outcome), "evidence": evidence}).encode() + b"\n"


def read_answer(line: bytes) -> tuple[Outcome, Evidence | None]:
    """What came of the question. Raises ValueError."""
    try:
        told = json.loads(line)
        outcome, evidence = Outcome(told["outcome"]), told["evidence"]
        found = None if evidence is None else Evidence[evidence]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not an answer") from error
    if (outcome is Outcome.REGISTRY) != (found is not None) or outcome is Outcome.UNASKED:
        raise ValueError("not an answer")
    return outcome, found
