"""Logs one status line per channel and minute."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.store.ledger import Backlog

log = structlog.get_logger(__name__)


class CountedLedger(Protocol):
    """One channel's ledger, which counts its backlog."""

    @property
    def channel(self) -> ChannelName: ...

    async def backlog(self) -> Backlog: ...


@dataclass(frozen=True, slots=True)
class Watched:
    """One channel: its ledger, the dispatcher's counts since the start, how many of its slots are
    ours, whether it is paused, its trouble."""

    ledger: CountedLedger
    counts: Counter[str]
    slots_owned: Callable[[], int]
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
        watchdog: Watchdog | None = None,
    ) -> None:
        self._every_s = every.total_seconds()
        self._watched = watched
        self._is_listening = is_listening
        self._tell = tell
        self._watchdog = watchdog or unwatched()
        self._last: Counter[str] = Counter()
        self._since = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Beat until stopped."""
        self._since = clock.monotonic()
        pace = Pace(self._every_s, longest_step_s=self._every_s, first_s=self._every_s)
        await run_loop(self._beat, stop, self._watchdog, pace, self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("heartbeat.counting_failed", channel=self._watched.ledger.channel, reason=str(error))

    async def _beat(self) -> None:
        watched = self._watched
        channel = watched.ledger.channel
        now = clock.monotonic()
        seconds, self._since = now - self._since, now
        counts = Counter(watched.counts)
        fresh = counts - self._last
        self._last = counts
        backlog = await watched.ledger.backlog()
        self._tell(channel, backlog)
        log.info(
            "heartbeat.channel_counted",
            channel=channel,
            slots_owned=watched.slots_owned(),
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
