"""What ramfw does on Debian's own kernels, which have nft's native `queue`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.kernel.first_bytes import ALERT, FORBIDDEN
from tests.kernel.first_connection import ROUNDS
from tests.kernel.machine import Machine

PYTHON = ("unshare", "--net", "python3", "-m")


def told(machine: Machine, program: str) -> Any:  # noqa: ANN401 - JSON
    done = machine.run(*PYTHON, program, timeout=150)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return json.loads(done.stdout)


# libxtables complains on stderr, at each listing, of families that are not its own.
@pytest.mark.parametrize("program", ["kernel_round_trip", "kernel_queue"])
@pytest.mark.timeout(240)
def test_the_lab_s_kernel_stories_hold_in_either_form(machine: Machine, program: str) -> None:
    done = machine.run(*PYTHON, f"tests.lab.{program}", "native", "xt", timeout=200)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_only_deleting_between_renews_a_timeout_on_every_kernel(machine: Machine) -> None:
    seconds = told(machine, "tests.kernel.timeouts")
    # From 6.12 on, adding again renews as well: both are true there.
    renewed_by_adding = not machine.release.startswith("6.1.")
    assert (seconds["add"] > 300) == renewed_by_adding
    assert 890 < seconds["add, delete, add"] <= 900


@pytest.mark.timeout(240)
def test_daemon_holds_answers_natively_and_first_connections_work(machine: Machine) -> None:
    """A wildcard, so nobody resolves ahead: what opens an address is the client's own answer."""
    story = told(machine, "tests.kernel.first_connection")
    assert story["watch"]["form"] == "native"
    assert story["met"] == {
        "nothing": {"ConnectionRefusedError": 2},
        "other": {"ConnectionRefusedError": 2},
        "cdn": {"connected": 2 * (ROUNDS - 1)},
    }
    assert story["watch"]["answers_learned"] == 2 * (ROUNDS - 1)
    assert (story["kernel"]["rejections"], story["kernel"]["mismatches"]) == (0, 0)


@pytest.mark.timeout(240)
def test_first_bytes_are_judged_natively(machine: Machine) -> None:
    story = told(machine, "tests.kernel.first_bytes")
    taken, denied, forbidden = ["taken"] * 2, [ALERT] * 2, [FORBIDDEN] * 2
    refused, waits = ["ConnectionRefusedError"] * 2, ["TimeoutError"] * 2
    assert story == {
        "form": "native",
        "checked": True,
        "judged": {
            "engine": {
                "permitted": taken,
                "permitted, in ten segments": taken,
                "another": denied,
                "another, in ten segments": denied,
                "a known registry": denied,
                # No address that is permitted has this port: refused before anything is said.
                "a site's page": refused,
                "the API of registries": refused,
            },
            "container": {
                "permitted": taken,
                "permitted, in ten segments": taken,
                "another": taken,
                "another, in ten segments": taken,
                "a known registry": denied,
                "a site's page": taken,
                "the API of registries": forbidden,
            },
        },
        # Strict waits for a daemon; in mode registries other people's traffic comes first.
        "no daemon": {
            "engine": {"permitted": waits, "another": waits},
            "container": {"permitted": taken, "another": taken},
        },
    }


@pytest.mark.timeout(240)
def test_a_stopped_daemon_holds_up_permitted_names_and_no_other(machine: Machine) -> None:
    story = told(machine, "tests.kernel.told_apart")
    others, permitted = ("1.other.example", "2.CDM.example"), ("3.cdn.example", "4.cDn.eXaMpLe")
    assert story.pop("kernel")["mismatches"] == 0
    assert story == {
        "while it is stopped": dict.fromkeys(others, True) | dict.fromkeys(permitted, False),
        "queued": len(permitted),
        "again": dict.fromkeys((*others, *permitted), True),
        "form": "native",
        "held": "permitted",
        "late": 0,
    }


@pytest.mark.timeout(240)
def test_a_locked_table_is_nobody_else_s_also_while_no_daemon_lives(machine: Machine) -> None:
    story = told(machine, "tests.kernel.lock")
    if machine.release.startswith("6.1."):
        assert story == {"problem": "a table can be locked from Linux 6.9 and nftables 1.1.0 on"}
        return
    untouched = {
        "flush ruleset": "",  # done, and passed over
        "delete table inet ramfw": "Operation not permitted",
        "flush chain inet ramfw guard_output": "Operation not permitted",
        "insert rule inet ramfw guard_output accept": "Operation not permitted",
        "add table inet ramfw { flags dormant; }": "Operation not permitted",
        "whole": True,
    }
    assert story == {
        "problem": "",
        "a plain table is not as meant": ["no lock"],
        "while the owner lives": untouched,
        "batches share the lock": True,
        "it goes on after a new socket": True,
        "while no daemon lives": untouched,
        "an heir has the lock": "",
        "while the heir lives": untouched,
        "without a keeper it stays": True,
        "and is adopted": "",
        "while it was adopted": untouched,
    }
