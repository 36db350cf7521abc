"""Whether ramfw is a service of this machine: from its boot on, and through everything."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ramfw import wslconf
from ramfw.doctor.finding import NOTE, OK, Finding

UNITS = "usr/lib/systemd/system"
WANTED = {
    "ramfw-boot.service": "etc/systemd/system/sysinit.target.wants",
    "ramfw.service": "etc/systemd/system/multi-user.target.wants",
    "ramfw-canary.timer": "etc/systemd/system/timers.target.wants",
}
WITHOUT = {
    "ramfw-boot.service": "nothing is enforced from the boot until the daemon runs",
    "ramfw.service": "no daemon starts with the machine",
    "ramfw-canary.timer": "nobody tests from inside the engines' slice that the filter holds",
}
DROP_INS = {
    "docker.service.d/ramfw.conf": (
        "engines are not put into engines.slice",
        "an engine that starts again is followed some milliseconds after its first packet",
    ),
    "user@.service.d/ramfw.conf": (
        "users' own service managers do not wait for ramfw",
        "what a rootless engine sends at the boot is not filtered until the daemon runs",
    ),
}
"""What of `make install` may be lacking beside the units, and what follows."""
INSTALL = "make install, in ramfw's source tree"


def findings(root: Path) -> Iterator[Finding]:
    """Its units, its hook in a WSL2 distribution, and what is kept for the next boot."""
    if not (root / UNITS / "ramfw.service").exists():
        yield Finding(
            "ramfw is not a service of this machine",
            NOTE,
            "its rules are in force from `ramfw run` until the machine goes down",
            INSTALL,
        )
        return
    if is_wsl(root) and not (root / "run/systemd/system").exists():
        yield from _hook(root)
    else:
        yield from _units(root)
    yield _kept(root)


def is_wsl(root: Path) -> bool:
    """Whether the machine is a WSL2 distribution."""
    return "microsoft" in (root / "proc/version").read_text().lower()


def _units(root: Path) -> Iterator[Finding]:
    lacking = [unit for unit, where in WANTED.items() if not (root / where / unit).is_symlink()]
    for unit in lacking:
        yield Finding(
            f"{unit} is not enabled", NOTE, WITHOUT[unit], f"systemctl enable --now {unit}"
        )
    if not lacking:
        yield Finding("ramfw is a service: its units are enabled", OK)
    for drop_in, (lack, follows) in DROP_INS.items():
        if not (root / UNITS / drop_in).exists():
            yield Finding(lack, NOTE, follows, INSTALL)


def _hook(root: Path) -> Iterator[Finding]:
    try:
        text = (root / "etc/wsl.conf").read_text()
    except (OSError, UnicodeDecodeError):
        text = ""
    if wslconf.has_hook(text):
        yield Finding("the distribution starts ramfw (the hook in /etc/wsl.conf)", OK)
        return
    yield Finding(
        "this distribution does not start ramfw: it has no systemd, and no hook in /etc/wsl.conf",
        NOTE,
        "nothing is enforced until `ramfw run`",
        "sudo ramfw wsl install, then wsl.exe --terminate DISTRIBUTION",
    )


def _kept(root: Path) -> Finding:
    kept = root / "var/lib/ramfw/boot.nft"
    if kept.exists():
        return Finding("the last good rules are kept for the next boot (/var/lib/ramfw)", OK)
    return Finding(
        "no last good rules are kept for the next boot",
        NOTE,
        "a boot begins with the policy's scopes and nothing permitted, a moment later",
        "ramfw status, whose line on the state says why",
    )
