"""One-time initialisation: queues every SKU of the listing, and watches the slots' owners send them."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import structlog

from daemon import clock
from daemon.core.errors import StoreUnavailable
from daemon.store.ledger import Ledger
from daemon.store.sync import SyncProgress, SyncRun, Syncs

log = structlog.get_logger(__name__)

_PORTION: Final = 2_000
"""SKUs marked in one statement: changes wait no longer for their rows."""
_LOOK_S: Final = 0.5
_COST: Final = 20
"""Reading the state of a large sync takes time: the pause before the next look is this many times as long."""
_TELL_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Stage:
    """How far a sync is, for display: SKUs of the listing read so far while they are marked, then progress."""

    read: int
    progress: SyncProgress | None


class SyncJob:
    """One `stockrelay sync`. What it has not done when it ends is done by the next one, or by the slots' owners.

    `holder` is this process; `on_stage` hears how far it is, `on_marked` that there are SKUs in the queue;
    `is_marked` is set when all of them have one.
    """

    def __init__(
        self,
        syncs: Syncs,
        ledger: Ledger,
        holder: str,
        on_stage: Callable[[Stage], None],
        on_marked: Callable[[], None],
    ) -> None:
        self._syncs = syncs
        self._ledger = ledger
        self._holder = holder
        self._on_stage = on_stage
        self._on_marked = on_marked
        self._read = 0
        self.sync: SyncRun | None = None
        self.is_marked = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Open a sync or go on with the one that is open, until it has ended or `stop` is set."""
        sync = self.sync = await self._syncs.begin()
        channel = self._syncs.channel
        log.info("sync.started", channel=channel, sync=sync.number, is_resumed=not sync.is_new)
        if not sync.is_marked and not await self._mark(sync, stop):
            return
        self.is_marked.set()
        told_at = clock.monotonic()
        while not stop.is_set():
            began = clock.monotonic()
            try:
                await self._ledger.end_sync()
                progress = await self._syncs.progress(sync)
            except StoreUnavailable as error:
                log.warning("sync.database_awaited", channel=channel, reason=str(error))
                await clock.wait_any(_LOOK_S, stop)
                continue
            self._on_stage(Stage(self._read, progress))
            if progress.is_finished:
                return
            now = clock.monotonic()
            if now - told_at >= _TELL_S:
                told_at = now
                self._tell(progress)
            await clock.wait_any(max(_LOOK_S, _COST * (now - began)), stop)

    def _tell(self, progress: SyncProgress) -> None:
        log.info(
            "sync.progress_made",
            channel=self._syncs.channel,
            total=progress.total,
            waiting=progress.waiting,
            confirming=progress.confirming,
            is_sent_here=self._holder in progress.holders,
            trouble=progress.trouble,
        )

    async def _mark(self, sync: SyncRun, stop: asyncio.Event) -> bool:
        """Queue every SKU of the listing; those queued before an interruption stay where they are."""
        began = clock.monotonic()
        marked = 0
        async with aclosing(self._syncs.portions(_PORTION)) as portions:
            async for portion in portions:
                marked += await self._syncs.mark(sync, portion)
                self._read += len(portion)
                self._on_stage(Stage(self._read, None))
                self._on_marked()
                if stop.is_set():
                    return False
        await self._syncs.end_marking(sync, self._read)
        log.info(
            "sync.listing_marked",
            channel=self._syncs.channel,
            listed=self._read,
            marked=marked,
            duration_ms=round((clock.monotonic() - began) * 1000, 1),
        )
        return True
