"""Doctor tells whether the prober can be asked, and what rights it has."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from ramfw.doctor import prober
from ramfw.doctor.finding import OK, Finding
from ramfw.prober import PROBER_SOCKET
from tests.unit.core.policies import policy

ASKS = '[scopes.containers]\nunknown = "probe"\n'
COMMAND = b"/usr/bin/python3\0/usr/bin/ramfw\0prober\0"
HERE, ELSEWHERE = "net:[1]", "net:[2]"


def examined(root: Path, body: str = ASKS, error: OSError | None = None) -> list[Finding]:
    def reach(path: Path) -> None:
        assert path == root / PROBER_SOCKET.relative_to("/")
        if error is not None:
            raise error

    return list(prober.findings(root, policy(body), reach))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine as files, whose prober is as its service has it."""
    runs(tmp_path, "7", COMMAND)
    runs(tmp_path, "self", b"ramfw\0doctor\0", net=HERE)
    return tmp_path


def runs(  # noqa: PLR0913 - what a process has
    root: Path, pid: str, command: bytes, *, uid: int = 990, rights: int = 0, net: str = ELSEWHERE
) -> None:
    process = root / "proc" / pid
    (process / "ns").mkdir(parents=True, exist_ok=True)
    (process / "cmdline").write_bytes(command)
    four = "\t".join([str(uid)] * 4)
    (process / "status").write_text(f"Name:\tramfw\nUid:\t{four}\nCapEff:\t{rights:016x}\n")
    (process / "ns/net").unlink(missing_ok=True)
    (process / "ns/net").symlink_to(net)


def test_where_nobody_is_to_be_asked_there_is_nothing_to_say(root: Path) -> None:
    assert examined(root, "", FileNotFoundError()) == []


def test_a_prober_as_its_service_has_it_is_well(root: Path) -> None:
    (found,) = examined(root)
    assert (found.state, found.fact) == (
        OK,
        "the prober can be asked whether an unknown host is a registry",
    )


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file"), ConnectionRefusedError(111, "No")]
)
def test_one_that_cannot_be_asked_is_told_with_what_follows(root: Path, error: OSError) -> None:
    (found,) = examined(root, error=error)
    assert found.fact.startswith("the prober cannot be asked: /run/ramfw-prober.sock: ")
    assert "passes as any web site" in found.follows
    assert found.mend.startswith("systemctl enable --now ramfw-prober.socket")


def test_who_may_not_ask_is_told_to_be_root(root: Path) -> None:
    (found,) = examined(root, error=PermissionError())
    assert found.mend == "sudo ramfw doctor"


@pytest.mark.parametrize(("uid", "rights"), [(0, 0), (990, 1 << 12)])
def test_rights_that_it_should_not_have_are_told(root: Path, uid: int, rights: int) -> None:
    runs(root, "7", COMMAND, uid=uid, rights=rights)
    assert examined(root)[1].fact == "the prober (pid 7) has rights of root"


def test_one_that_was_started_by_hand_is_in_the_host_s_network(root: Path) -> None:
    runs(root, "7", COMMAND, net=HERE)
    assert examined(root)[1].fact == "the prober (pid 7) is in this host's own network"


def test_others_and_what_ends_meanwhile_are_left_alone(root: Path) -> None:
    runs(root, "8", b"/usr/bin/ramfw\0run\0", uid=0, net=HERE)
    runs(root, "9", b"/usr/bin/vi\0prober\0", uid=0, net=HERE)
    runs(root, "10", COMMAND, uid=0)
    (root / "proc/10/status").unlink()
    assert len(examined(root)) == 1


def test_a_real_socket_is_reached_and_one_that_nobody_listens_at_is_not(tmp_path: Path) -> None:
    path = tmp_path / "prober"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        prober.connect(path)
    with pytest.raises(ConnectionRefusedError):
        prober.connect(path)
