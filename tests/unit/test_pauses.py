"""Pauses as each replica sees them: logged once, kept while the database is away, reported to readiness."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from daemon import clock
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.types import ChannelName
from daemon.services.pauses import PauseWatch
from daemon.store.control import Pause, Pauses
from tests.channels import SEKORM, YMATOU
from tests.unit.signals import Signals, log_signals
from tests.unit.virtual_time import START, in_virtual_time

PAUSE = Pause(SEKORM, START, "ann", "stocktaking")


class KeptPauses(Pauses):
    """What the test keeps as paused."""

    def __init__(self) -> None:
        self.kept: dict[ChannelName, Pause] = {}
        self.is_down = False

    async def all(self) -> dict[ChannelName, Pause]:
        if self.is_down:
            raise StoreUnavailable("the database does not answer")
        return dict(self.kept)


@asynccontextmanager
async def watching() -> AsyncIterator[tuple[PauseWatch, KeptPauses, Signals, Signals]]:
    with log_signals() as logged:
        pauses, reports, stop = KeptPauses(), Signals(), clock.Signal()

        def report(error: StockrelayError | None) -> None:
            reports.note("report", at=clock.monotonic(), error=error and str(error))

        watch = PauseWatch(pauses, timedelta(seconds=1), report)
        running = asyncio.create_task(watch.run(stop))
        try:
            yield watch, pauses, reports, logged
        finally:
            stop.set()
            await running


@in_virtual_time
async def test_a_pause_and_its_end_are_logged_once() -> None:
    async with watching() as (watch, pauses, reports, logged):
        await reports.next("report")
        pauses.kept[SEKORM] = PAUSE
        since = START.isoformat()
        line = {"channel": SEKORM, "by": "ann", "reason": "stocktaking", "since": since}
        assert await logged.next("control.channel_paused") == {"log_level": "warning", **line}
        assert (watch.is_paused(SEKORM), watch.is_paused(YMATOU)) == (True, False)
        await asyncio.sleep(60)
        pauses.kept.clear()
        assert await logged.next("control.channel_resumed") == {
            "log_level": "info", "channel": SEKORM, "since": since,
        }  # fmt: skip
        assert not watch.is_paused(SEKORM)
        await asyncio.sleep(60)
        assert [name for name, _ in logged.notes] == ["control.channel_paused", "control.channel_resumed"]


@in_virtual_time
async def test_a_pause_with_another_reason_is_logged_again() -> None:
    async with watching() as (_, pauses, _reports, logged):
        pauses.kept[SEKORM] = PAUSE
        await logged.next("control.channel_paused")
        pauses.kept[SEKORM] = Pause(SEKORM, START, "bob", "")
        assert (await logged.next("control.channel_paused"))["by"] == "bob"


@in_virtual_time
async def test_a_database_that_is_away_is_reported_and_leaves_the_channel_paused() -> None:
    async with watching() as (watch, pauses, reports, logged):
        pauses.kept[SEKORM] = PAUSE
        first = await reports.next("report")
        assert first["error"] is None
        pauses.is_down = True
        second = await reports.next("report")
        assert second == {"at": first["at"] + 1, "error": "the database does not answer"}
        assert watch.is_paused(SEKORM)
        assert logged.all("control.pauses_unavailable")[0]["log_level"] == "debug"
        pauses.is_down = False
        assert (await reports.next("report"))["error"] is None
    assert logged.count("control.channel_resumed") == 0
