"""Labs for tests: one for each module, as it was at the start of each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import materials as lab_materials
from tests.lab.addresses import DNS
from tests.lab.host import Host
from tests.lab.internet import Internet
from tests.lab.lab import Lab
from tests.lab.materials import Materials


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() != 0:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="the lab makes namespaces: run as root"))


@pytest.fixture(scope="session")
def materials() -> Iterator[Materials]:
    with lab_materials.temporary() as directory:
        yield lab_materials.make(Path(directory))


@pytest.fixture(scope="module")
def module_lab(materials: Materials) -> Iterator[Lab]:
    with Lab(materials) as lab:
        lab.host.start_engine()
        lab.host.load_tools()
        yield lab


@pytest.fixture
def lab(module_lab: Lab) -> Iterator[Lab]:
    """A lab with a running engine that has the tools' image, and no filter yet."""
    yield module_lab
    host = module_lab.host
    host.forget_ramfw()
    host.remove_containers()
    host.set_hosts({})
    host.set_servers(*DNS.addresses)
    module_lab.internet.unlimit_downloads()
    module_lab.internet.reset_counts()


@pytest.fixture
def fresh_lab(materials: Materials) -> Iterator[Lab]:
    """A lab of the test's own, with nothing started on its host."""
    with Lab(materials) as lab:
        yield lab


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab.host


@pytest.fixture
def internet(lab: Lab) -> Internet:
    return lab.internet
