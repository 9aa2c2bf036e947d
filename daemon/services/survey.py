"""Reads once a heartbeat, for the metrics, what only the database knows and no other service counts."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.progress import Pulse
from daemon.store.answers import Answers
from daemon.store.outbox import Outbox

log = structlog.get_logger(__name__)

_FINISHED: Final = "finished"


class Figures(Protocol):
    """Receives the figures. Times are unix seconds."""

    def reconciled(self, channel: str, ended_at: float, *, is_complete: bool) -> None: ...

    def surveyed(self, channel: str, *, open_differences: int, sync_left: int) -> None: ...

    def notices_counted(self, waiting: int, oldest_s: float, given_up: int) -> None: ...

    def database_clock_measured(self, ahead_s: float) -> None: ...


class Survey:
    """A few small statements each time; what could not be read keeps its last figure."""

    def __init__(
        self,
        answers: Answers,
        outbox: Outbox,
        channels: Sequence[ChannelName],
        figures: Figures,
        every: timedelta,
        pulse: Pulse,
    ) -> None:
        self._answers = answers
        self._outbox = outbox
        self._channels = channels
        self._figures = figures
        self._every_s = every.total_seconds()
        self._pulse = pulse

    async def run(self, stop: asyncio.Event) -> None:
        """Look at once and then at intervals until stopped."""
        with self._pulse:
            while not stop.is_set():
                self._pulse.beat(self._every_s)
                try:
                    await self._look()
                except StockrelayError as error:
                    log.debug("survey.look_delayed", reason=str(error))
                self._pulse.beat(self._every_s)
                await clock.wait_any(self._every_s, stop)

    async def _look(self) -> None:
        ahead = await self._answers.clock_ahead()
        self._figures.database_clock_measured(ahead.total_seconds())
        telling = await self._outbox.standing()
        waits = timedelta(0) if telling.oldest is None else clock.now() + ahead - telling.oldest
        self._figures.notices_counted(telling.waiting, max(0.0, waits.total_seconds()), telling.given_up)
        for channel in self._channels:
            standing = await self._answers.standing(channel)
            left = 0 if standing.sync is None else standing.sync.left
            self._figures.surveyed(channel, open_differences=standing.open_differences, sync_left=left)
            if (last := standing.reconciled) is not None:
                is_complete = last.state == _FINISHED
                self._figures.reconciled(channel, last.ended_at.timestamp(), is_complete=is_complete)
