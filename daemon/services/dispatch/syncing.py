"""Claims the calls of a sync, one at a time, beside the changes."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.core.dispatching import sync_pause_s, until_due_s
from daemon.services.dispatch.channel import Channel
from daemon.services.dispatch.owned import OwnedSlots
from daemon.services.dispatch.ports import DeliveryLedger
from daemon.store.ledger import Claim, Owner

log = structlog.get_logger(__name__)

BLOCKED_S: Final = 0.1
"""Another session has locked the rows that are due: each claim reads the listing for them."""


@dataclass(eq=False)
class SyncClaims:
    """A sync's next call is claimed when the ledger has the outcomes of the one before."""

    channel: Channel
    owned: OwnedSlots
    ledger: DeliveryLedger
    take_on: Callable[[Owner, float, Claim], None]
    _may_be_open: bool = True
    _share_at: float = float("-inf")

    async def share_time(self, owner: Owner) -> None:
        """Give the sync one call in ten while changes keep coming: they may never be fewer than the rate allows."""
        began = clock.monotonic()
        if began < self._share_at or not self.channel.is_open_for_many():
            return
        await self.serve(owner, (await self.ledger.next_due(owner.epochs)).sync)
        now = clock.monotonic()
        self._share_at = now + sync_pause_s(self.channel.share.rate_per_s, now - began)

    async def serve(self, owner: Owner, due: timedelta | None) -> float:
        """Claim the next call if it is due, or end the sync; return for how many seconds it needs nothing."""
        poll_s = self.channel.limits.poll.total_seconds()
        if self.owned.has_sync_call:
            return poll_s
        if due is None:
            await self._end()
            return poll_s
        allowance = self.channel.breaker.allowance(clock.monotonic())
        if due > timedelta(0) or not allowance:
            return until_due_s(poll_s, due)
        return await self._claim(owner, min(self.channel.most_per_call, allowance))

    async def _claim(self, owner: Owner, most: int) -> float:
        claim = await self.ledger.claim(
            owner,
            most,
            self.channel.limits.settle,
            is_sync=True,
            take_on=partial(self.take_on, owner, clock.monotonic()),
        )
        self._may_be_open = True
        if claim.attempts:
            return self.channel.limits.poll.total_seconds()
        # Where all of them were parked, the next are claimed at once.
        return 0.0 if claim.captured and not claim.is_blocked else BLOCKED_S

    async def _end(self) -> None:
        if self._may_be_open:
            ended, self._may_be_open = await self.ledger.end_sync()
            if ended is not None:
                log.info("dispatch.sync_ended", channel=self.channel.name, sync=ended)
