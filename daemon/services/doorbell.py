"""The doorbell: a connection that listens, is probed, and is reopened when it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import Interval, backoff
from daemon.core.errors import ForeignDatabase, StockrelayError, StoreUnavailable
from daemon.liveness import Watchdog, unwatched
from daemon.services.loop import Pace, run_loop
from daemon.store.connecting import ConnectOptions
from daemon.store.listener import Listener, listening

log = structlog.get_logger(__name__)

BEAT: Final = timedelta(seconds=3)
"""A lost connection is noticed within two of these: one until the beat, one for its answer."""
_RETRY_BASE: Final = timedelta(seconds=0.2)
_RETRY_CAP: Final = timedelta(seconds=10)
_STEADY_S: Final = 60.0
_LOSS_BASE: Final = timedelta(seconds=1)
_LOSS_CAP: Final = timedelta(seconds=60)
_CONNECT_S: Final = 60.0
"""Maximum time to connect: each host of the address has its timeout."""
_COMPARED_S: Final = 15 * 60.0
"""After a failover, every row of the ledger is written before the first ring is heard."""

Listen = Callable[[ConnectOptions, Callable[[int, str], None]], AbstractAsyncContextManager[Listener]]


@dataclass(eq=False)
class Doorbell:
    """Listens, and keeps listening; while it can't, intake polls.

    `on_ring(payload)` is called for each notification; `on_connected` after each LISTEN and before anything else, to
    have the changes found that were committed while this process did not listen.
    """

    options: ConnectOptions
    on_ring: Callable[[str], None]
    on_connected: Callable[[], Awaitable[None]]
    watchdog: Watchdog = field(default_factory=unwatched)
    listen: Listen = listening
    is_listening: bool = False
    _failures: int = 0
    _losses: int = 0
    _since: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until stopped. Raises ForeignDatabase when the server turns out to be a copy."""
        pace = Pace(0.0, _CONNECT_S)
        await run_loop(partial(self._listen, stop), stop, self.watchdog, pace, self._on_failure)
        self.is_listening = False

    async def _listen(self, stop: asyncio.Event) -> None:
        async with self.listen(self.options, lambda _pid, payload: self.on_ring(payload)) as listener:
            self.watchdog.beat(_COMPARED_S)
            await self.on_connected()
            log.info("doorbell.listening", pid=listener.pid)
            self.is_listening = True
            self._failures = 0
            self._since = clock.monotonic()
            while not await clock.wait_any(BEAT.total_seconds(), stop):
                self.watchdog.beat(3 * BEAT.total_seconds())
                if not await listener.beat(BEAT):
                    raise StoreUnavailable(
                        "the server forgot our LISTEN: a pooler in transaction mode stands between; set "
                        "database.listen_dsn to a direct address"
                    )

    def _on_failure(self, error: StockrelayError) -> Interval:
        if isinstance(error, ForeignDatabase):
            raise error
        if self.is_listening or self._failures == 0:
            log.warning("doorbell.lost", reason=str(error))
        if self.is_listening:
            self._losses = 1 if clock.monotonic() - self._since > _STEADY_S else self._losses + 1
        self.is_listening = False
        self._failures += 1
        pause = backoff(self._failures, _RETRY_BASE, _RETRY_CAP, clock.jitter())
        if self._failures == 1:
            # Each new connection compares everything: after one that was lost at once, wait longer for the next.
            pause += backoff(self._losses - 1, _LOSS_BASE, _LOSS_CAP, clock.jitter())
        return Interval(pause.total_seconds())
