"""Log lines with fields of their own, to the systemd journal; without it, plain lines to stderr.

The journal's native protocol is one datagram of fields (systemd's JOURNAL_NATIVE_PROTOCOL).
"""

from __future__ import annotations

import logging
import os
import socket
import struct
import sys
from pathlib import Path

JOURNAL = Path("/run/systemd/journal/socket")
LEVELS = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
"""syslog's numbers, from which level on."""

Fields = tuple[tuple[str, str], ...]


class Handler(logging.StreamHandler):  # type: ignore[type-arg] # it is no generic before 3.11
    """Marks lines on stderr for the journal, where it reads them; a record's `fields` go there."""

    def __init__(self, journal: Path = JOURNAL) -> None:
        super().__init__(sys.stderr)
        self._journal = journal
        self._is_service = "JOURNAL_STREAM" in os.environ

    def emit(self, record: logging.LogRecord) -> None:
        """Send it to the journal, or write it where there is none."""
        fields: Fields = getattr(record, "fields", ())
        if not (fields and self._is_service and self._send(record, fields)):
            super().emit(record)

    def format(self, record: logging.LogRecord) -> str:
        """The line; with its level in front where the journal reads it (sd-daemon(3))."""
        mark = f"<{_level(record)}>" if self._is_service else ""
        return f"{mark}{super().format(record)}"

    def _send(self, record: logging.LogRecord, fields: Fields) -> bool:
        whole = (
            ("MESSAGE", record.getMessage()),
            ("PRIORITY", str(_level(record))),
            ("SYSLOG_IDENTIFIER", "ramfw"),
            *fields,
        )
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A journal that does not read holds nobody up.
                sender.setblocking(False)  # noqa: FBT003 - the socket module's own form
                sender.sendto(b"".join(_field(*field) for field in whole), str(self._journal))
        except OSError:
            return False
        return True


def _level(record: logging.LogRecord) -> int:
    return next((number for least, number in LEVELS if record.levelno >= least), 7)


def _field(name: str, value: str) -> bytes:
    data = value.encode()
    if b"\n" in data:
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
