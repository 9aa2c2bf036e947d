"""Reads once a heartbeat, for the metrics, what only the database knows and no other service counts."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog
from daemon.services.loop import Pace, run_loop
from daemon.store.answer_rows import ChannelState
from daemon.store.outbox import NoticeBacklog

log = structlog.get_logger(__name__)

_FINISHED: Final = "finished"


class Gauges(Protocol):
    """Receives the figures. Times are unix seconds."""

    def reconciled(self, channel: str, ended_at: float, *, is_complete: bool) -> None: ...

    def differences_counted(self, channel: str, *, open_differences: int, sync_left: int) -> None: ...

    def notices_counted(self, waiting: int, oldest_s: float, given_up: int) -> None: ...

    def database_clock_measured(self, ahead_s: float) -> None: ...


class ChannelStates(Protocol):
    """Reads the state of a channel's sync and reconcile, and the database's clock."""

    async def clock_ahead(self) -> timedelta: ...

    async def channel_state(self, channel: ChannelName) -> ChannelState: ...


class Notices(Protocol):
    """Counts the notices that wait."""

    async def backlog(self) -> NoticeBacklog: ...


class GaugeReader:
    """A few small statements each time. What could not be read keeps its last figure."""

    def __init__(
        self,
        states: ChannelStates,
        notices: Notices,
        channels: Sequence[ChannelName],
        gauges: Gauges,
        every: timedelta,
        watchdog: Watchdog,
    ) -> None:
        self._states = states
        self._notices = notices
        self._channels = channels
        self._gauges = gauges
        self._every_s = every.total_seconds()
        self._watchdog = watchdog

    async def run(self, stop: asyncio.Event) -> None:
        """Read at once and then at intervals until stopped."""
        pace = Pace(self._every_s, longest_step_s=self._every_s)
        await run_loop(self._read, stop, self._watchdog, pace, self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        log.debug("metrics.reading_delayed", reason=str(error))

    async def _read(self) -> None:
        ahead = await self._states.clock_ahead()
        self._gauges.database_clock_measured(ahead.total_seconds())
        notices = await self._notices.backlog()
        waits = timedelta(0) if notices.oldest is None else clock.now() + ahead - notices.oldest
        self._gauges.notices_counted(notices.waiting, max(0.0, waits.total_seconds()), notices.given_up)
        for channel in self._channels:
            state = await self._states.channel_state(channel)
            left = 0 if state.sync is None else state.sync.left
            self._gauges.differences_counted(channel, open_differences=state.open_differences, sync_left=left)
            if (last := state.reconciled) is not None:
                is_complete = last.state == _FINISHED
                self._gauges.reconciled(channel, last.ended_at.timestamp(), is_complete=is_complete)
