"""Keeps the lease of one lane, serves the lane while it is ours, and gives it up."""

import asyncio
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.store.lanes import Lanes
from daemon.store.ledger import Owner

log = structlog.get_logger(__name__)

_UNTRUSTED: Final = 0.1
"""The last part of a lease that is not relied on: for clocks that drift and a loop that is late."""


class Tenure:
    """The time for which a lane is ours. `trusted_until` (monotonic seconds) moves on with every renewal."""

    def __init__(self, owner: Owner, trusted_until: float) -> None:
        self.owner = owner
        self.trusted_until = trusted_until

    def is_trusted(self, now: float) -> bool:
        """Whether a request may start: after this time another replica may own the lane."""
        return now < self.trusted_until


class Server(Protocol):
    """What is run while the lane is ours; it ends when `stop` is set, and is cancelled when the lane is lost."""

    async def run(self, tenure: Tenure, stop: asyncio.Event) -> None: ...


class LaneKeeper:
    """Runs `server` while a lane is ours, and keeps the lease meanwhile."""

    def __init__(self, lanes: Lanes, lease: timedelta, server: Server) -> None:
        self._lanes = lanes
        self._lease = lease
        self._server = server

    def tenure(self, owner: Owner, asked_at: float) -> Tenure:
        """A lane that has been taken; it was asked for at `asked_at` (monotonic seconds)."""
        return Tenure(owner, asked_at + self._trusted_s)

    async def keep(self, tenure: Tenure, stop: asyncio.Event) -> None:
        """Serve until stopped, and give the lane up then; or until the lease is lost."""
        lane = tenure.owner.lane
        log.info("lane.lease_taken", lane=lane, epoch=tenure.owner.epoch, holder=tenure.owner.holder)
        serving = asyncio.create_task(self._server.run(tenure, stop), name=f"serve-{lane}")
        renewing = asyncio.create_task(self._renew(tenure), name=f"renew-{lane}")
        try:
            # Whichever ends first: the server has stopped or failed, or the lease is lost.
            await asyncio.wait((serving, renewing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_lost = renewing.done() and not renewing.cancelled()
            for task in (serving, renewing):
                if not task.done():
                    task.cancel()
            results = await asyncio.gather(serving, renewing, return_exceptions=True)
        if not is_lost:
            await self._give_up(tenure.owner)
        for result in results:
            if isinstance(result, Exception):
                raise result

    @property
    def _trusted_s(self) -> float:
        return self._lease.total_seconds() * (1 - _UNTRUSTED)

    async def _renew(self, tenure: Tenure) -> None:
        """Renew until the lease is lost; a database that is away for a moment is not a lost lease."""
        pause = self._lease.total_seconds() / 4
        while True:
            await asyncio.sleep(min(pause, max(0.05, tenure.trusted_until - clock.monotonic())))
            before = clock.monotonic()
            if before >= tenure.trusted_until:
                log.error("lane.lease_expired", lane=tenure.owner.lane, epoch=tenure.owner.epoch)
                return
            try:
                async with asyncio.timeout(tenure.trusted_until - before):
                    is_kept = await self._lanes.renew(tenure.owner, self._lease)
            except (StockrelayError, TimeoutError) as error:
                log.warning(
                    "lane.lease_unavailable", lane=tenure.owner.lane, reason=str(error) or "no answer in time"
                )
                pause = min(0.5, self._lease.total_seconds() / 8)
                continue
            if not is_kept:
                log.error("lane.lease_lost", lane=tenure.owner.lane, epoch=tenure.owner.epoch)
                return
            tenure.trusted_until = before + self._trusted_s
            pause = self._lease.total_seconds() / 4

    async def _give_up(self, owner: Owner) -> None:
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                await self._lanes.give_up(owner)
        except (StockrelayError, TimeoutError) as error:
            log.warning("lane.lease_unavailable", lane=owner.lane, reason=str(error) or "no answer in time")
            return
        log.info("lane.lease_released", lane=owner.lane, epoch=owner.epoch)
