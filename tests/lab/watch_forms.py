"""The ways in which the kernel that a test runs on can hold DNS answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

from ramfw.core.watch_rules import WatchForm
from ramfw.errors import KernelError
from ramfw.program.batches import Batches
from ramfw.program.nft import Nft


def forms_to_try(wanted: Sequence[str]) -> tuple[WatchForm, ...]:
    """Those that are wanted, or all that the kernel has; never none.

    Raises AssertionError where the kernel lacks one that is wanted, or has none.
    """
    held = tuple(_held())
    forms = tuple(WatchForm(form) for form in wanted) or held
    assert forms, "this kernel can hold no answers"
    assert set(forms) <= set(held), f"this kernel can hold answers only by {held}"
    return forms


def _held() -> Iterator[WatchForm]:
    best, _ = Nft().watch_form()
    if best is WatchForm.NATIVE:
        yield best
    # Asking also loads the module, which a rule in an inet table does not.
    with suppress(KernelError), Batches() as batches:
        batches.ask_for_nfqueue()
        yield WatchForm.XT
