"""One run in progress: its limits, its pace, how long it may wait, its progress."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Final, TypeVar

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.ratelimit import RateLimit
from daemon.settings.sections import Reconcile
from daemon.store.comparing import ComparedNumbers, ComparedRow
from daemon.store.reconcile import Reconciles
from daemon.store.reconcile_rows import Chunk, ReconcileRun

log = structlog.get_logger(__name__)

T = TypeVar("T")

_TRIES: Final = 5
_RETRY_BASE: Final = timedelta(seconds=1)
_RETRY_CAP: Final = timedelta(seconds=30)
_FIRST_LOOK_S: Final = 0.2
_LAST_LOOK_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class ReconcileLimits:
    """How a channel is reconciled; `heal_per_s`: numbers sent again per second. `is_shadow`: nothing is sent to the
    channel, so that a run only says what it would send again."""

    settings: Reconcile
    lease: timedelta
    timeout: timedelta
    heal_per_s: float
    is_shadow: bool = False

    @property
    def rest(self) -> timedelta:
        """How long ago a number must have been acknowledged to be compared, and the pause between two looks."""
        return timedelta(seconds=self.settings.settle_s)


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Where a run is: `done` of `total` (None: not known), in a stage's own unit."""

    stage: str
    done: int
    total: int | None


OnProgress = Callable[[RunProgress], None]


class MarketplaceUnavailable(Exception):
    """The marketplace gives no answer to the question; `outcome` says why."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(eq=False)
class Session:
    """What both ways of reconciling share."""

    run: ReconcileRun
    runs: Reconciles
    comparisons: ComparedNumbers
    limits: ReconcileLimits
    on_progress: OnProgress

    def __post_init__(self) -> None:
        self.window = self.limits.settings.schedule.window(self.run.day)
        self._rate = RateLimit.starting(
            self.limits.settings.rate_per_s, 1, clock.monotonic() - 1 / self.limits.settings.rate_per_s
        )
        # In shadow, what waits to be sent stays.
        self._patience_s = 0.0 if self.limits.is_shadow else self.limits.settings.patience_s
        self._pause_s = _FIRST_LOOK_S

    def report(self, stage: str, done: int, total: int | None) -> None:
        self.on_progress(RunProgress(stage, done, total))

    async def answered(self, ask: Callable[[], Awaitable[T]], unanswered: Callable[[T], Outcome | None]) -> T:
        """Ask at the run's pace, and again without an answer (`unanswered` says why). Raises MarketplaceUnavailable."""
        for tries in count(1):
            while (wait_s := self._rate.wait_s(clock.monotonic())) > 0:  # noqa: ASYNC110 - time is what it waits for
                await asyncio.sleep(wait_s)
            self._rate = self._rate.take(clock.monotonic())
            answer = await ask()
            outcome = unanswered(answer)
            if outcome is None:
                return answer
            # What an operator has to fix does not fix itself within seconds.
            is_lasting = outcome.kind is Kind.TROUBLE and outcome.trouble is not Trouble.THROTTLED
            if tries >= _TRIES or is_lasting:
                raise MarketplaceUnavailable(outcome)
            pause = outcome.retry_after or backoff(tries, _RETRY_BASE, _RETRY_CAP, clock.jitter())
            log.warning(
                "reconcile.answer_missing",
                channel=self.run.channel,
                run=self.run.run_id,
                tries=tries,
                reason=outcome.reason,
                retry_s=round(pause.total_seconds(), 1),
            )
            await asyncio.sleep(min(pause, _RETRY_CAP).total_seconds())
        raise AssertionError("counting has no end")

    async def rested(self) -> None:
        """The pause before a second look."""
        await asyncio.sleep(self.limits.rest.total_seconds())

    async def day_chunks(self, stage: str) -> AsyncGenerator[tuple[Chunk, Sequence[ComparedRow]], None]:
        """Read the day's SKUs in chunks, from where the run stopped, each with its rows. `asked` and `state` of a chunk
        are the caller's to set."""
        so_far = await self.runs.progress(self.run, 1)
        number, after = so_far.chunk, so_far.last_sku or ""
        done = so_far.asked + so_far.unsettled + so_far.parked
        total = max(done, await self.comparisons.day_count(self.window))
        self.report(stage, done, total)
        while skus := await self.comparisons.day_skus(self.window, after, self.limits.settings.chunk):
            rows = await self.settled_rows(skus)
            number, after = number + 1, skus[-1]
            parked = sum(row.is_parked for row in rows)
            chunk = Chunk(1, number, skus[0], after, 0, "", unsettled=count_unsettled(rows), parked=parked)
            yield chunk, rows
            done += len(skus)
            self.report(stage, done, total)

    async def settled_rows(self, skus: Sequence[str]) -> list[ComparedRow]:
        """Read the rows to compare, and wait for numbers that are being sent, as long as the run's patience lasts."""
        while True:
            rows = await self.comparisons.rows(skus, self.limits.rest)
            if all(row.is_settled or row.is_parked or not row.is_listed for row in rows):
                return rows
            if not await self._waited():
                return rows

    async def settled_channel(self) -> None:
        """Wait until no number of the channel is being sent, as long as the run's patience lasts."""
        while await self.comparisons.count_in_flight_or_recent(self.limits.rest) and await self._waited():
            pass

    async def _waited(self) -> bool:
        pause = min(self._pause_s, self._patience_s)
        if pause <= 0:
            return False
        self._patience_s -= pause
        # Each check scans the channel: less and less often.
        self._pause_s = min(1.5 * self._pause_s, _LAST_LOOK_S)
        await asyncio.sleep(pause)
        return True


def count_unsettled(rows: Iterable[ComparedRow]) -> int:
    return sum(row.is_listed and not row.is_settled and not row.is_parked for row in rows)
