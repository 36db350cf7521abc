"""One machine for each of Debian's kernels, booted once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.machine import Machine

KERNELS = {"bookworm": "6.1", "trixie": "6.12"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A machine for each process that runs tests: both kernels at a time."""
    for item in items:
        if isinstance(item, pytest.Function) and "machine" in item.callspec.params:
            item.add_marker(pytest.mark.xdist_group(item.callspec.params["machine"]))


@pytest.fixture(scope="session", params=KERNELS, ids=lambda suite: f"Linux {KERNELS[suite]}")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with Machine(request.param) as booted:
        assert booted.release.startswith(f"{KERNELS[request.param]}.")
        yield booted
