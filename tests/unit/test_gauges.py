"""What the metrics learn from the database once a heartbeat."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta

from daemon import clock
from daemon.core.errors import StoreUnavailable
from daemon.core.types import ChannelName
from daemon.liveness import unwatched
from daemon.ops.metrics import Metrics
from daemon.services.gauges import GaugeReader
from daemon.store.answer_rows import ChannelState, Reconciled, Sync
from daemon.store.answers import Answers
from daemon.store.outbox import NoticeBacklog, Outbox
from tests.channels import SEKORM, YMATOU
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

EVERY = timedelta(minutes=1)
AHEAD = timedelta(seconds=5)
ENDED = Reconciled(date(2026, 11, 27), "compare", "finished", START - timedelta(hours=1))


class KeptOutbox(Outbox):
    def __init__(self) -> None:
        self.oldest: datetime | None = None

    async def backlog(self) -> NoticeBacklog:
        return NoticeBacklog(3, self.oldest, None, 1, None)


class Source(Answers):
    """The database's answers. A test sets them."""

    def __init__(self) -> None:
        self.outbox = KeptOutbox()
        self.is_down = False
        self.states = {
            SEKORM: ChannelState(Sync(START, 10, 4), ENDED, 2),
            YMATOU: ChannelState(None, None, 0),
        }

    async def clock_ahead(self) -> timedelta:
        if self.is_down:
            raise StoreUnavailable("the database does not answer")
        return AHEAD

    async def channel_state(self, channel: ChannelName) -> ChannelState:
        return self.states[channel]


class NotedMetrics(Metrics):
    """Notes each figure under its name without `stockrelay_`: (value, channel)."""

    def __init__(self) -> None:
        super().__init__([SEKORM, YMATOU])
        self.signals = Signals()

    def set(self, name: str, value: float, *labels: str) -> None:
        super().set(name, value, *labels)
        self.signals.note(name.removeprefix("stockrelay_"), value=value, labels=labels, at=clock.monotonic())

    async def next(self, name: str) -> float:
        value: float = (await self.signals.next(name))["value"]
        return value


@asynccontextmanager
async def reading(source: Source) -> AsyncIterator[NotedMetrics]:
    metrics, stop = NotedMetrics(), clock.Signal()
    reader = GaugeReader(source, source.outbox, [SEKORM, YMATOU], metrics, EVERY, unwatched())
    running = asyncio.create_task(reader.run(stop))
    try:
        yield metrics
    finally:
        stop.set()
        await running


@in_virtual_time
async def test_every_figure_is_read_at_the_start() -> None:
    async with reading(Source()) as metrics:
        assert await metrics.next("database_clock_offset_seconds") == 5.0
        assert await metrics.next("notices_waiting") == 3
        assert await metrics.next("notices_oldest_age_seconds") == 0.0
        assert await metrics.next("notices_given_up") == 1
        assert [await metrics.next("reconcile_open_differences") for _ in range(2)] == [2, 0]
        assert [await metrics.next("sync_left_skus") for _ in range(2)] == [4, 0]
        assert await metrics.next("reconcile_complete") is True
        assert await metrics.next("reconcile_ended_timestamp_seconds") == ENDED.ended_at.timestamp()
        assert metrics.signals.count("reconcile_complete") == 1, "a channel without a reconcile has none"


@in_virtual_time
async def test_an_incomplete_reconcile_is_no_complete_one() -> None:
    source = Source()
    incomplete = Reconciled(ENDED.day, "compare", "incomplete", ENDED.ended_at)
    source.states[SEKORM] = ChannelState(None, incomplete, 0)
    async with reading(source) as metrics:
        assert await metrics.next("reconcile_complete") is False


@in_virtual_time
async def test_a_notice_waits_by_the_clock_of_the_database_and_never_less_than_no_time() -> None:
    source = Source()
    source.outbox.oldest = START - timedelta(seconds=30)
    async with reading(source) as metrics:
        assert await metrics.next("notices_oldest_age_seconds") == 35.0
        source.outbox.oldest = START + timedelta(hours=1)
        assert await metrics.next("notices_oldest_age_seconds") == 0.0


@in_virtual_time
async def test_a_database_that_is_away_leaves_the_figures_and_is_asked_at_the_next_interval() -> None:
    source = Source()
    with log_signals() as logged:
        async with reading(source) as metrics:
            first = await metrics.signals.next("database_clock_offset_seconds")
            source.is_down = True
            assert (await logged.next("metrics.reading_delayed"))["log_level"] == "debug"
            source.is_down = False
            second = await metrics.signals.next("database_clock_offset_seconds")
    assert second["at"] - first["at"] == 120.0
