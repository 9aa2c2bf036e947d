"""Logs one status line per channel and minute."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.ops.metrics import Metrics
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
    """One channel: its ledger, the dispatcher's counts since the start, how many of its slots this process owns,
    whether it is paused, its trouble."""

    ledger: CountedLedger
    counts: Counter[str]
    slots_owned: Callable[[], int]
    is_paused: Callable[[], bool]
    trouble: Callable[[], str | None]


@dataclass(eq=False)
class Heartbeat:
    """Logs `heartbeat.channel_counted` for one channel."""

    every: timedelta
    watched: Watched
    is_listening: Callable[[], bool]
    metrics: Metrics
    watchdog: Watchdog = field(default_factory=unwatched)
    _last: Counter[str] = field(default_factory=Counter)
    _since: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        self._since = clock.monotonic()
        every_s = self.every.total_seconds()
        pace = Pace(every_s, first_s=every_s)
        await run_loop(self._beat, stop, self.watchdog, pace, self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("heartbeat.counting_failed", channel=self.watched.ledger.channel, reason=str(error))

    async def _beat(self) -> None:
        watched = self.watched
        now = clock.monotonic()
        seconds, self._since = now - self._since, now
        counts = Counter(watched.counts)
        fresh = counts - self._last
        self._last = counts
        backlog = await watched.ledger.backlog()
        self._record(backlog)
        log.info(
            "heartbeat.channel_counted",
            channel=watched.ledger.channel,
            slots_owned=watched.slots_owned(),
            is_paused=watched.is_paused(),
            is_listening=self.is_listening(),
            trouble=watched.trouble(),
            skus=backlog.skus,
            backlog=backlog.backlog,
            oldest_s=None if backlog.oldest is None else round(backlog.oldest.total_seconds(), 1),
            doubt=backlog.doubt,
            parked=backlog.parked,
            held=backlog.held,
            shadowed=backlog.shadowed,
            in_flight=backlog.in_flight,
            rate_per_s=round(fresh["applied"] / seconds, 2) if seconds > 0 else 0.0,
            outcomes=dict(fresh),
        )

    def _record(self, backlog: Backlog) -> None:
        channel = self.watched.ledger.channel
        for name, value in (
            ("stockrelay_skus", backlog.skus),
            ("stockrelay_backlog_skus", backlog.backlog),
            ("stockrelay_in_flight_attempts", backlog.in_flight),
            ("stockrelay_doubt_skus", backlog.doubt),
            ("stockrelay_parked_skus", backlog.parked),
            ("stockrelay_held_skus", backlog.held),
            ("stockrelay_shadowed_skus", backlog.shadowed),
            ("stockrelay_oldest_change_age_seconds", (backlog.oldest or timedelta(0)).total_seconds()),
            ("stockrelay_counted_timestamp_seconds", clock.now().timestamp()),
        ):
            self.metrics.set(name, value, channel)
