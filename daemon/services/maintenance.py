"""Housekeeping in our own schema: the change log's rotation and the attempt log's partitions."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.audit import Head
from daemon.core.errors import StockrelayError
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.store.changelog import ChangeLog
from daemon.store.operations import OperationLog

ReadHeads = Callable[[], Awaitable[Sequence[Head]]]

log = structlog.get_logger(__name__)

_MIN_AGE: Final = timedelta(minutes=10)
"""How long a slot rests before it is emptied: a transaction that still writes to it has begun before that."""
_ROLL_EVERY_S: Final = 3600.0
_PACE: Final = Pace(every_s=60.0, longest_step_s=600.0)


@dataclass(eq=False)
class Maintenance:
    """Runs in every replica; the database makes sure that a step is taken once.

    `heads` reads the heads of the attempt log's chains: each replica logs them once a day, out of the database's reach.
    """

    changelog: ChangeLog
    keep: timedelta
    watchdog: Watchdog = field(default_factory=unwatched)
    heads: ReadHeads | None = None
    operations: OperationLog | None = None
    _recorded_on: date | None = None
    _roll_at: float = -math.inf

    async def run(self, stop: asyncio.Event) -> None:
        await run_loop(self._step, stop, self.watchdog, _PACE, self._on_failure)

    async def _step(self) -> None:
        if clock.monotonic() >= self._roll_at:
            if dropped := await self.changelog.roll_attempts(self.keep):
                log.info("maintenance.attempts_dropped", partitions=dropped)
            if self.operations is not None and (trimmed := await self.operations.trim(self.keep)):
                log.info("maintenance.operations_dropped", operations=trimmed)
            await self.record_heads()
            self._roll_at = clock.monotonic() + _ROLL_EVERY_S
        step = await self.changelog.rotate(_MIN_AGE)
        if step in ("switched", "emptied"):
            log.debug("maintenance.log_rotated", step=step)

    def _on_failure(self, error: StockrelayError) -> None:
        log.warning("maintenance.step_failed", reason=str(error))

    async def record_heads(self) -> None:
        """Log where the attempt log's chains stand, once a day (UTC), as soon as there are any."""
        today = clock.now().astimezone(UTC).date()
        if self.heads is None or self._recorded_on == today:
            return
        for head in await self.heads():
            log.info("audit.head_recorded", head=str(head))
            self._recorded_on = today
