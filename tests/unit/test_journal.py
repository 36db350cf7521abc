"""Lines for the journal: plain ones on stderr, those with fields in its own protocol."""

from __future__ import annotations

import io
import logging
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from ramfw.journal import Handler


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "journal"))
        listening.setblocking(False)  # noqa: FBT003 - the socket module's own form
        yield listening


def log_with(handler: Handler, fields: tuple[tuple[str, str], ...]) -> str:
    """What a line with fields leaves on stderr."""
    handler.stream = io.StringIO()
    logger = logging.getLogger(__name__)
    logger.handlers[:], logger.propagate = [handler], False
    logger.warning("refused: %s", "ghcr.io", extra={"fields": fields})
    return str(handler.stream.getvalue())


def test_a_service_sends_fields_to_the_journal(
    journal: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    handler = Handler(tmp_path / "journal")
    assert log_with(handler, (("RAMFW_NAME", "ghcr.io"), ("RAMFW_ODD", "a\nb"))) == ""
    sent = journal.recv(4096)
    assert sent.startswith(b"MESSAGE=refused: ghcr.io\nPRIORITY=4\nSYSLOG_IDENTIFIER=ramfw\n")
    assert b"RAMFW_NAME=ghcr.io\n" in sent
    assert b"RAMFW_ODD\n" + struct.pack("<Q", 3) + b"a\nb\n" in sent


def test_a_line_without_fields_goes_to_stderr_with_its_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert log_with(Handler(tmp_path / "journal"), ()) == "<4>refused: ghcr.io\n"


def test_without_a_journal_and_outside_a_service_nothing_is_lost(
    journal: socket.socket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = (("RAMFW_NAME", "ghcr.io"),)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert log_with(Handler(tmp_path / "journal"), fields) == "refused: ghcr.io\n"
    with pytest.raises(BlockingIOError):
        journal.recv(1)
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert log_with(Handler(tmp_path / "absent"), fields) == "<4>refused: ghcr.io\n"
