"""One lane: taken, kept, served while it is ours, given up (DESIGN.md 2.4)."""

import asyncio
from datetime import timedelta
from typing import Final, Protocol

import structlog

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.types import ChannelName, Lane
from daemon.store.lanes import Lanes
from daemon.store.ledger import Owner

log = structlog.get_logger(__name__)

_UNTRUSTED: Final = 0.1
"""The last part of a lease that is not relied on: for clocks that drift and a loop that is late."""
_LOOK_S: Final = 1.0
"""How often a replica without the lane looks whether it is free."""


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
    """Takes one lane when it is free, and runs `server` for as long as it is ours."""

    def __init__(
        self, lanes: Lanes, lane: Lane, channel: ChannelName, holder: str, lease: timedelta, server: Server
    ) -> None:
        self._lanes = lanes
        self.lane = lane
        self.channel = channel
        self._holder = holder
        self._lease = lease
        self._server = server
        self.tenure: Tenure | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until told to stop."""
        is_made = False
        while not stop.is_set():
            before = clock.monotonic()
            try:
                if not is_made:
                    await self._lanes.make(self.lane)
                    is_made = True
                owner = await self._lanes.take(self.lane, self._holder, self._lease)
            except StockrelayError as error:
                log.warning("lane.lease_unavailable", lane=self.lane, reason=str(error))
                owner = None
            if owner is None:
                await clock.wait_any(_LOOK_S, stop)
                continue
            log.info("lane.lease_taken", lane=self.lane, epoch=owner.epoch, holder=self._holder)
            await self._serve(Tenure(owner, before + self._trusted_s), stop)

    @property
    def _trusted_s(self) -> float:
        return self._lease.total_seconds() * (1 - _UNTRUSTED)

    async def _serve(self, tenure: Tenure, stop: asyncio.Event) -> None:
        self.tenure = tenure
        serving = asyncio.create_task(self._server.run(tenure, stop), name=f"serve-{self.lane}")
        renewing = asyncio.create_task(self._renew(tenure), name=f"renew-{self.lane}")
        try:
            # Whichever ends first: the server has stopped or failed, or the lease is lost.
            await asyncio.wait((serving, renewing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_lost = renewing.done() and not renewing.cancelled()
            self.tenure = None
            for task in (serving, renewing):
                if not task.done():
                    task.cancel()
            results = await asyncio.gather(serving, renewing, return_exceptions=True)
        if not is_lost:
            await self._give_up(tenure.owner)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _renew(self, tenure: Tenure) -> None:
        """Renew until the lease is lost; a database that is away for a moment is not a lost lease."""
        pause = self._lease.total_seconds() / 4
        while True:
            await asyncio.sleep(min(pause, max(0.05, tenure.trusted_until - clock.monotonic())))
            before = clock.monotonic()
            if before >= tenure.trusted_until:
                log.error("lane.lease_expired", lane=self.lane, epoch=tenure.owner.epoch)
                return
            try:
                async with asyncio.timeout(tenure.trusted_until - before):
                    is_kept = await self._lanes.renew(tenure.owner, self._lease)
            except (StockrelayError, TimeoutError) as error:
                log.warning(
                    "lane.lease_unavailable", lane=self.lane, reason=str(error) or "no answer in time"
                )
                pause = min(0.5, self._lease.total_seconds() / 8)
                continue
            if not is_kept:
                log.error("lane.lease_lost", lane=self.lane, epoch=tenure.owner.epoch)
                return
            tenure.trusted_until = before + self._trusted_s
            pause = self._lease.total_seconds() / 4

    async def _give_up(self, owner: Owner) -> None:
        try:
            async with asyncio.timeout(self._lease.total_seconds()):
                await self._lanes.give_up(owner)
        except (StockrelayError, TimeoutError) as error:
            log.warning("lane.lease_unavailable", lane=self.lane, reason=str(error) or "no answer in time")
            return
        log.info("lane.lease_released", lane=self.lane, epoch=owner.epoch)
