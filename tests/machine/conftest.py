"""Machines for tests: one rack for each Debian."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import materials as lab_materials
from tests.lab import policies
from tests.lab.materials import Materials
from tests.machine import installation
from tests.machine.machine import Machine
from tests.machine.rack import Rack

LONGEST = 300
"""Seconds for a test, with what is made for it; ten on a machine that has nothing else to do."""
DEBIANS = {"bookworm": "Debian 12", "trixie": "Debian 13"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--debian", choices=DEBIANS, help="machines of this Debian only")


def pytest_configure() -> None:
    # How a machine goes down is told by a signal that ends its first process, and then those that
    # wait for it: not where a shell has us run in the background, and so with signals ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # Known where the tests of this directory are asked for by its name.
    only = config.getoption("--debian", None)
    if only is not None:
        others = [item for item in items if DEBIANS[only] not in item.name]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if DEBIANS[only] in item.name]
    for item in items:
        if Path(__file__).parent not in item.path.parents:
            continue
        if os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="machines are made by root: run as root"))
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONGEST))


@pytest.fixture(scope="session")
def materials() -> Iterator[Materials]:
    with lab_materials.temporary() as directory:
        yield lab_materials.make(Path(directory))


@pytest.fixture(scope="session", params=DEBIANS, ids=lambda suite: DEBIANS[suite])
def rack(request: pytest.FixtureRequest, materials: Materials) -> Iterator[Rack]:
    with Rack(request.param, materials) as made:
        yield made


@pytest.fixture(scope="session")
def layers(rack: Rack) -> list[Path]:
    """What a disk is made of that has ramfw installed, and a policy that permits Docker Hub."""
    disk = rack.disk()
    with Machine(rack, disk) as machine:
        machine.boot()
        installation.provision(machine)
        machine.write(installation.POLICY, policies.HUB_ONLY)
        machine.systemctl("reload", "ramfw.service")
        machine.shut_down()
    return [disk.changes, *disk.layers]


@pytest.fixture
def machine(rack: Rack, layers: list[Path]) -> Iterator[Machine]:
    """A machine of the test's own that has ramfw; it is off."""
    disk = rack.disk(layers)
    with Machine(rack, disk) as made:
        rack.internet.reset_counts()
        yield made
    disk.remove()


@pytest.fixture(scope="module")
def module_machine(rack: Rack, layers: list[Path]) -> Iterator[Machine]:
    """One machine for all tests of a module: it runs, so no other one can."""
    disk = rack.disk(layers)
    with Machine(rack, disk) as made:
        made.boot()
        yield made
    disk.remove()


@pytest.fixture
def running(module_machine: Machine) -> Iterator[Machine]:
    """The module's machine, with the policy in force and nothing counted yet."""
    module_machine.rack.internet.reset_counts()
    yield module_machine
    module_machine.write(installation.POLICY, policies.HUB_ONLY)
    module_machine.systemctl("restart", "ramfw.service")


@pytest.fixture
def bare(rack: Rack) -> Iterator[Machine]:
    """A machine that is off, as Debian comes: without ramfw."""
    disk = rack.disk()
    with Machine(rack, disk) as machine:
        yield machine
    disk.remove()
