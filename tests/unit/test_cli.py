"""The command line as people and scripts meet it: what it asks, prints and returns."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ramfw import __version__, doctor, start
from ramfw.cli import main
from ramfw.core.transaction import DeleteTable, Transaction
from ramfw.errors import ControlError, KernelError, MissingError, PolicyError, Problem
from ramfw.prober import PROBER_SOCKET
from ramfw.program import nft
from tests.unit.example_engine import example_status
from tests.unit.fake_daemon import fake_daemon

GOOD = 'version = 1\n[[allow]]\nregistry = "ghcr.io"\n'
BAD = 'version = 1\n[[allow]]\nhots = "ghcr.io"\n[dns]\nservers = []\n'
COMMANDS = (
    "run",
    "status",
    "check",
    "explain",
    "catalog",
    "discover",
    "reload",
    "unload",
    "log",
    "doctor",
)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAMFW_POLICY", "RAMFW_CONTROL", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a daemon's socket would be."""
    return tmp_path / "control.sock"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    file = tmp_path / "good.toml"
    file.write_text(GOOD)
    return file


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    file = tmp_path / "bad.toml"
    file.write_text(BAD)
    return file


def ramfw(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


# -- the whole ---------------------------------------------------------------------------------


def test_the_version() -> None:
    assert ramfw("--version").stdout == f"ramfw {__version__}\n"


def test_help_lists_the_commands_and_the_exit_codes() -> None:
    shown = ramfw("--help").stdout
    assert [
        line.split()[0] for line in shown.splitlines() if line[2:].startswith(COMMANDS)
    ] == list(COMMANDS)
    assert "4 the daemon is not running" in shown
    assert "..." not in shown.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_with_an_example(command: str) -> None:
    result = ramfw(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"ramfw {command}" in result.stdout.partition("Example")[2]
    assert "--policy" in result.stdout
    assert "--control" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"], ["status", "--wait", "soon"], ["status", "--wait", "nan"],
        ["status", "--wait", "-1"], ["explain"], ["explain", "https://ghcr.io"],
        ["check", "a", "b"],
    ],
)  # fmt: skip
def test_bad_usage(arguments: list[str]) -> None:
    result = ramfw(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage:")
    assert "Error:" in result.stderr


# -- which daemon, which policy ----------------------------------------------------------------


def test_the_socket_is_taken_before_and_after_the_command_and_from_the_environment(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_daemon(path, status={"result": example_status()}) as answering:
        monkeypatch.setenv("RAMFW_CONTROL", "/nonexistent")
        assert ramfw("status").exit_code == 4
        assert ramfw("--control", path, "status").exit_code == 0
        assert ramfw("status", "--control", path).exit_code == 0
        assert ramfw("--control", "/nonexistent", "status", "--control", path).exit_code == 0
        monkeypatch.setenv("RAMFW_CONTROL", str(path))
        assert ramfw("status").exit_code == 0
        assert ramfw("status", "--control", "/nonexistent").exit_code == 4
    assert len(answering.asked) == 4


def test_the_policy_is_taken_before_and_after_the_command_and_from_the_environment(
    good: Path, bad: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAMFW_POLICY", str(bad))
    assert ramfw("check").exit_code == 3
    assert ramfw("--policy", good, "check").exit_code == 0
    assert ramfw("check", "--policy", good).exit_code == 0
    assert ramfw("--policy", bad, "check", good).exit_code == 0


def test_run_is_handed_the_policy_and_the_socket_and_its_code_is_returned(
    good: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, Path, Path | None, Path]] = []

    def run(policy: Path, control: Path, state: Path | None, prober: Path) -> int:
        seen.append((policy, control, state, prober))
        return 1

    monkeypatch.setattr(start, "run", run)
    assert ramfw("--policy", good, "run", "--control", path).exit_code == 1
    more = ("--state", "/s", "--prober", "/p")
    assert ramfw("run", "--policy", good, "--control", path, *more).exit_code == 1
    assert seen == [(good, path, None, PROBER_SOCKET), (good, path, Path("/s"), Path("/p"))]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PolicyError((Problem("p.toml", 3, "dns", "is bad"),)), 3),
        (MissingError("no binding: apt-get install python3-nftables"), 5),
        (KernelError(1, "nft transaction"), 1),
        (ControlError("another ramfw runs"), 1),
    ],
)
def test_run_that_cannot_begin_says_why(
    error: Exception, code: int, good: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(_policy: Path, _control: Path, _state: Path | None, _prober: Path) -> int:
        raise error

    monkeypatch.setattr(start, "run", run)
    result = ramfw("run", "--policy", good, "--control", path)
    assert result.exit_code == code
    assert str(error).rpartition(": ")[2] in result.stderr
    assert "Traceback" not in result.stderr


# -- status ------------------------------------------------------------------------------------


def test_status_with_problems_is_still_done(path: Path) -> None:
    facts = example_status()
    with fake_daemon(path, status={"result": facts}):
        result = ramfw("status", "--control", path)
    assert facts["problems"]
    assert result.exit_code == 0
    assert result.stdout.startswith("ramfw enforces the policy of Example Corp\n")
    assert "\x1b" not in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_status_where_no_daemon_runs(path: Path) -> None:
    result = ramfw("status", "--control", path)
    assert result.exit_code == 4
    assert result.stdout == ""
    assert result.stderr.startswith("ramfw: the daemon is not running")


def test_a_socket_that_a_dead_daemon_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    assert ramfw("status", "--control", path).exit_code == 4


def test_a_daemon_that_ends_before_it_has_answered(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def hang_up() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)

        thread = threading.Thread(target=hang_up)
        thread.start()
        result = ramfw("status", "--control", path)
        thread.join()
    assert result.exit_code == 1
    assert "ended before it had answered" in result.stderr


def test_waiting_for_what_is_settled(path: Path) -> None:
    with fake_daemon(path, wait={"result": example_status()}) as answering:
        result = ramfw("status", "--wait", "5", "--control", path)
    assert result.exit_code == 0
    assert 4 < answering.asked[0]["arguments"]["seconds"] <= 5


def test_waiting_in_vain_says_what_is_missing(path: Path) -> None:
    facts = {**example_status(), "settled": False}
    with fake_daemon(path, wait={"result": facts}):
        result = ramfw("status", "--wait", "0", "--json", "--control", path)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == facts
    assert "not settled within 0 s: without an address: gone.corp.example" in result.stderr


def test_waiting_for_a_daemon_that_is_still_starting(path: Path) -> None:
    result: list[Result] = []
    asking = threading.Thread(
        target=lambda: result.append(ramfw("status", "--wait", "30", "--control", path))
    )
    asking.start()
    with fake_daemon(path, wait={"result": example_status()}):
        asking.join()
    assert result[0].exit_code == 0


def test_waiting_for_a_daemon_that_never_starts(path: Path) -> None:
    assert ramfw("status", "--wait", "0.1", "--control", path).exit_code == 4


def test_status_imports_nothing_that_it_does_not_need(path: Path) -> None:
    script = (
        "import sys; from ramfw.cli import main; "
        "main(['status', '--control', sys.argv[1]], standalone_mode=False); "
        "print(*sys.modules, file=sys.stderr)"
    )
    with fake_daemon(path, status={"result": example_status()}):
        done = subprocess.run(
            [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
        )
    assert done.stdout.startswith("ramfw enforces")
    loaded = set(done.stderr.split())
    heavy = {
        "asyncio", "dns", "pyroute2", "nftables", "publicsuffixlist", "tomllib", "idna",
        "asyncinotify", "difflib", "logging", "subprocess", "ramfw.core",
        "ramfw.daemon", "ramfw.policyfile", "ramfw.doctor",
    }  # fmt: skip
    assert "ramfw.control" in loaded
    assert loaded & heavy == set()


@pytest.fixture
def status_on_a_terminal(path: Path) -> Callable[..., str]:
    """What `ramfw status` writes to a terminal, given additional environment."""

    def run(**environment: str) -> str:
        ours, theirs = pty.openpty()
        with fake_daemon(path, status={"result": example_status()}):
            subprocess.run(
                [sys.executable, "-m", "ramfw.cli", "status", "--control", path],
                stdout=theirs,
                check=True,
                env={"PATH": os.environ["PATH"], "TERM": "xterm", **environment},
            )
        path.unlink()
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 65536):
                written += part
        except OSError:
            pass  # EIO: the other end is closed and everything is read
        os.close(ours)
        return written.decode()

    return run


def test_a_terminal_gets_colour_and_its_own_width(
    status_on_a_terminal: Callable[..., str],
) -> None:
    shown = status_on_a_terminal(COLUMNS="160")
    assert "\x1b[" in shown
    assert "2001:db8::1" in shown


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_without_colour_gets_none(
    status_on_a_terminal: Callable[..., str], environment: dict[str, str]
) -> None:
    assert "\x1b" not in status_on_a_terminal(**environment)


# -- check -------------------------------------------------------------------------------------


def test_check_of_a_good_policy_prints_a_summary_and_warnings(good: Path) -> None:
    result = ramfw("check", good)
    assert result.exit_code == 0
    assert "policy is good" in result.stdout
    assert "1 entry, 2 hosts" in result.stdout
    assert f"{good}:3: warning: allow[0].registry:" in result.stderr


def test_check_prints_every_problem_at_once(bad: Path) -> None:
    result = ramfw("check", bad)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert f"{bad}:3: error:" in result.stderr
    assert f"{bad}:5: error: dns.servers:" in result.stderr


def test_check_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = ramfw("check", tmp_path / "absent.toml")
    assert result.exit_code == 3
    assert "no such file" in result.stderr


# -- explain -----------------------------------------------------------------------------------


def test_explain_without_a_daemon_uses_the_policy_and_says_so(good: Path, path: Path) -> None:
    result = ramfw("--policy", good, "explain", "ghcr.io/org/image:1", "--control", path)
    assert result.exit_code == 0
    assert result.stdout.startswith("ghcr.io/org/image:1 is permitted")
    assert "The daemon is not running" in result.stdout


def test_explain_asks_the_daemon(path: Path) -> None:
    facts = {
        "query": "alpine", "kind": "image", "registry": "docker.io", "repository": "library/alpine",
        "permitted": False, "hosts": [], "hint": "", "notes": ["a note"], "daemon_running": True,
        "refused": [],
    }  # fmt: skip
    with fake_daemon(path, explain={"result": facts}) as answering:
        result = ramfw("explain", "alpine", "--control", path)
    assert answering.asked == [{"command": "explain", "arguments": {"query": "alpine"}}]
    assert "alpine is not permitted" in result.stdout
    assert "a note" in result.stdout


def test_explain_without_a_daemon_and_with_a_bad_policy(bad: Path, path: Path) -> None:
    assert ramfw("--policy", bad, "explain", "alpine", "--control", path).exit_code == 3


# -- reload and unload -------------------------------------------------------------------------


def test_reload(path: Path) -> None:
    with fake_daemon(
        path, reload={"result": {"in_force": True, "warnings": ["p:1: doubtful\n    mend"]}}
    ):
        result = ramfw("reload", "--control", path)
    assert result.exit_code == 0
    assert "in force" in result.stdout
    assert result.stderr == "p:1: doubtful\n    mend\n"


def test_reload_that_the_kernel_does_not_hold_yet(path: Path) -> None:
    with fake_daemon(path, reload={"result": {"in_force": False, "warnings": []}}):
        result = ramfw("reload", "--control", path)
    assert result.exit_code == 1
    assert "ramfw status" in result.stderr


def test_reload_of_a_bad_policy(path: Path) -> None:
    problem = {"source": "p", "line": 7, "key": "dns", "message": "is bad", "hint": "mend it"}
    with fake_daemon(path, reload={"error": "p:7: dns: is bad", "problems": [problem]}):
        result = ramfw("reload", "--control", path)
    assert result.exit_code == 3
    assert result.stderr == "p:7: error: dns: is bad\n    mend it\n"


def test_reload_by_somebody_who_is_not_root(path: Path) -> None:
    with fake_daemon(path, reload={"error": "only root may reload: sudo ramfw reload"}):
        result = ramfw("reload", "--control", path)
    assert result.exit_code == 1
    assert result.stderr == "ramfw: only root may reload: sudo ramfw reload\n"


def test_reload_where_no_daemon_runs(path: Path) -> None:
    assert ramfw("reload", "--control", path).exit_code == 4


def test_unload_by_the_daemon(path: Path) -> None:
    with fake_daemon(path, unload={"result": {"unloaded": True}}) as answering:
        result = ramfw("unload", "--control", path)
    assert result.exit_code == 0
    assert [question["command"] for question in answering.asked] == ["unload"]
    assert "Nothing is enforced now" in result.stdout


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> list[Transaction | KernelError]:
    """Stands for the kernel where no daemon runs: an error to raise, then what was committed."""
    record: list[Transaction | KernelError] = []

    class Nft:
        def run(self, transaction: Transaction) -> None:
            if record and isinstance(record[0], KernelError):
                raise record[0]
            record.append(transaction)

    monkeypatch.setattr(nft, "Nft", Nft)
    return record


def test_unload_of_what_a_dead_daemon_left(
    path: Path, kernel: list[Transaction | KernelError]
) -> None:
    result = ramfw("unload", "--control", path)
    assert result.exit_code == 0
    assert kernel == [(DeleteTable(),)]
    assert "are out of the kernel now" in result.stdout


@pytest.mark.parametrize(
    ("detail", "code", "words"),
    [
        ("Error: No such file or directory", 0, "Nothing is loaded"),
        ("Error: Operation not permitted (you must be root)", 1, "sudo ramfw unload"),
        ("Error: Device or resource busy", 1, "resource busy"),
    ],
)
def test_unload_that_the_kernel_refuses(
    path: Path, kernel: list[Transaction | KernelError], detail: str, code: int, words: str
) -> None:
    kernel.append(KernelError(0, "nft transaction", detail))
    result = ramfw("unload", "--control", path)
    assert result.exit_code == code
    assert words in result.output


# -- doctor ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("missing", 5)])
def test_doctor_fails_only_where_something_is_missing(
    state: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    finding = doctor.Finding("a fact", state, "what follows", "what mends it")
    monkeypatch.setattr(doctor, "examine", lambda _policy: (finding,))
    result = ramfw("doctor")
    assert result.exit_code == code
    assert "so: what follows" in result.stdout
    assert "do: what mends it" in result.stdout
