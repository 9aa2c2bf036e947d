"""One channel's intake: reads the change log into its ledger, and compares the listing as a whole when that is due."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final, Protocol

from daemon import clock
from daemon.core.backoff import AT_ONCE, Interval
from daemon.core.errors import StockrelayError, TableLocked
from daemon.core.intake import BellSilence, ComparisonSchedule, IntakePace
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.services.intake.journal import IntakeJournal
from daemon.services.loop import Pace, run_loop
from daemon.services.throttle import RequestThrottle
from daemon.store.intake import IntakeReading

_TIMEOUT: Final = timedelta(minutes=15)
_LONGEST_STEP_S: Final = 3 * _TIMEOUT.total_seconds()
"""A reading begins again without a listing that takes too long, and once more for a channel that is new."""
_PACE: Final = Pace(
    every_s=0.0, longest_step_s=_LONGEST_STEP_S, base=timedelta(seconds=0.2), cap=timedelta(seconds=15)
)
_REQUEST_GAP_MOST_S: Final = 600.0
"""Comparisons that a notification asks for and that mark nothing: as far apart at most."""
_LOCKED: Final = Interval(0.1, is_wakeable=False)
"""A listing whose table is locked is read again soon: it waits for the lock a while each time."""


class ChangeReader(Protocol):
    """Reads the change log into one channel's ledger."""

    @property
    def channel(self) -> ChannelName: ...

    async def drain(
        self,
        *,
        notify_replicas: bool,
        timeout: timedelta,
        may_compare: bool,
        on_comparison: Callable[[], None],
    ) -> IntakeReading: ...

    async def resync(self, *, notify_replicas: bool, timeout: timedelta) -> IntakeReading: ...


@dataclass(eq=False)
class IntakeService:
    """Keeps one channel's ledger up with the change log.

    `ring()` wakes it; `request_resync()` has everything compared next. `silence_bell(how_long)` keeps captures from
    ringing. After every reading, `on_read` is called, to wake the channel's dispatcher, and `report` with the
    reading's error, or None. Since the start, `changes` were read and `resyncs` made; `read_at` is when the last
    reading succeeded, or the first one began, in unix seconds of this machine.
    """

    reader: ChangeReader
    silence_bell: Callable[[timedelta], Awaitable[None]]
    poll: timedelta
    resync_every: timedelta
    on_read: Callable[[IntakeReading], None]
    owns_all_slots: Callable[[], bool]
    report: Callable[[StockrelayError | None], None] = lambda _error: None
    watchdog: Watchdog = field(default_factory=unwatched)
    _bell: clock.Signal = field(default_factory=clock.Signal)
    _silence: BellSilence = field(default_factory=BellSilence)
    _reading: asyncio.Timeout | None = None
    changes: int = 0
    resyncs: int = 0
    read_at: float | None = None

    def __post_init__(self) -> None:
        self._pace = IntakePace(self.poll.total_seconds())
        self._schedule = ComparisonSchedule(self.resync_every.total_seconds(), clock.monotonic())
        self._journal = IntakeJournal(self.reader.channel)
        # From a capture that could not write, from going live, or from a program of the operator's.
        self.throttle = RequestThrottle(
            lambda: self.request_resync("a signal asked for it"), _REQUEST_GAP_MOST_S
        )

    @property
    def failure(self) -> str | None:
        """Why the listing does not work, or None."""
        return self._journal.failure

    def ring(self) -> None:
        """Something has changed: read now."""
        self._bell.set()

    def request_resync(self, reason: str) -> None:
        """Compare the listing as a whole as soon as the gap between comparisons allows."""
        self._schedule.request(clock.monotonic(), reason)
        self._bell.set()

    def begin_again(self) -> None:
        """Another server has taken over: cut off the current reading, which may wait for the server that is gone. A
        comparison has the time limit of a very large listing, and a server that is frozen closes no connection."""
        if self._reading is not None and not self._reading.expired():
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def run(self, stop: asyncio.Event) -> None:
        """Read until stopped. A database that does not answer is tried again; nothing is skipped meanwhile."""
        if self.read_at is None:
            # A channel that never gets to read must not hide how long that has lasted.
            self.read_at = clock.now().timestamp()
        step = partial(self._step, stop)
        await run_loop(step, stop, self.watchdog, _PACE, self._on_failure, self._bell)

    async def _step(self, stop: asyncio.Event) -> Interval:
        wait_s = self._pace.wait_before(is_rung=self._bell.is_set())
        if await clock.wait_any(wait_s, stop):
            return AT_ONCE
        self._bell.clear()
        began = clock.monotonic()
        try:
            async with asyncio.timeout(None) as self._reading:
                reading = await self._read(began)
        except TimeoutError:
            self._journal.restarted(clock.monotonic() - began)
            return AT_ONCE
        except TableLocked as error:
            # The database answers, and nothing is lost: this channel waits for another transaction.
            self._silence.reset()
            self._journal.locked(error)
            self.report(None)
            return _LOCKED
        finally:
            self._reading = None
        self._journal.unlocked()
        self.read_at = clock.now().timestamp()
        self.report(None)
        self.on_read(reading)
        now = clock.monotonic()
        return self._pace.pause_after(reading.changes, now - began, now, self._schedule.until_next_s(now))

    def _on_failure(self, error: StockrelayError) -> None:
        self._silence.reset()
        self._journal.failed(error)
        self.report(error)

    async def _read(self, now: float) -> IntakeReading:
        notify_replicas = not self.owns_all_slots()
        if self._schedule.is_due(now):
            reading = await self._compare(now, notify_replicas=notify_replicas)
        else:
            reading = await self._drain(now, notify_replicas=notify_replicas)
        self.changes += reading.changes
        was_failing = self.failure is not None
        self._journal.read(reading, now)
        self._plan_comparison(reading, has_recovered=was_failing and self.failure is None)
        silence = self._silence.after(reading.changes, now)
        if silence is not None:
            await self.silence_bell(silence)
        return reading

    async def _compare(self, now: float, *, notify_replicas: bool) -> IntakeReading:
        reason = self._schedule.begin(now)
        self._journal.comparison_started(reason)
        try:
            reading = await self.reader.resync(notify_replicas=notify_replicas, timeout=_TIMEOUT)
        except BaseException:
            self.request_resync(reason)
            raise
        self._note_comparison(reading, reason, clock.monotonic() - now)
        return reading

    async def _drain(self, now: float, *, notify_replicas: bool) -> IntakeReading:
        reading = await self.reader.drain(
            notify_replicas=notify_replicas,
            timeout=_TIMEOUT,
            may_compare=self._schedule.may_compare(now),
            on_comparison=lambda: self._journal.comparison_started("bulk change"),
        )
        if reading.is_compared:
            self._note_comparison(reading, "bulk change", clock.monotonic() - now)
        elif reading.is_everything and reading.failed is None:
            self._schedule.request(now, "bulk change")
        return reading

    def _note_comparison(self, reading: IntakeReading, reason: str, took_s: float) -> None:
        self.resyncs += 1
        gap_s = self._schedule.finish(clock.monotonic(), took_s)
        if reading.is_compared:
            self.throttle.done(is_vain=not reading.marked.rows, shortest_gap_s=gap_s)
            self._journal.comparison_finished(reading, reason, took_s)

    def _plan_comparison(self, reading: IntakeReading, *, has_recovered: bool) -> None:
        if has_recovered and reading.wants_resync:
            self.request_resync("the listing works again")
        if self.failure is None and not reading.wants_resync:
            self._schedule.recover()
        else:
            self._schedule.retry(clock.monotonic())
