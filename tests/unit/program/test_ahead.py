"""The kernel is opened and asked in a thread of its own, while others go on."""

from __future__ import annotations

import threading

import pytest

from ramfw.core.turn_rules import Turning
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import MissingError
from ramfw.program.ahead import Ahead, open_and_ask
from ramfw.program.fake import FakeKernel
from ramfw.program.nft import Nft


def test_others_go_on_while_the_kernel_is_opened_in_the_thread_that_it_is_used_in() -> None:
    go, kernel = threading.Event(), FakeKernel(lambda: 0.0)
    threads: list[threading.Thread] = []

    def opened() -> FakeKernel:
        assert go.wait(10)
        threads.append(threading.current_thread())
        return kernel

    begun = Ahead(opened)
    go.set()  # reached although it is not open yet
    assert begun.kernel() is kernel
    begun.thread.submit(lambda: threads.append(threading.current_thread())).result()
    assert threads[0] is threads[1]
    assert threads[0] is not threading.current_thread()
    begun.thread.shutdown()


def test_what_opening_it_raised_is_told_where_it_is_needed() -> None:
    def opened() -> FakeKernel:
        raise MissingError("no libnftables")

    begun = Ahead(opened)
    with pytest.raises(MissingError, match="no libnftables"):
        begun.kernel()
    begun.thread.shutdown()


def test_all_is_asked_ahead_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def could(_: Nft, text: str) -> bool:
        asked.append(text)
        return True

    monkeypatch.setattr(Nft, "__init__", lambda self: setattr(self, "_answers", {}))
    monkeypatch.setattr(Nft, "_could", could)
    nft = open_and_ask()
    before = list(asked)
    assert len(set(before)) == len(before) == 5
    assert nft.can_lock()
    assert nft.matches_cgroups()
    assert nft.compares_names()
    assert (nft.watch_form()[0], nft.turning()[0]) == (WatchForm.NATIVE, Turning.ALL)
    assert asked == before
