"""A second process that ends the daemon when it has been silent for too long.

The kernel holds DNS answers for a daemon that listens, also for one that is stopped or stuck: only
its end lets them go. So a child process waits for a sign of life every second, and kills when none
came for `SILENCE`. Before the first the daemon holds nothing yet, and that one may take longer. It
ends when its parent does, however that ends.
"""

from __future__ import annotations

import os
import select
import signal

SILENCE = 5.0
"""Seconds without a sign of life after which the daemon is killed."""
BEGINNING = 30.0
"""Seconds that the first sign of life may take: a slow machine loads a program slowly."""
BEAT = 1.0
"""Seconds between two signs of life."""
POLITE = frozenset({signal.SIGINT, signal.SIGHUP, signal.SIGTERM})


class Watchdog:
    """Made before there is any thread; `beat` is the sign of life."""

    def __init__(self, silence: float = SILENCE, beginning: float = BEGINNING) -> None:
        """Fork the process that watches this one."""
        parent = os.pidfd_open(os.getpid())
        ear, self._mouth = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._mouth, False)
        # The parent's terminal and service manager mean the parent: its end is the child's.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, POLITE)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._mouth)
                _watch(ear, parent, silence, beginning)
            finally:
                os._exit(0)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(ear)
        os.close(parent)

    def beat(self) -> None:
        """Tell that the daemon lives; without a listener this does nothing."""
        try:
            os.write(self._mouth, b".")
        except (BlockingIOError, BrokenPipeError):
            return


def _watch(ear: int, parent: int, silence: float, beginning: float) -> None:
    patience = beginning
    while select.select([ear], [], [], patience)[0]:
        if not os.read(ear, 4096):
            return
        patience = silence
    signal.pidfd_send_signal(parent, signal.SIGKILL)
