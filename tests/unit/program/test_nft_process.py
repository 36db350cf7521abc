"""nft as a process: options, output and errors, as the binding gives them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ramfw.errors import KernelError
from ramfw.program import nft_process
from ramfw.program.nft_process import NftProcess, find_nft


@pytest.fixture
def program(tmp_path: Path) -> str:
    """Tells its options and what it reads, and fails when it reads of failing."""
    path = tmp_path / "nft"
    failing = "case $text in *fail*) echo no >&2; exit 1;; esac"
    path.write_text(f'#!/bin/sh\ntext=$(cat)\necho "$@: $text"\n{failing}\n')
    path.chmod(0o755)
    return str(path)


def test_a_command_has_its_options_and_its_output(program: str) -> None:
    nft = NftProcess(program)
    nft.set_stateless_output(True)
    nft.set_numeric_prio_output(True)
    nft.set_terse_output(True)
    assert nft.cmd("list table inet ramfw") == (0, "-s -t -y -f -: list table inet ramfw\n", "")
    nft.set_terse_output(False)
    assert nft.cmd("list")[1] == "-s -y -f -: list\n"


def test_an_error_is_told_in_nft_s_words(program: str) -> None:
    code, _, error = NftProcess(program).cmd("fail")
    assert (code, error) == (1, "no\n")


def test_a_command_for_json_is_not_taken_for_json(program: str) -> None:
    nft = NftProcess(program)
    nft.set_json_output(True)
    assert nft.cmd("list counters")[1] == "-j -- list counters: \n"


def test_a_program_that_cannot_be_started_or_does_not_end_is_an_error(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, error = NftProcess(f"{program}-not").cmd("list")
    assert code != 0
    assert "No such file" in error
    monkeypatch.setattr(nft_process, "PATIENCE", 0.05)
    Path(program).write_text("#!/bin/sh\nexec sleep 5\n")
    code, _, error = NftProcess(program).cmd("list")
    assert code != 0
    assert "timed out" in error


def test_it_is_found_where_the_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nft_process, "WHERE", "/nowhere")
    assert find_nft() is None


def test_the_port_is_told_before_a_process_can_change_anything(program: str) -> None:
    told: list[frozenset[int]] = []
    Path(program).write_text("#!/bin/sh\ncat > /dev/null\necho $$\n")
    nft = NftProcess(program)
    nft.tell = told.append
    code, output, _ = nft.cmd("add table inet ramfw")
    assert code == 0
    assert told == [{int(output)}, frozenset()]


def test_it_is_told_no_longer_once_a_process_is_killed(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[frozenset[int]] = []
    monkeypatch.setattr(nft_process, "PATIENCE", 0.05)
    Path(program).write_text("#!/bin/sh\nexec sleep 5\n")
    nft = NftProcess(program)
    nft.tell = told.append
    nft.cmd("add table inet ramfw")
    assert len(told) == 2
    assert told[-1] == frozenset()


def test_lines_come_as_they_are_printed_and_an_error_after_them(program: str) -> None:
    Path(program).write_text(
        '#!/bin/sh\necho "$@"\necho two\n[ "$3" != fail ] || { echo no >&2; exit 1; }\n'
    )
    nft = NftProcess(program)
    nft.set_terse_output(True)
    assert list(nft.lines("list")) == ["-t -- list\n", "two\n"]
    lines = nft.lines("fail")
    assert [next(lines), next(lines)] == ["-t -- fail\n", "two\n"]
    with pytest.raises(KernelError, match="no"):
        next(lines)
    with pytest.raises(KernelError, match="No such file"):
        list(NftProcess(f"{program}-not").lines("list"))


def test_a_listing_that_does_not_end_is_an_error(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nft_process, "PATIENCE", 0.05)
    Path(program).write_text("#!/bin/sh\nexec sleep 5\n")
    with pytest.raises(KernelError, match="did not end in time"):
        list(NftProcess(program).lines("list"))
