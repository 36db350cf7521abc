"""The policy and its catalogue, as the file says them now, read again when it has changed."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from ramfw import policyfile
from ramfw.core.catalog import shipped
from ramfw.core.policy import Policy
from ramfw.errors import PolicyError

log = logging.getLogger("ramfw")


class PolicyCache:
    """One policy file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] | None = None
        self._good: Policy | None = None
        self._catalog = shipped()
        self._is_good = False
        self._look()

    @property
    def last_good(self) -> Policy | None:
        """The last policy that could be used, as the daemon goes on with it; None at first."""
        self._look()
        return self._good

    @property
    def current(self) -> Policy | None:
        """The policy, only if what the file says now can be used."""
        self._look()
        return self._good if self._is_good else None

    def is_registry(self, name: str) -> bool:
        """Whether the catalogue of the last good policy knows a name as a registry's."""
        return self._catalog.registry_of(name) is not None

    def _look(self) -> None:
        """Read the file if it is another one than before, or was changed."""
        seen: tuple[int, ...] = ()
        with suppress(OSError):
            found = os.stat(self._path)  # noqa: PTH116 - every field at once
            seen = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            catalog = policyfile.catalog_of(self._path)
            self._good, _ = policyfile.read(self._path, catalog)
        except PolicyError as error:
            self._is_good = False
            log.warning("the policy cannot be used: %s", error)
        else:
            self._is_good, self._catalog = True, catalog
