"""The kernel opened and asked in its own thread, while the rest of the program is still loaded.

Every question makes the kernel wait for all its processors (it tries a transaction and gives it
up), some 10 ms; Python needs a quarter of a second to load all modules. So both go on together.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ramfw.program.kernel import Kernel
from ramfw.program.nft import Nft

T = TypeVar("T")


def open_and_ask() -> Nft:
    """The kernel's table, with all that can be asked for before. Raises MissingError."""
    nft = Nft()
    for question in (
        nft.can_lock,
        nft.watch_form,
        nft.compares_names,
        nft.turning,
        nft.matches_cgroups,
    ):
        question()
    return nft


class Ahead:
    """A thread of its own, the only one in which the kernel's methods may be called."""

    def __init__(self, opened: Callable[[], Kernel] = open_and_ask) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="nft")
        self.lock = threading.Lock()
        """Held while libnftables is at work: its batches and others' would void each other."""
        self._kernel = self.thread.submit(opened)

    def kernel(self) -> Kernel:
        """What was opened, as soon as it is; raises what opening it raised."""
        return self._kernel.result()

    async def ask(self, work: Callable[[], T]) -> T:
        """Do what calls the kernel's methods, in their thread; its result, or what it raises."""

        def locked() -> T:
            with self.lock:
                return work()

        return await asyncio.get_running_loop().run_in_executor(self.thread, locked)
