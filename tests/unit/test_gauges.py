"""What the metrics learn from the database once a heartbeat."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta

from daemon import clock
from daemon.core.errors import StoreUnavailable
from daemon.core.types import ChannelName
from daemon.liveness import unwatched
from daemon.services.gauges import GaugeReader
from daemon.store.answer_rows import ChannelState, Reconciled, Sync
from daemon.store.outbox import NoticeBacklog
from tests.channels import SEKORM, YMATOU
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

EVERY = timedelta(minutes=1)
AHEAD = timedelta(seconds=5)
ENDED = Reconciled(date(2026, 11, 27), "compare", "finished", START - timedelta(hours=1))


class Source:
    """The database's answers. A test sets them."""

    def __init__(self) -> None:
        self.is_down = False
        self.oldest: datetime | None = None
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

    async def backlog(self) -> NoticeBacklog:
        return NoticeBacklog(3, self.oldest, None, 1, None)


class Metrics(Signals):
    """Notes each figure."""

    def reconciled(self, channel: str, ended_at: float, *, is_complete: bool) -> None:
        self.note("reconciled", channel=channel, ended_at=ended_at, is_complete=is_complete)

    def differences_counted(self, channel: str, *, open_differences: int, sync_left: int) -> None:
        self.note("differences", channel=channel, open=open_differences, left=sync_left)

    def notices_counted(self, waiting: int, oldest_s: float, given_up: int) -> None:
        self.note("notices", waiting=waiting, oldest_s=oldest_s, given_up=given_up)

    def database_clock_measured(self, ahead_s: float) -> None:
        self.note("clock", ahead_s=ahead_s, at=clock.monotonic())


@asynccontextmanager
async def reading(source: Source) -> AsyncIterator[Metrics]:
    metrics, stop = Metrics(), clock.Signal()
    reader = GaugeReader(source, source, [SEKORM, YMATOU], metrics, EVERY, unwatched())
    running = asyncio.create_task(reader.run(stop))
    try:
        yield metrics
    finally:
        stop.set()
        await running


@in_virtual_time
async def test_every_figure_is_read_at_the_start() -> None:
    async with reading(Source()) as metrics:
        assert (await metrics.next("clock"))["ahead_s"] == 5.0
        assert await metrics.next("notices") == {"waiting": 3, "oldest_s": 0.0, "given_up": 1}
        assert await metrics.next("differences") == {"channel": SEKORM, "open": 2, "left": 4}
        assert await metrics.next("differences") == {"channel": YMATOU, "open": 0, "left": 0}
        ended_at = ENDED.ended_at.timestamp()
        assert metrics.all("reconciled") == [
            {"channel": SEKORM, "ended_at": ended_at, "is_complete": True}
        ], "a channel without a reconcile has none"


@in_virtual_time
async def test_an_incomplete_reconcile_is_no_complete_one() -> None:
    source = Source()
    incomplete = Reconciled(ENDED.day, "compare", "incomplete", ENDED.ended_at)
    source.states[SEKORM] = ChannelState(None, incomplete, 0)
    async with reading(source) as metrics:
        assert (await metrics.next("reconciled"))["is_complete"] is False


@in_virtual_time
async def test_a_notice_waits_by_the_clock_of_the_database_and_never_less_than_no_time() -> None:
    source = Source()
    source.oldest = START - timedelta(seconds=30)
    async with reading(source) as metrics:
        assert (await metrics.next("notices"))["oldest_s"] == 35.0
        source.oldest = START + timedelta(hours=1)
        assert (await metrics.next("notices"))["oldest_s"] == 0.0


@in_virtual_time
async def test_a_database_that_is_away_leaves_the_figures_and_is_asked_at_the_next_interval() -> None:
    source = Source()
    with log_signals() as logged:
        async with reading(source) as metrics:
            first = await metrics.next("clock")
            source.is_down = True
            assert (await logged.next("metrics.reading_delayed"))["log_level"] == "debug"
            source.is_down = False
            second = await metrics.next("clock")
    assert second["at"] - first["at"] == 120.0
