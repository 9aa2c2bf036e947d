"""One-time initialisation: queues every SKU of the listing, and watches the slots' owners send them."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import Interval
from daemon.core.errors import StockrelayError, StoreUnavailable
from daemon.core.sync_filter import WHOLE_LISTING, SyncFilter, described
from daemon.liveness import unwatched
from daemon.services.loop import DONE, Pace, run_loop
from daemon.store.ledger.ledger import Ledger
from daemon.store.sync import SyncProgress, SyncRun, Syncs

log = structlog.get_logger(__name__)

_PORTION: Final = 2_000
"""SKUs marked in one statement: a change waits that long for its row."""
_CHOSEN_PORTION: Final = 400
"""SKUs that are read by name in one statement, as in a claim."""
_LOOK_S: Final = 0.5
_COST: Final = 20
"""Reading the state of a large sync takes time: the pause before the next look is this many times as long."""
_LOG_EVERY_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a sync is, for display: the listing's SKUs read so far; progress once all of them are marked."""

    read: int
    progress: SyncProgress | None


@dataclass(eq=False)
class SyncJob:
    """One `stockrelay sync`. What it leaves undone, the next one does, or the slots' owners.

    `holder` is this process; `on_stage` hears how far it is, `on_marked` that there are SKUs in the queue;
    `wanted`: for which SKUs; None: for those of the sync that is open. `is_marked` is set when all of them are queued.
    """

    syncs: Syncs
    ledger: Ledger
    holder: str
    on_stage: Callable[[Stage], None]
    on_marked: Callable[[], None]
    wanted: SyncFilter | None = WHOLE_LISTING
    _read: int = 0
    _logged_at: float = 0.0
    sync: SyncRun | None = None
    is_marked: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        """Open a sync or go on with the one that is open, until it has ended or `stop` is set."""
        wanted = self.wanted
        sync = self.sync = await (self.syncs.open() if wanted is None else self.syncs.begin(wanted))
        log.info(
            "sync.started",
            channel=self.syncs.channel,
            sync=sync.number,
            is_resumed=not sync.is_new,
            filter=None if sync.filter is None else described(sync.filter),
        )
        if not sync.is_marked and not await self._mark(sync, stop):
            return
        self.is_marked.set()
        self._logged_at = clock.monotonic()
        await run_loop(partial(self._look, sync), stop, unwatched(), Pace(_LOOK_S), self._on_failure)

    async def _look(self, sync: SyncRun) -> Interval:
        began = clock.monotonic()
        await self.ledger.end_sync()
        progress = await self.syncs.progress(sync)
        self.on_stage(Stage(self._read, progress))
        if progress.is_finished:
            return DONE
        now = clock.monotonic()
        if now - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = now
            log.info(
                "sync.progress_made",
                channel=self.syncs.channel,
                total=progress.total,
                waiting=progress.waiting,
                confirming=progress.confirming,
                is_sent_here=self.holder in progress.holders,
                trouble=progress.trouble,
            )
        return Interval(max(_LOOK_S, _COST * (now - began)))

    def _on_failure(self, error: StockrelayError) -> None:
        if not isinstance(error, StoreUnavailable):
            raise error
        log.warning("sync.database_awaited", channel=self.syncs.channel, reason=str(error))

    async def _mark(self, sync: SyncRun, stop: asyncio.Event) -> bool:
        """Queue every SKU of the listing, or the chosen ones; those queued before an interruption stay where they
        are."""
        began = clock.monotonic()
        marked = 0
        reading = (
            self.syncs.portions(_PORTION)
            if sync.filter is None
            else self.syncs.chosen_portions(sync, _CHOSEN_PORTION)
        )
        async with aclosing(reading) as portions:
            async for portion in portions:
                marked += await self.syncs.mark(sync, portion)
                self._read += len(portion)
                self.on_stage(Stage(self._read, None))
                self.on_marked()
                if stop.is_set():
                    return False
        await self.syncs.end_marking(sync, self._read)
        log.info(
            "sync.listing_marked",
            channel=self.syncs.channel,
            listed=self._read,
            marked=marked,
            duration_ms=round((clock.monotonic() - began) * 1000, 1),
        )
        return True
