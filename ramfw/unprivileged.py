"""What the processes have in common that talk to strangers: their sockets, rights and log."""

from __future__ import annotations

import logging
import os
import pwd
import socket
import sys
from pathlib import Path

from ramfw.errors import ControlError

log = logging.getLogger("ramfw")

UNPRIVILEGED = "nobody"
BACKLOG = 1024
SIGN_OF_LIFE = 1.0
"""Seconds between two; without one for a few, the service manager starts the process anew."""


def listen_at(path: Path) -> socket.socket:
    """A unix socket that only this user can ask. Raises ControlError."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ControlError(f"cannot listen at {path}: {error.strerror or error}") from error
    finally:
        os.umask(before)
    return listener


def become_nobody() -> None:
    """Give up root, for good: strangers are talked to from here on."""
    if os.geteuid() != 0:
        return
    nobody = pwd.getpwnam(UNPRIVILEGED)
    os.setgroups([])
    os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
    os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)


def log_to_stderr() -> None:
    """Write what is logged to stderr, and nothing but the message."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
