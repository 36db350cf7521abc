"""Makes a WSL2 distribution start ramfw: by systemd's units, or by a hook in /etc/wsl.conf."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from ramfw import wslconf
from ramfw.errors import MissingError

UNITS = ("ramfw-boot.service", "ramfw.service", "ramfw-canary.timer")


def install(root: Path = Path("/")) -> list[str]:
    """Have ramfw started with the distribution; what was done, and what is to be known.

    Raises MissingError where ramfw is not installed on it, or its files cannot be written.
    """
    if not (root / wslconf.HOOK[1:]).exists():
        raise MissingError("ramfw is not installed here: sudo make install")
    conf = root / "etc/wsl.conf"
    before = _read(conf)
    if wslconf.uses_systemd(before):
        _write(conf, before, wslconf.without_hook(before))
        _systemctl(root, "enable")
        return [
            "systemd=true: ramfw's units are enabled",
            "WSL starts systemd with the first session: until then no rules are loaded",
        ]
    _write(conf, before, wslconf.with_hook(before))
    return [
        f"[boot] command= in {conf} begins with {wslconf.HOOK}",
        "it takes effect when the distribution starts anew: wsl.exe --terminate DISTRIBUTION",
    ]


def uninstall(root: Path = Path("/")) -> list[str]:
    """Take the hook out, and end what it has started. Raises MissingError as `install`."""
    conf = root / "etc/wsl.conf"
    before = _read(conf)
    after = wslconf.without_hook(before)
    _end_supervisor(root)
    if after == before:
        return [f"no hook is in {conf}"]
    _write(conf, before, after)
    return [f"{conf} is as it was before"]


def _read(conf: Path) -> str:
    try:
        # newline="": what is written back must be the same to the byte.
        with conf.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise MissingError(f"{conf} cannot be read: {error}") from error


def _write(conf: Path, before: str, after: str) -> None:
    """Replace the file whole, with its owner and mode; one that is to be empty goes."""
    if after == before:
        return
    try:
        if not after:
            conf.unlink()
            return
        new = conf.with_name(conf.name + ".ramfw")
        try:
            with new.open("w", encoding="utf-8", newline="") as file:
                file.write(after)
                if conf.exists():
                    status = conf.stat()
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
                    os.fchmod(file.fileno(), status.st_mode & 0o7777)
                else:
                    os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.fsync(file.fileno())
            new.rename(conf)
        except OSError:
            new.unlink(missing_ok=True)
            raise
    except OSError as error:
        hint = ": sudo ramfw wsl" if isinstance(error, PermissionError) else ""
        raise MissingError(f"{conf} cannot be written: {error.strerror}{hint}") from error


def _systemctl(root: Path, verb: str) -> None:
    if (root / "run/systemd/system").exists():
        subprocess.run(["systemctl", "--quiet", verb, *UNITS], check=False)  # noqa: S603, S607


def _end_supervisor(root: Path) -> None:
    """End the process that starts the daemon again and again, and with it the daemon."""
    pid_file = root / "run/ramfw-wsl.pid"
    with suppress(OSError, ValueError):
        pid = int(pid_file.read_text())
        # Its own session: it, the daemon and the canary are one group.
        if "wsl-boot" in (root / f"proc/{pid}/cmdline").read_text():
            os.killpg(pid, 15)
    with suppress(OSError):
        pid_file.unlink(missing_ok=True)
