"""What is packed by hand means to a real kernel what it should: elements, rules, verdicts."""

from __future__ import annotations

import sys

from tests.lab.test_rulesets import in_a_network_of_its_own


def test_answers_are_held_until_their_address_is_permitted() -> None:
    done = in_a_network_of_its_own(sys.executable, "-m", "tests.lab.kernel_queue")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
