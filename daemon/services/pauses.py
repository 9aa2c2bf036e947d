"""Logs in every replica when an operator pauses or resumes a channel."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.store.control import Pause, Pauses

log = structlog.get_logger(__name__)


@dataclass(eq=False)
class PauseWatch:
    """Reads the pauses at intervals. A paused channel does not depend on it: each claim checks for itself.

    `report` hears after each look how the database took it: an error, or None.
    """

    pauses: Pauses
    every: timedelta
    report: Callable[[StockrelayError | None], None]
    watchdog: Watchdog = field(default_factory=unwatched)
    _paused: dict[ChannelName, Pause] = field(default_factory=dict)

    def is_paused(self, channel: ChannelName) -> bool:
        """Whether the channel was paused when it was read last."""
        return channel in self._paused

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace(self.every.total_seconds())
        await run_loop(self._look, stop, self.watchdog, pace, self._on_failure)

    async def _look(self) -> None:
        paused = await self.pauses.all()
        self.report(None)

        for channel, pause in paused.items():
            if self._paused.get(channel) != pause:
                log.warning(
                    "control.channel_paused",
                    channel=channel,
                    by=pause.by,
                    reason=pause.reason,
                    since=pause.since.isoformat(),
                )
        for channel, pause in self._paused.items():
            if channel not in paused:
                log.info("control.channel_resumed", channel=channel, since=pause.since.isoformat())
        self._paused = paused

    def _on_failure(self, error: StockrelayError) -> None:
        log.debug("control.pauses_unavailable", reason=str(error))
        self.report(error)
