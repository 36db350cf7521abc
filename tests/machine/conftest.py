"""Machines for tests: one rack for each Debian."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import materials as lab_materials
from tests.lab.materials import Materials
from tests.machine.machine import Machine
from tests.machine.rack import Rack

DEBIANS = {"bookworm": "Debian 12", "trixie": "Debian 13"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="machines are made by root: run as root"))


@pytest.fixture(scope="session")
def materials() -> Iterator[Materials]:
    with lab_materials.temporary() as directory:
        yield lab_materials.make(Path(directory))


@pytest.fixture(scope="session", params=DEBIANS, ids=lambda suite: DEBIANS[suite])
def rack(request: pytest.FixtureRequest, materials: Materials) -> Iterator[Rack]:
    with Rack(request.param, materials) as made:
        yield made


@pytest.fixture
def bare(rack: Rack) -> Iterator[Machine]:
    """A machine that is off, as Debian comes: without ramfw."""
    disk = rack.disk()
    with Machine(rack, disk) as machine:
        yield machine
    disk.remove()
