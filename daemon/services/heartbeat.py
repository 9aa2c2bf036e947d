"""Logs one status line per channel and minute."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.progress import Pulse, unwatched
from daemon.store.ledger import Backlog, Ledger

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Watched:
    """One channel: its ledger, the dispatcher's counts since the start, its lanes and how many of them are ours,
    whether it is paused, its trouble."""

    ledger: Ledger
    counts: Counter[str]
    lanes: Callable[[], int]
    lanes_owned: Callable[[], int]
    is_paused: Callable[[], bool]
    trouble: Callable[[], str | None]


Tell = Callable[[ChannelName, Backlog], None]
"""Receives what was counted."""


class Heartbeat:
    """Logs `heartbeat.channel_counted` for one channel."""

    def __init__(
        self,
        every: timedelta,
        watched: Watched,
        is_listening: Callable[[], bool],
        tell: Tell,
        pulse: Pulse | None = None,
    ) -> None:
        self._every_s = every.total_seconds()
        self._watched = watched
        self._is_listening = is_listening
        self._tell = tell
        self._pulse = pulse or unwatched()
        self._last: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until stopped."""
        with self._pulse:
            since = clock.monotonic()
            self._pulse.beat(self._every_s)
            while not await clock.wait_any(self._every_s, stop):
                now = clock.monotonic()
                self._pulse.beat(self._every_s)
                await self._beat(self._watched, now - since)
                since = now
                self._pulse.beat(self._every_s)

    async def _beat(self, watched: Watched, seconds: float) -> None:
        channel = watched.ledger.channel
        counts = Counter(watched.counts)
        fresh = counts - self._last
        self._last = counts
        try:
            backlog = await watched.ledger.backlog()
        except StockrelayError as error:
            log.warning("heartbeat.counting_failed", channel=channel, reason=str(error))
            return
        self._tell(channel, backlog)
        log.info(
            "heartbeat.channel_counted",
            channel=channel,
            lanes=watched.lanes(),
            lanes_owned=watched.lanes_owned(),
            is_paused=watched.is_paused(),
            is_listening=self._is_listening(),
            trouble=watched.trouble(),
            skus=backlog.skus,
            backlog=backlog.backlog,
            oldest_s=None if backlog.oldest is None else round(backlog.oldest.total_seconds(), 1),
            doubt=backlog.doubt,
            parked=backlog.parked,
            held=backlog.held,
            in_flight=backlog.in_flight,
            rate_per_s=round(fresh["applied"] / seconds, 2) if seconds > 0 else 0.0,
            outcomes=dict(fresh),
        )
