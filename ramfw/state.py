"""What outlives the daemon and the machine's power: the last good rules and policy, as files.

`boot.nft` is loaded by the boot unit with `nft -f`; `policy.toml` is the text of the policy that
was last in force, for a start at which the real one is bad; `registries.json` are the registries
that were found by asking. Files are replaced whole: a full disk or the end of the power leaves the
ones before.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RULES = "boot.nft"
POLICY = "policy.toml"
REGISTRIES = "registries.json"
_LARGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class LastGood:
    """What was in force: the policy's text, and its rules in nft's grammar."""

    policy: str
    rules: str


class State:
    """A directory that only the daemon writes to."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def keep(self, last_good: LastGood) -> None:
        """Replace what is kept. Raises OSError; what was kept before is whole then."""
        # The rules first: with the old policy they only mean that a name is asked for once more.
        self._replace(RULES, last_good.rules)
        self._replace(POLICY, last_good.policy)

    def keep_registries(self, text: str) -> None:
        """Replace the registries that are kept. Raises OSError as `keep`."""
        self._replace(REGISTRIES, text)

    def last_policy(self) -> str | None:
        """The text of the policy that was last in force; None where none can be read."""
        return self._read(POLICY)

    def registries(self) -> str | None:
        """The registries that were kept; None where none can be read."""
        return self._read(REGISTRIES)

    def _read(self, name: str) -> str | None:
        try:
            with (self.directory / name).open("rb") as kept:
                return kept.read(_LARGEST).decode()
        except (OSError, UnicodeDecodeError):
            return None

    def _replace(self, name: str, text: str) -> None:
        path, new = self.directory / name, self.directory / f"{name}.new"
        content = text.encode()
        with suppress(OSError):
            if path.read_bytes() == content:
                return
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                os.fchmod(descriptor, 0o644)
                view = memoryview(content)
                while view:
                    view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            new.rename(path)
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
