"""Adds the exposure clock's segments up, and notes what the channels' conditions are."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.exposure import REASONS
from daemon.core.types import ChannelName
from daemon.liveness import Watchdog
from daemon.ops.metrics import Metrics
from daemon.services.loop import Pace, run_loop
from daemon.store.exposure import Exposure

log = structlog.get_logger(__name__)

_PACE: Final = Pace(every_s=5.0, longest_step_s=600.0)
_ADD_UP_EVERY_S: Final = 15.0
_DROP_EVERY_S: Final = 3600.0
_PORTIONS: Final = 200
"""The most portions of a channel that are added up before the conditions are noted again."""


@dataclass(eq=False)
class ExposureService:
    """Runs in every replica; each segment is added up by one of them."""

    exposure: Exposure
    channels: Sequence[ChannelName]
    keep: timedelta
    metrics: Metrics
    watchdog: Watchdog
    _add_up_at: float = -math.inf
    _drop_at: float = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        await run_loop(self._step, stop, self.watchdog, _PACE, self._on_failure)

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("exposure.update_delayed", reason=str(error))

    async def _step(self) -> None:
        await self.exposure.note_conditions(self.channels)
        if clock.monotonic() >= self._add_up_at:
            for channel in self.channels:
                await self._add_up(channel)
            self._add_up_at = clock.monotonic() + _ADD_UP_EVERY_S
        if clock.monotonic() >= self._drop_at:
            await self.exposure.drop_before((clock.now().astimezone(UTC) - self.keep).date())
            self._drop_at = clock.monotonic() + _DROP_EVERY_S

    async def _add_up(self, channel: ChannelName) -> None:
        for _ in range(_PORTIONS):
            added = await self.exposure.add_up(channel)
            if added is None:
                return
            for reason, over, lost in zip(REASONS, added.over, added.lost, strict=True):
                self.metrics.exposed(channel, reason, over, lost)
