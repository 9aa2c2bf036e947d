"""The doorbell: a connection that listens, is probed, and is reopened when it is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.errors import ForeignDatabase, StockrelayError, StoreUnavailable
from daemon.progress import Pulse, unwatched
from daemon.store.database import ConnectOptions
from daemon.store.listener import listening

log = structlog.get_logger(__name__)

BEAT: Final = timedelta(seconds=3)
"""A lost connection is noticed within two of these: one until the beat, one for its answer."""
_RETRY_BASE: Final = timedelta(seconds=0.2)
_RETRY_CAP: Final = timedelta(seconds=10)
_STEADY_S: Final = 60.0
_LOSS_BASE: Final = timedelta(seconds=1)
_LOSS_CAP: Final = timedelta(seconds=60)
_CONNECT_S: Final = 60.0
"""What connecting takes at most: each host of the address has its timeout."""
_COMPARED_S: Final = 15 * 60.0
"""After a failover, every row of the ledger is written before the first ring is heard."""


class Doorbell:
    """Listens, and keeps listening; while it can't, intake polls.

    `on_ring(payload)` is called for each ring; `on_connected` after each LISTEN, before anything else: what was
    committed while nobody listened is found by what it starts.
    """

    def __init__(
        self,
        options: ConnectOptions,
        on_ring: Callable[[str], None],
        on_connected: Callable[[], Awaitable[None]],
        pulse: Pulse | None = None,
    ) -> None:
        self.options = options
        self._on_ring = on_ring
        self._on_connected = on_connected
        self._pulse = pulse or unwatched()
        self.is_listening = False

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until stopped. Raises ForeignDatabase when the server turns out to be a copy."""
        with self._pulse:
            await self._listen(stop)

    async def _listen(self, stop: asyncio.Event) -> None:
        failures = losses = 0
        since = 0.0
        while not stop.is_set():
            self._pulse.beat(_CONNECT_S)
            try:
                async with listening(self.options, self._ring) as listener:
                    self._pulse.beat(_COMPARED_S)
                    await self._on_connected()
                    log.info("doorbell.listening", pid=listener.pid)
                    self.is_listening = True
                    failures = 0
                    since = clock.monotonic()
                    while not await clock.wait_any(BEAT.total_seconds(), stop):
                        self._pulse.beat(3 * BEAT.total_seconds())
                        if not await listener.beat(BEAT):
                            raise StoreUnavailable(
                                "the server forgot our LISTEN: a pooler in transaction mode stands between; set "
                                "database.listen_dsn to a direct address"
                            )
            except ForeignDatabase:
                raise
            except StockrelayError as error:
                if self.is_listening or failures == 0:
                    log.warning("doorbell.lost", reason=str(error))
                if self.is_listening:
                    losses = 1 if clock.monotonic() - since > _STEADY_S else losses + 1
                self.is_listening = False
                failures += 1
                pause = backoff(failures, _RETRY_BASE, _RETRY_CAP, clock.jitter())
                if failures == 1:
                    # Each new connection has everything compared: one that is lost at once is made less often.
                    pause += backoff(losses - 1, _LOSS_BASE, _LOSS_CAP, clock.jitter())
                await clock.wait_any(pause.total_seconds(), stop)
        self.is_listening = False

    def _ring(self, _pid: int, payload: str) -> None:
        self._on_ring(payload)
