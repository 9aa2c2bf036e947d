"""The nightly reconcile in every replica: carries out each due run once, and reports a missed one."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import AT_ONCE, Interval, backoff
from daemon.core.errors import LeaseLost, StockrelayError, StoreUnavailable
from daemon.core.notice import RECONCILE_MISSED, Notice
from daemon.core.reconcile import is_overdue
from daemon.core.types import ChannelName
from daemon.liveness import Liveness, Watchdog
from daemon.services.loop import Pace, run_loop
from daemon.services.reconcile.engine import Reconciler
from daemon.services.reconcile.session import MarketplaceUnavailable, RunProgress
from daemon.store.reconcile_rows import ReconcileRun

log = structlog.get_logger(__name__)

_RETRY_BASE: Final = timedelta(minutes=1)
_RETRY_CAP: Final = timedelta(minutes=15)
_WATCH_S: Final = 60.0
_LOG_EVERY_S: Final = 30.0
_TURN_S: Final = 60.0
"""Planning, taking, tidying: what a turn may take beside its statements."""


class ReconcileService:
    """Runs in every replica; the database sees to it that a run has one at a time."""

    def __init__(
        self,
        reconcilers: Sequence[Reconciler],
        holder: str,
        post: Callable[[Notice], Awaitable[bool]],
        liveness: Liveness | None = None,
    ) -> None:
        self._reconcilers = reconcilers
        self._holder = holder
        self._post = post
        self._liveness = liveness or Liveness()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until stopped; the next replica resumes a run that is cut off."""
        async with asyncio.TaskGroup() as group:
            for reconciler in self._reconcilers:
                name = f"reconcile-{reconciler.channel}"
                group.create_task(self._serve(reconciler, stop, self._liveness.watchdog(name)), name=name)
                name = f"reconcile-watch-{reconciler.channel}"
                group.create_task(self._watch(reconciler, stop, self._liveness.watchdog(name)), name=name)

    async def _serve(self, reconciler: Reconciler, stop: asyncio.Event, watchdog: Watchdog) -> None:
        async def step() -> Interval | None:
            await self._plan(reconciler)
            run = await reconciler.runs.take(reconciler.channel, self._holder, reconciler.limits.lease)
            has_worked = run is not None and await self._carry_out(reconciler, run, stop, watchdog)
            return AT_ONCE if has_worked else None

        pace = Pace(reconciler.limits.lease.total_seconds() / 2, _TURN_S)
        await run_loop(step, stop, watchdog, pace, partial(_log_delay, reconciler.channel))

    async def _plan(self, reconciler: Reconciler) -> None:
        days = await _due(reconciler)
        if not days:
            return
        reads_back = reconciler.reads_back
        planned = await reconciler.runs.plan(reconciler.channel, days, supersedes=reads_back)
        if planned:
            log.info(
                "reconcile.run_planned", channel=reconciler.channel, days=[day.isoformat() for day in planned]
            )
            await reconciler.runs.tidy(reconciler.channel)

    async def _carry_out(
        self, reconciler: Reconciler, run: ReconcileRun, stop: asyncio.Event, watchdog: Watchdog
    ) -> bool:
        """Carry one run out; say whether the next may follow at once.

        That a run takes hours is no stall: the dead man's check sees to one that is never over.
        """
        log.info(
            "reconcile.run_started",
            channel=run.channel,
            run=run.run_id,
            day=run.day.isoformat(),
            is_resumed=run.epoch > 1,
        )
        is_last_try = run.age >= reconciler.limits.give_up
        try:
            return await self._work(reconciler, run, stop, watchdog, is_last_try=is_last_try)
        except LeaseLost as error:
            log.warning("reconcile.run_lost", channel=run.channel, run=run.run_id, reason=str(error))
        except MarketplaceUnavailable as error:
            await self._wait_for_marketplace(reconciler, run, error)
        except StockrelayError as error:
            await self._postpone(reconciler, run, error, is_last_try=is_last_try)
        return False

    async def _work(
        self,
        reconciler: Reconciler,
        run: ReconcileRun,
        stop: asyncio.Event,
        watchdog: Watchdog,
        *,
        is_last_try: bool,
    ) -> bool:
        """Work on the run to its end, or until `stop`: another replica may take it at once then."""
        working = asyncio.create_task(
            reconciler.carry_out(run, _ProgressLog(run), is_last_try=is_last_try), name="reconcile-run"
        )
        stopping = asyncio.create_task(stop.wait(), name="reconcile-stop")
        try:
            while not (working.done() or stopping.done()):
                watchdog.beat(_TURN_S)
                await asyncio.wait((working, stopping), timeout=_TURN_S, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                working.cancel()
                await asyncio.wait((working,))
                await reconciler.runs.release(run)
                return False
            await working
        finally:
            for task in (working, stopping):
                task.cancel()
            await asyncio.gather(working, stopping, return_exceptions=True)
        return True

    async def _wait_for_marketplace(
        self, reconciler: Reconciler, run: ReconcileRun, error: MarketplaceUnavailable
    ) -> None:
        wait = backoff(run.tries + 1, _RETRY_BASE, _RETRY_CAP, clock.jitter())
        log.warning(
            "reconcile.run_postponed",
            channel=run.channel,
            run=run.run_id,
            reason=error.outcome.reason,
            advice=error.outcome.advice,
            retry_s=round(wait.total_seconds()),
        )
        await reconciler.runs.postpone(run, wait, f"the marketplace gives no answer: {error.outcome.reason}")

    async def _postpone(
        self, reconciler: Reconciler, run: ReconcileRun, error: StockrelayError, *, is_last_try: bool
    ) -> None:
        """Try again later, as when the listing fails; after the last try the next day's run has its turn."""
        if is_last_try and not isinstance(error, StoreUnavailable):
            await reconciler.give_up(run, str(error))
            return
        wait = backoff(run.tries + 1, _RETRY_BASE, _RETRY_CAP, clock.jitter())
        log.error("reconcile.run_failed", channel=run.channel, run=run.run_id, reason=str(error))
        await reconciler.runs.postpone(run, wait, str(error))

    async def _watch(self, reconciler: Reconciler, stop: asyncio.Event, watchdog: Watchdog) -> None:
        """Report a run that should be over and is not, for any cause (a dead man's switch)."""
        watched_since: datetime | None = None

        async def step() -> None:
            nonlocal watched_since
            now = (await reconciler.runs.schedule_state(reconciler.channel)).now
            watched_since = watched_since or now
            await self._look_for_missed(reconciler, watched_since, now)

        pause_s = min(_WATCH_S, max(1.0, reconciler.limits.missed_after.total_seconds() / 4))
        await run_loop(step, stop, watchdog, Pace(pause_s, _TURN_S), partial(_log_delay, reconciler.channel))

    async def _look_for_missed(self, reconciler: Reconciler, watched_since: datetime, now: datetime) -> None:
        channel, limits = reconciler.channel, reconciler.limits
        # A day without a run is planned by this replica as soon as the run before it lets it.
        late = dict.fromkeys(await _due(reconciler), (watched_since, "it has not been planned"))
        for one in await reconciler.runs.open_days(channel):
            keeps = "it has begun and is not over" if one.has_begun else "it waits for the one before it"
            late[one.day] = (one.planned_at, one.why or keeps)
        for day, (taken_up_at, reason) in sorted(late.items()):
            due_at = limits.schedule.due_at(day)
            if not is_overdue(due_at, taken_up_at, limits.missed_after, now):
                continue
            data = {"day": day.isoformat(), "due_at": due_at.isoformat(), "reason": reason}
            if await self._post(Notice(RECONCILE_MISSED, f"missed:{channel}:{day}", channel, data)):
                log.error(
                    "reconcile.run_missed",
                    channel=channel,
                    day=day.isoformat(),
                    due_at=due_at.isoformat(),
                    reason=reason,
                )


def _log_delay(channel: ChannelName, error: StockrelayError) -> None:
    log.warning("reconcile.check_delayed", channel=channel, reason=str(error))


async def _due(reconciler: Reconciler) -> list[date]:
    state = await reconciler.runs.schedule_state(reconciler.channel)
    schedule = reconciler.limits.schedule
    return schedule.due_days(state.since, state.last, state.now, every=not reconciler.reads_back)


class _ProgressLog:
    """Logs a run's progress now and then."""

    def __init__(self, run: ReconcileRun) -> None:
        self._run = run
        self._logged_at = clock.monotonic()

    def __call__(self, progress: RunProgress) -> None:
        now = clock.monotonic()
        if now - self._logged_at < _LOG_EVERY_S:
            return
        self._logged_at = now
        log.info(
            "reconcile.run_progressed",
            channel=self._run.channel,
            run=self._run.run_id,
            stage=progress.stage,
            done=progress.done,
            total=progress.total,
        )
