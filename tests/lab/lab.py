"""One whole lab: the internet, and a host that is linked to it and to nothing else."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.materials import Materials
from tests.lab.space import Space


class Lab:
    """A context: everything in it has gone at its end, whatever happened."""

    def __init__(self, materials: Materials) -> None:
        self._materials = materials

    def __enter__(self) -> Self:
        self.space = Space()
        try:
            outside = self.space.first
            inside = self.space.namespace()
            self.space.link(outside, inside)
            self.internet = Internet(outside, self._materials)
            self.host = Host(inside, self._materials)
            self.host.connect()
            self.internet.connect()
            self.internet.start()
        except BaseException:
            self.space.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.space.close()
