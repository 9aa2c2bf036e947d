"""Housekeeping in our own schema: the change log's rotation and the attempt log's partitions."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.audit import Head
from daemon.core.errors import StockrelayError
from daemon.progress import Pulse, unwatched
from daemon.store.changelog import ChangeLog

Prune = Callable[[timedelta], Awaitable[int]]
ReadHeads = Callable[[], Awaitable[Sequence[Head]]]

log = structlog.get_logger(__name__)

_EVERY_S: Final = 60.0
_MIN_AGE: Final = timedelta(minutes=10)
"""A slot rests so long before it is emptied: a transaction that still writes to it has begun before that."""
_ROLL_EVERY_S: Final = 3600.0
_LONGEST_STEP_S: Final = 600.0


class Maintenance:
    """Runs in every replica; the database sees to it that a step is taken once.

    `prunes` are other histories' ways to forget what is older than that long, by name; each returns how much it was.
    `heads` reads the heads of the attempt log's chains: each replica logs them once a day, out of the database's reach.
    """

    def __init__(
        self,
        changelog: ChangeLog,
        keep: timedelta,
        prunes: Mapping[str, Prune] | None = None,
        pulse: Pulse | None = None,
        heads: ReadHeads | None = None,
    ) -> None:
        self._heads = heads
        self._recorded_on: date | None = None
        self._changelog = changelog
        self._keep = keep
        self._prunes = prunes or {}
        self._pulse = pulse or unwatched()

    async def run(self, stop: asyncio.Event) -> None:
        """Take a step every minute until stopped; a failure waits for the next."""
        with self._pulse:
            await self._step_until(stop)

    async def _step_until(self, stop: asyncio.Event) -> None:
        roll_at = clock.monotonic()
        while not stop.is_set():
            self._pulse.beat(_LONGEST_STEP_S)
            try:
                if clock.monotonic() >= roll_at:
                    await self._forget()
                    await self.record_heads()
                    roll_at = clock.monotonic() + _ROLL_EVERY_S
                step = await self._changelog.rotate(_MIN_AGE)
                if step in ("switched", "emptied"):
                    log.debug("maintenance.log_rotated", step=step)
            except StockrelayError as error:
                log.warning("maintenance.step_failed", reason=str(error))
            self._pulse.beat(_EVERY_S)
            await clock.wait_any(_EVERY_S, stop)

    async def _forget(self) -> None:
        dropped = await self._changelog.roll_attempts(self._keep)
        if dropped:
            log.info("maintenance.attempts_dropped", partitions=dropped)
        for history, prune in self._prunes.items():
            if removed := await prune(self._keep):
                log.info("maintenance.history_pruned", history=history, removed=removed)

    async def record_heads(self) -> None:
        """Log where the attempt log's chains stand, once a day (UTC), as soon as there are any."""
        today = clock.now().astimezone(UTC).date()
        if self._heads is None or self._recorded_on == today:
            return
        for head in await self._heads():
            log.info("audit.head_recorded", head=str(head))
            self._recorded_on = today
