"""How the audit goes through the maps: in pieces, with pauses, and on after an error."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self, cast

import pytest

from ramfw import auditor
from ramfw.core.audit import Audit
from ramfw.core.engine import Engine
from ramfw.core.events import ElementsSeen, Event, MapAudited
from ramfw.core.tablestate import HeldGrant
from ramfw.errors import KernelError

ELEMENT = (b"\xc0\0\2\1" + bytes((6, 0, 0, 0, 1, 187, 0, 0)), HeldGrant(16, 60.0))


class Maps:
    """The kernel's maps: the first has two pieces, the second cannot be read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def pieces(self, name: str) -> Iterator[list[tuple[bytes, HeldGrant]]]:
        if name == "gone4":
            raise KernelError(2, "nft elements")
        yield [ELEMENT]
        yield [ELEMENT, ELEMENT]


@dataclass
class Stub:
    audit: Audit = field(default_factory=Audit)

    @staticmethod
    def maps_of_grants() -> tuple[str, ...]:
        return ("permitted4", "gone4", "permitted6")


def test_pieces_are_told_as_they_come_and_an_error_ends_only_its_map(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(auditor, "Batches", Maps)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 6:
            raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    told: list[Event] = []
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(auditor.audit(cast("Engine", Stub()), told.append))
    passes = [
        event
        for name in ("permitted4", "permitted6")
        for event in (
            ElementsSeen(name, (ELEMENT,)),
            ElementsSeen(name, (ELEMENT, ELEMENT)),
            MapAudited(name),
        )
    ]
    assert told == passes
    assert slept == [auditor.EVERY, *[auditor.BETWEEN] * 4, auditor.EVERY]
