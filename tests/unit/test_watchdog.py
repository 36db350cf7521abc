"""The watchdog, on real processes: what is silent is killed, what shows life is not."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SILENCE = 0.3
PATIENCE = 20.0

# Tells the watchdog's pid, and then does as it is told, a word a line.
WATCHED = f"""
import os, signal, sys, time
from ramfw.watchdog import Watchdog
dog = Watchdog({SILENCE}, float(sys.argv[1]))
print(dog.pid, flush=True)
for line in sys.stdin:
    if line == "beat\\n":
        for _ in range(int({SILENCE} * 4 / 0.05)):
            dog.beat()
            time.sleep(0.05)
    elif line == "stop\\n":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif line == "without a dog\\n":
        os.kill(dog.pid, signal.SIGKILL)
        os.waitid(os.P_PID, dog.pid, os.WEXITED)
        dog.beat()
    print("done", flush=True)
    if line == "end\\n":
        os._exit(7)
"""


class Watched:
    """A process with a watchdog; `dog` is a pidfd, readable once the watchdog has ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout
        self.dog_pid = int(process.stdout.readline())
        self.dog = os.pidfd_open(self.dog_pid)

    def do(self, what: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def did(self) -> bool:
        assert self.process.stdout
        return self.process.stdout.readline() == "done\n"

    def dog_ended(self) -> bool:
        return bool(select.select([self.dog], [], [], PATIENCE)[0])


@contextmanager
def watched(beginning: float = SILENCE) -> Iterator[Watched]:
    with subprocess.Popen(
        [sys.executable, "-c", WATCHED, str(beginning)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        found = Watched(process)
        try:
            yield found
        finally:
            process.kill()
            os.close(found.dog)


def test_a_process_that_shows_life_lives_longer_than_the_silence() -> None:
    with watched() as process:
        process.do("beat")
        assert process.did()
        assert process.process.poll() is None


@pytest.mark.parametrize("how", ["stop", "say nothing"])
def test_a_silent_process_is_killed_and_the_watchdog_ends_with_it(how: str) -> None:
    with watched() as process:
        if how == "stop":
            process.do("stop")
        assert process.process.wait(PATIENCE) == -signal.SIGKILL
        assert process.dog_ended()


def test_the_first_sign_of_life_may_take_longer_but_not_the_second() -> None:
    with watched(PATIENCE) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.process.wait(SILENCE * 4)
        process.do("beat")
        assert process.did()
        began = time.monotonic()
        assert process.process.wait(PATIENCE) == -signal.SIGKILL
        assert time.monotonic() - began < PATIENCE / 2


def test_the_watchdog_ends_when_its_process_does_and_kills_nobody() -> None:
    with watched() as process:
        process.do("end")
        assert process.process.wait(PATIENCE) == 7
        assert process.dog_ended()


def test_what_ends_the_process_politely_does_not_end_the_watchdog() -> None:
    with watched() as process:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.pidfd_send_signal(process.dog, number)
        process.do("stop")
        assert process.process.wait(PATIENCE) == -signal.SIGKILL


def test_without_its_watchdog_a_process_goes_on() -> None:
    with watched() as process:
        process.do("without a dog")
        assert process.did()
        assert process.process.poll() is None
