"""`ramfw wsl install` changes one file, and leaves it as it was when it is undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ramfw import wsl
from ramfw.errors import MissingError
from ramfw.wslconf import HOOK


@pytest.fixture
def root(tmp_path: Path) -> Path:
    hook = tmp_path / HOOK[1:]
    hook.parent.mkdir(parents=True)
    hook.touch()
    (tmp_path / "etc").mkdir()
    return tmp_path


def test_without_systemd_the_hook_goes_in_and_out(root: Path) -> None:
    conf = root / "etc/wsl.conf"
    conf.write_bytes(b"[boot]\r\ncommand = service docker start\r\n")
    conf.chmod(0o640)
    wsl.install(root)
    wsl.install(root)
    assert conf.read_bytes() == (
        b"[boot]\r\ncommand = /usr/lib/ramfw/wsl-boot; service docker start\r\n"
    )
    assert conf.stat().st_mode & 0o777 == 0o640
    wsl.uninstall(root)
    wsl.uninstall(root)
    assert conf.read_bytes() == b"[boot]\r\ncommand = service docker start\r\n"
    assert [path.name for path in conf.parent.iterdir()] == ["wsl.conf"]


def test_a_file_that_was_not_there_is_gone_again(root: Path) -> None:
    wsl.install(root)
    assert HOOK in (root / "etc/wsl.conf").read_text()
    wsl.uninstall(root)
    assert not (root / "etc/wsl.conf").exists()


def test_with_systemd_there_is_no_hook(root: Path) -> None:
    conf = root / "etc/wsl.conf"
    wsl.install(root)
    hooked = conf.read_text()
    conf.write_text(hooked.replace("[boot]\n", "[boot]\nsystemd=true\n"))
    said = wsl.install(root)
    assert HOOK not in conf.read_text()
    assert "systemd=true" in conf.read_text()
    assert any("until then no rules" in line for line in said)


def test_what_is_not_installed_is_not_hooked(root: Path) -> None:
    (root / HOOK[1:]).unlink()
    with pytest.raises(MissingError, match="make install"):
        wsl.install(root)
    assert not (root / "etc/wsl.conf").exists()


def test_a_file_that_cannot_be_read_is_not_written(root: Path) -> None:
    conf = root / "etc/wsl.conf"
    conf.write_bytes(b"\xff\xfe[boot]")
    with pytest.raises(MissingError, match="cannot be read"):
        wsl.install(root)
    assert conf.read_bytes() == b"\xff\xfe[boot]"
