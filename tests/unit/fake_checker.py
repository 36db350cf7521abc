"""Kernels that are only asked what they can do."""

from __future__ import annotations

from ramfw.core.tablestate import TableState
from ramfw.core.transaction import Transaction
from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import KernelError
from ramfw.wire.nft_writer import write


class Willing:
    """Can do everything, and holds no table."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.lockable = True
        self.form = (WatchForm.NATIVE, "")
        self.turned = (Turning.ALL, "")

    def check(self, transaction: Transaction) -> None:
        self.checked.append(write(transaction))

    def read(self, *, with_grants: bool) -> TableState | None:  # noqa: ARG002
        return None

    def can_lock(self) -> bool:
        return self.lockable

    def watch_form(self) -> tuple[WatchForm, str]:
        return self.form

    def turning(self) -> tuple[Turning, str]:
        return self.turned


class Without(Willing):
    """Refuses whatever has these words in it, in nft's own manner."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self._words = words

    def check(self, transaction: Transaction) -> None:
        super().check(transaction)
        if self._words in self.checked[-1]:
            detail = "Error: Could not process rule: No such file or directory\nadd rule\n^^^^"
            raise KernelError(0, "nft check", detail)
