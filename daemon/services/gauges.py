"""Reads once a heartbeat, for the metrics, what only the database knows and no other service counts."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog
from daemon.ops.metrics import Metrics
from daemon.services.loop import Pace, run_loop
from daemon.store.answers import Answers
from daemon.store.outbox import Outbox

log = structlog.get_logger(__name__)

_FINISHED: Final = "finished"


@dataclass(eq=False)
class GaugeReader:
    """A few small statements each time. What could not be read keeps its last figure."""

    answers: Answers
    outbox: Outbox
    channels: Sequence[ChannelName]
    metrics: Metrics
    every: timedelta
    watchdog: Watchdog

    async def run(self, stop: asyncio.Event) -> None:
        await run_loop(self._read, stop, self.watchdog, Pace(self.every.total_seconds()), self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        log.debug("metrics.reading_delayed", reason=str(error))

    async def _read(self) -> None:
        record = self.metrics.set
        ahead = await self.answers.clock_ahead()
        record("stockrelay_database_clock_offset_seconds", ahead.total_seconds())
        notices = await self.outbox.backlog()
        waits = timedelta(0) if notices.oldest is None else clock.now() + ahead - notices.oldest
        record("stockrelay_notices_waiting", notices.waiting)
        record("stockrelay_notices_oldest_age_seconds", max(0.0, waits.total_seconds()))
        record("stockrelay_notices_given_up", notices.given_up)
        for channel in self.channels:
            state = await self.answers.channel_state(channel)
            record("stockrelay_reconcile_open_differences", state.open_differences, channel)
            record("stockrelay_sync_left_skus", 0 if state.sync is None else state.sync.left, channel)
            if (last := state.reconciled) is not None:
                record("stockrelay_reconcile_complete", last.state == _FINISHED, channel)
                ended_at = last.ended_at.timestamp()
                record("stockrelay_reconcile_ended_timestamp_seconds", ended_at, channel)
