"""Keeps what each channel has sent, minute by minute, for the page's lines of the last hour."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import Interval
from daemon.core.errors import StockrelayError
from daemon.core.outcome import Kind
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.store.history import PageHistory

log = structlog.get_logger(__name__)

_MINUTE_S: Final = 60.0
_AFTER_S: Final = 2.0
"""How long after a minute it is noted."""
_FAILED: Final = (Kind.REFUSED, Kind.NOT_SENT, Kind.TROUBLE, Kind.UNKNOWN)


@dataclass(eq=False)
class PushHistory:
    """Compares counters that the dispatchers keep anyway with those of a minute ago: a push pays nothing for it.

    `latencies` returns how many numbers of a channel were acknowledged since the start, and after how many seconds in
    all. What could not be written is written with the next minute.
    """

    history: PageHistory
    holder: str
    counts: Mapping[ChannelName, Counter[str]]
    latencies: Callable[[ChannelName], tuple[int, float]]
    watchdog: Watchdog = field(default_factory=unwatched)
    _last: dict[ChannelName, tuple[int, int, int, float]] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        pace = Pace(_MINUTE_S, first_s=_until_minute())
        await run_loop(self._note, stop, self.watchdog, pace, self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        log.debug("metrics.reading_delayed", reason=str(error))

    async def _note(self) -> Interval:
        now = {channel: self._figures(channel) for channel in self.counts}
        nothing = (0, 0, 0, 0.0)
        fresh = {}
        for channel, (applied, failed, delivered, seconds) in now.items():
            before = self._last.get(channel, nothing)
            fresh[channel] = (
                applied - before[0],
                failed - before[1],
                delivered - before[2],
                seconds - before[3],
            )
        await self.history.note_minute(self.holder, fresh)
        self._last = now
        return Interval(_until_minute())

    def _figures(self, channel: ChannelName) -> tuple[int, int, int, float]:
        counts = self.counts[channel]
        return counts[Kind.APPLIED], sum(counts[kind] for kind in _FAILED), *self.latencies(channel)


def _until_minute() -> float:
    """How long it is until just after the next minute begins."""
    return _MINUTE_S - clock.now().timestamp() % _MINUTE_S + _AFTER_S
