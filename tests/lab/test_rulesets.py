"""Every golden ruleset in a real kernel: loaded, read back as the same values, changed in place."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.golden.cases import CASES
from tests.lab.space import OUR_NETWORK


def in_a_network_of_its_own(*argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program where rules harm nobody."""
    assert OUR_NETWORK
    return subprocess.run(
        ["unshare", "--net", *argv], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("program", ["kernel_round_trip", "kernel_many_names"])
def test_rulesets_load_read_back_and_replace_each_other(program: str) -> None:
    assert len(CASES) >= 5
    done = in_a_network_of_its_own(sys.executable, "-m", f"tests.lab.{program}")
    # libxtables grumbles about each listing of an xt target in an inet table.
    said = [line for line in done.stderr.splitlines() if not line.startswith("libxtables: ")]
    assert (done.returncode, done.stdout, said) == (0, "", [])


def test_golden_files_load_as_they_stand() -> None:
    for case in CASES:
        done = in_a_network_of_its_own("nft", "-f", str(case.golden))
        assert (done.returncode, done.stderr) == (0, ""), case.name
