"""The nightly reconcile in every replica: carries out each due run once, and reports a missed one."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import AT_ONCE, Interval, backoff
from daemon.core.errors import LeaseLost, StockrelayError, StoreUnavailable
from daemon.core.notice import RECONCILE_MISSED, Notice
from daemon.core.reconcile import is_overdue
from daemon.liveness import Liveness
from daemon.services.loop import Pace, run_loop
from daemon.services.reconcile.engine import Reconciler
from daemon.services.reconcile.session import MarketplaceUnavailable, ReconcileLimits, RunProgress
from daemon.store.reconcile_rows import ReconcileRun

log = structlog.get_logger(__name__)

_RETRY_BASE: Final = timedelta(minutes=1)
_RETRY_CAP: Final = timedelta(minutes=15)
_WATCH_S: Final = 60.0
_LOG_EVERY_S: Final = 30.0
_STEP_S: Final = 60.0
"""What planning, taking a run and tidying may take beside their statements."""


@dataclass(eq=False)
class ReconcileService:
    """Reconciles one channel, in every replica; the database lets one of them at a time carry out a run."""

    reconciler: Reconciler
    holder: str
    post: Callable[[Notice], Awaitable[bool]]
    liveness: Liveness = field(default_factory=Liveness)
    _watched_since: datetime | None = None

    def __post_init__(self) -> None:
        self._channel, self._runs = self.reconciler.channel, self.reconciler.runs
        self._watchdog = self.liveness.watchdog(f"reconcile-{self._channel}")

    @property
    def _limits(self) -> ReconcileLimits:
        # Those of now: a reload changes them.
        return self.reconciler.limits

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stopped; the next replica resumes a run that is cut off."""
        pace = Pace(self._limits.lease.total_seconds() / 2, _STEP_S)
        watch_pace = Pace(min(_WATCH_S, max(1.0, self._limits.settings.missed_after_s / 4)), _STEP_S)
        watch = self.liveness.watchdog(f"reconcile-watch-{self._channel}")
        async with asyncio.TaskGroup() as group:
            serving = run_loop(partial(self._step, stop), stop, self._watchdog, pace, self._on_failure)
            group.create_task(serving, name=self._watchdog.name)
            watching = run_loop(self._look_for_missed, stop, watch, watch_pace, self._on_failure)
            group.create_task(watching, name=watch.name)

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("reconcile.check_delayed", channel=self._channel, reason=str(error))

    async def _step(self, stop: asyncio.Event) -> Interval | None:
        await self._plan()
        run = await self._runs.take(self._channel, self.holder, self._limits.lease)
        return AT_ONCE if run is not None and await self._carry_out(run, stop) else None

    async def _plan(self) -> None:
        days = await self._due()
        if not days:
            return
        planned = await self._runs.plan(self._channel, days, supersedes=self.reconciler.reads_back)
        if planned:
            log.info(
                "reconcile.run_planned", channel=self._channel, days=[day.isoformat() for day in planned]
            )
            await self._runs.tidy(self._channel)

    async def _due(self) -> list[date]:
        state = await self._runs.schedule_state(self._channel)
        every = not self.reconciler.reads_back
        return self._limits.settings.schedule.due_days(state.since, state.last, state.now, every=every)

    async def _carry_out(self, run: ReconcileRun, stop: asyncio.Event) -> bool:
        """Carry one run out; say whether the next may follow at once.

        That a run takes hours is no stall: `_look_for_missed` reports one that is never over.
        """
        log.info(
            "reconcile.run_started",
            channel=run.channel,
            run=run.run_id,
            day=run.day.isoformat(),
            is_resumed=run.epoch > 1,
        )
        try:
            return await self._work(run, stop)
        except LeaseLost as error:
            log.warning("reconcile.run_lost", channel=run.channel, run=run.run_id, reason=str(error))
        except MarketplaceUnavailable as error:
            await self._wait_for_marketplace(run, error)
        except StockrelayError as error:
            await self._postpone(run, error)
        return False

    def _is_last_try(self, run: ReconcileRun) -> bool:
        return run.age.total_seconds() >= self._limits.settings.give_up_s

    async def _work(self, run: ReconcileRun, stop: asyncio.Event) -> bool:
        """Work on the run to its end, or until `stop`: another replica may take it at once then."""
        carrying_out = self.reconciler.carry_out(run, _ProgressLog(run), is_last_try=self._is_last_try(run))
        working = asyncio.create_task(carrying_out, name="reconcile-run")
        stopping = asyncio.create_task(stop.wait(), name="reconcile-stop")
        try:
            while not (working.done() or stopping.done()):
                self._watchdog.beat(_STEP_S)
                await asyncio.wait((working, stopping), timeout=_STEP_S, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
                await asyncio.wait((working,))
                await self._runs.release(run)
                return False
            await working
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)
        return True

    async def _wait_for_marketplace(self, run: ReconcileRun, error: MarketplaceUnavailable) -> None:
        wait = backoff(run.tries + 1, _RETRY_BASE, _RETRY_CAP, clock.jitter())
        log.warning(
            "reconcile.run_postponed",
            channel=run.channel,
            run=run.run_id,
            reason=error.outcome.reason,
            advice=error.outcome.advice,
            retry_s=round(wait.total_seconds()),
        )
        await self._runs.postpone(run, wait, f"the marketplace gives no answer: {error.outcome.reason}")

    async def _postpone(self, run: ReconcileRun, error: StockrelayError) -> None:
        """Try again later, as when the listing fails; after the last try the next day's run begins."""
        if self._is_last_try(run) and not isinstance(error, StoreUnavailable):
            await self.reconciler.give_up(run, str(error))
            return
        wait = backoff(run.tries + 1, _RETRY_BASE, _RETRY_CAP, clock.jitter())
        log.error("reconcile.run_failed", channel=run.channel, run=run.run_id, reason=str(error))
        await self._runs.postpone(run, wait, str(error))

    async def _look_for_missed(self) -> None:
        """Report a run that should be over and is not, for any cause (a dead man's switch)."""
        now = (await self._runs.schedule_state(self._channel)).now
        missed_after = timedelta(seconds=self._limits.settings.missed_after_s)
        since = self._watched_since = self._watched_since or now
        # A day without a run is planned by this replica as soon as the run before it lets it.
        late = dict.fromkeys(await self._due(), (since, "it has not been planned"))
        for one in await self._runs.open_days(self._channel):
            keeps = "it has begun and is not over" if one.has_begun else "it waits for the one before it"
            late[one.day] = (one.planned_at, one.why or keeps)
        for day, (taken_up_at, reason) in sorted(late.items()):
            due_at = self._limits.settings.schedule.due_at(day)
            if not is_overdue(due_at, taken_up_at, missed_after, now):
                continue
            data = {"day": day.isoformat(), "due_at": due_at.isoformat(), "reason": reason}
            notice = Notice(RECONCILE_MISSED, f"missed:{self._channel}:{day}", self._channel, data)
            if await self.post(notice):
                log.error("reconcile.run_missed", channel=self._channel, **data)


@dataclass(eq=False)
class _ProgressLog:
    """Logs a run's progress now and then."""

    run: ReconcileRun
    _logged_at: float = field(default_factory=clock.monotonic)

    def __call__(self, progress: RunProgress) -> None:
        now = clock.monotonic()
        if now - self._logged_at < _LOG_EVERY_S:
            return
        self._logged_at = now
        log.info(
            "reconcile.run_progressed", channel=self.run.channel, run=self.run.run_id, **asdict(progress)
        )
