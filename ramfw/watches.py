"""What the daemon hears from the kernel, each in the best way that this kernel has.

Any of them may be missing: its events do not come then, and what hinders it is told.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from ramfw.core.events import Address, Refusal, WatchChanged
from ramfw.core.marks import MarkLayout
from ramfw.core.policy import Policy
from ramfw.core.questions import Tally
from ramfw.core.watch_rules import WatchForm
from ramfw.errors import MissingError, ObserveError
from ramfw.observe.dnswatch import DnsWatch
from ramfw.observe.given_names import Known
from ramfw.observe.openings import OpeningsWatch
from ramfw.observe.refusals import RefusalLog
from ramfw.observe.tamper import TamperWatch

log = logging.getLogger("ramfw")

Readable = Callable[[], None]
"""Called by the loop when there is something to read."""


@dataclass(slots=True)
class Watches:
    """The listeners that could be opened."""

    dns: DnsWatch | None = None
    openings: OpeningsWatch | None = None
    names_problem: str = ""
    """Why no names are read; empty where they are."""
    blind: str = ""
    """Why nobody hears of others' changes to the table; empty where they are heard."""
    _refusals: RefusalLog | None = None
    _tamper: TamperWatch | None = None

    # -- opening -------------------------------------------------------------------------------

    def open_dns(
        self, form: WatchForm, problem: str, permits: Callable[[str], bool], readable: Readable
    ) -> WatchChanged:
        """Listen before any rule shows an answer: as the kernel can, or as is left.

        `problem` is what hinders a better way than `form`.
        """
        while self.dns is None and form is not WatchForm.NONE:
            try:
                self.dns = DnsWatch(form, permits)
            except ObserveError as error:
                form = WatchForm.NONE if form is WatchForm.COPY else WatchForm.COPY
                problem = str(error)
        if self.dns is None:
            return WatchChanged(form, problem)
        for listener in self.dns.sockets:
            asyncio.get_running_loop().add_reader(listener, readable)
        hindrance = self.dns.tells_problem
        return WatchChanged(
            form, problem, tells_answers=form.holds and not hindrance, tells_problem=hindrance
        )

    def open_openings(
        self, watch: WatchChanged, policy: Policy, readable: Readable
    ) -> WatchChanged:
        """Listen for first bytes too, where packets can be held.

        Raises MissingError where they cannot be, and the policy requires that names are checked.
        """
        problem = watch.problem
        if watch.form.holds:
            try:
                self.openings = OpeningsWatch(MarkLayout(policy.mark_mask))
            except ObserveError as error:
                problem = str(error)
        if self.openings is None:
            self.names_problem = f"names cannot be checked here ({problem})"
            if policy.names_required:
                raise MissingError(f"[names] required: {self.names_problem}: ramfw doctor")
            return replace(watch, names=False)
        for listener in self.openings.sockets:
            asyncio.get_running_loop().add_reader(listener, readable)
        return replace(watch, names=True)

    def open_refusals(self, readable: Readable) -> None:
        """Have copies of refused packets sent, for the log."""
        try:
            self._refusals = RefusalLog(self._asked_for)
        except ObserveError as error:
            log.warning("%s", error)
            return
        asyncio.get_running_loop().add_reader(self._refusals.socket, readable)

    def open_tamper(self) -> TamperWatch | None:
        """Others' changes from now on: before the table is read, so that none falls in between."""
        try:
            self._tamper = TamperWatch()
        except ObserveError as error:
            self.blind = str(error)
            log.error("%s", error)  # noqa: TRY400 - the cause is told
        return self._tamper

    def close(self) -> None:
        """Hear nothing any more; what is held then goes where it goes without a daemon."""
        loop = asyncio.get_running_loop()
        for watch in (self.dns, self.openings):
            if watch is not None:
                for listener in watch.sockets:
                    loop.remove_reader(listener)
                watch.close()
        self.dns = self.openings = None
        if self._refusals is not None:
            loop.remove_reader(self._refusals.socket)
            self._refusals.close()
            self._refusals = None
        if self._tamper is not None:
            self._tamper.close()
            self._tamper = None

    # -- what is heard -------------------------------------------------------------------------

    def follow(self, policy: Policy) -> None:
        """Read and write marks as this policy has them."""
        if self.openings is not None:
            self.openings.follow(MarkLayout(policy.mark_mask))

    def release(self, handles: tuple[int, ...]) -> None:
        """Let held answers go."""
        if handles and self.dns is not None:
            self.dns.release(handles)

    def foresee_refusals(self, packets: Iterable[bytes]) -> None:
        """See `RefusalLog.foresee`."""
        if self._refusals is not None:
            self._refusals.foresee(packets)

    def read_refusals(self) -> tuple[Refusal, ...]:
        """Refusals that were not read yet."""
        return self._refusals.read() if self._refusals is not None else ()

    @property
    def lost_refusals(self) -> int:
        """Times that refusals came faster than they were read."""
        return self._refusals.lost if self._refusals is not None else 0

    @property
    def tally(self) -> Tally:
        """What became of the DNS answers that were shown."""
        return self.dns.tally if self.dns is not None else Tally()

    def _asked_for(self, address: Address, client: Address, here: bool) -> Known:  # noqa: FBT001
        if self.dns is None:
            return Known()
        return self.dns.known(address, client, time.monotonic(), here=here)
