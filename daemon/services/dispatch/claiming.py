"""The claim loop: claims due rows of the slots that are ours while there is room for them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.dispatching import (
    Plan,
    next_claim,
    should_begin_batches,
    should_end_batches,
    until_due_s,
    until_room_s,
)
from daemon.core.errors import StockrelayError, StoreUnavailable, TableLocked
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.types import Sku
from daemon.liveness import Watchdog
from daemon.services.dispatch.channel import Channel
from daemon.services.dispatch.owned import OwnedSlots
from daemon.services.dispatch.ports import DeliveryLedger
from daemon.services.dispatch.sending import Sender
from daemon.services.dispatch.syncing import SyncClaims
from daemon.services.dispatch.writing import OutcomeWriter
from daemon.services.throttle import RequestThrottle
from daemon.store.ledger import Claim, Owner

log = structlog.get_logger(__name__)

_BACKLOG_LOOK_S: Final = 0.25
_LOCKED_RETRY_S: Final = 0.1
_RETRY_BASE: Final = timedelta(seconds=0.2)
_SLOWEST_RETRY: Final = timedelta(seconds=30)
_COMPARE_AGAIN_S: Final = 30.0


class Deferrals:
    """Wrong numbers that no marking has counted wait for one: `read_changes` has the changes read; if that brings
    nothing (they were marked without looking), `compare_all` has the whole listing compared."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._deferred: set[Sku] = set()
        self._compared_at = float("-inf")
        self.read_changes: Callable[[], None] = lambda: None
        self.compare_all: Callable[[], None] = lambda: None

    def note(self, skus: Sequence[Sku], now: float) -> None:
        """A claim has deferred these."""
        if self._deferred.isdisjoint(skus):
            self.read_changes()
        elif now - self._compared_at > _COMPARE_AGAIN_S:
            self._compared_at = now
            log.warning("dispatch.numbers_deferred", channel=self._channel.name, numbers=len(skus))
            self.compare_all()
        self._deferred = set(skus)


class ClaimLoop:
    """Claims, rescues what an earlier owner has left open, and serves a sync beside the changes."""

    def __init__(
        self,
        channel: Channel,
        owned: OwnedSlots,
        ledger: DeliveryLedger,
        sender: Sender,
        writer: OutcomeWriter,
        deferrals: Deferrals,
        throttle: RequestThrottle,
        keep_trouble: Callable[[], Awaitable[None]],
    ) -> None:
        self._channel = channel
        self._owned = owned
        self._ledger = ledger
        self._sender = sender
        self._writer = writer
        self._deferrals = deferrals
        self._throttle = throttle
        self._keep_trouble = keep_trouble
        self._sync = SyncClaims(channel, owned, ledger, self._take_on_sync)
        self._is_locked = False
        self._look_at = float("-inf")

    async def run(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        """Claim until stopped."""
        failures = 0
        with watchdog:
            while not stop.is_set():
                watchdog.beat(_SLOWEST_RETRY.total_seconds())
                self._channel.log_parked()
                plan = self._next_claim()
                if plan is None:
                    await self._wait_for_room(stop)
                    continue
                try:
                    pause_s = await self._claim(plan)
                    failures = 0
                except StockrelayError as error:
                    failures += 1
                    await clock.wait_any(self._pause_after(error, failures), stop)
                    continue
                if pause_s > 0:
                    await clock.wait_any(pause_s, self._channel.due, stop)

    def _next_claim(self) -> Plan | None:
        if not len(self._owned):
            return None
        return next_claim(
            allowance=self._channel.breaker.allowance(clock.monotonic()),
            queued=len(self._sender.queue),
            batch=self._channel.batch,
            in_hand=self._owned.in_hand,
            is_urgent=self._channel.urgent.is_set(),
        )

    async def _wait_for_room(self, stop: asyncio.Event) -> None:
        channel = self._channel
        channel.urgent.clear()
        channel.room.clear()
        poll_s = channel.limits.poll.total_seconds()
        pause_s = until_room_s(poll_s, channel.breaker.next_probe_at, clock.monotonic())
        await clock.wait_any(pause_s, channel.room, channel.urgent, stop)

    async def _claim(self, plan: Plan) -> float:
        """Claim once; return for how many seconds there is nothing to claim."""
        channel = self._channel
        channel.urgent.clear()
        channel.due.clear()
        await self._rescue()
        owner = self._owned.begin_claim()
        if not owner.epochs:
            return channel.limits.poll.total_seconds()
        try:
            pause_s = await self._claim_from(owner, plan)
        finally:
            self._owned.end_claim()
        self._is_locked = False
        if channel.failing is not None:
            channel.failing = None
            await self._keep_trouble()
        return pause_s

    async def _claim_from(self, owner: Owner, plan: Plan) -> float:
        channel = self._channel
        claim = await self._ledger.claim(
            owner,
            plan.rows,
            channel.limits.settle,
            is_urgent_only=plan.is_urgent_only,
            take_on=partial(self._take_on, owner, clock.monotonic()),
        )
        self._throttle.done(is_vain=claim.looked_at == 0)
        is_more = plan.is_urgent_only or claim.looked_at >= plan.rows
        await self._choose_batches(owner, is_more=is_more)
        if is_more:
            await self._sync.share_time(owner)
            return 0.0
        return await self._until_due_s(owner)

    async def _rescue(self) -> None:
        owner, in_hand = self._owned.take_unrescued()
        if not owner.epochs:
            return
        rescued = await self._ledger.rescue(owner, in_hand, self._channel.limits.settle)
        await self._keep_trouble()
        if rescued:
            log.warning("dispatch.attempts_rescued", channel=self._channel.name, attempts=rescued)

    def _take_on(self, owner: Owner, claimed_at: float, claim: Claim) -> None:
        self._note(claim)
        for claimed in self._owned.take_on(owner, claim.attempts, claimed_at):
            if self._owned.is_released(claimed.attempt.slot):
                self._writer.give_back(claimed, "its slot is given up")
            else:
                self._sender.put(claimed)

    def _take_on_sync(self, owner: Owner, claimed_at: float, claim: Claim) -> None:
        self._note(claim)
        taken = self._owned.take_on(owner, claim.attempts, claimed_at)
        staying = [one for one in taken if not self._owned.is_released(one.attempt.slot)]
        for claimed in taken:
            if claimed not in staying:
                self._writer.give_back(claimed, "its slot is given up")
        self._owned.begin_sync_call(taken)
        self._sender.put_sync(staying)

    def _note(self, claim: Claim) -> None:
        channel = self._channel
        for sku, reason in claim.parked.items():
            channel.counts["parked"] += 1
            channel.parked_lines.add({"sku": sku, "reason": reason})
        channel.log_parked()
        for sku in claim.forgotten:
            log.info("dispatch.sku_forgotten", channel=channel.name, sku=sku)
        channel.counts["settled"] += len(claim.settled)
        if claim.deferred:
            self._deferrals.note(claim.deferred, clock.monotonic())

    async def _until_due_s(self, owner: Owner) -> float:
        """Nothing is due now: serve a sync, and return for how many seconds there is nothing to claim."""
        due = await self._ledger.next_due(owner.epochs)
        pause_s = until_due_s(self._channel.limits.poll.total_seconds(), due.change)
        return min(pause_s, await self._sync.serve(owner, due.sync))

    async def _choose_batches(self, owner: Owner, *, is_more: bool) -> None:
        """SKUs share calls from when the backlog is above the threshold until it is claimed and sent."""
        channel, queued = self._channel, len(self._sender.queue)
        if channel.is_batching:
            if should_end_batches(is_more=is_more, queued=queued, concurrency=channel.share.concurrency):
                channel.is_batching = False
                log.info("dispatch.batches_ended", channel=channel.name)
            return
        now, above = clock.monotonic(), channel.share.batch_above
        if not should_begin_batches(
            batch_above=above,
            most_per_call=channel.most_per_call,
            is_more=is_more,
            now=now,
            look_at=self._look_at,
        ):
            return
        self._look_at = now + _BACKLOG_LOOK_S
        if await self._ledger.is_backlog_above(above, owner.epochs):
            channel.is_batching = True
            log.info(
                "dispatch.batches_begun",
                channel=channel.name,
                batch=channel.most_per_call,
                batch_above=channel.limits.batch_above,
            )

    def _pause_after(self, error: StockrelayError, failures: int) -> float:
        """Note why a claim failed; return for how long not to try again."""
        channel = self._channel
        if isinstance(error, TableLocked):
            # It waits for the lock each time, and has it as soon as the ERP's transaction ends.
            if not self._is_locked:
                log.warning("dispatch.claim_delayed", channel=channel.name, reason=str(error))
            self._is_locked = True
            return _LOCKED_RETRY_S
        # The claim's commit may have happened although the answer was lost: nothing of it is sent, and its open
        # attempts are rescued before the next claim.
        self._owned.rescue_all()
        if isinstance(error, StoreUnavailable):
            log.warning("dispatch.claim_delayed", channel=channel.name, reason=str(error))
        else:
            log.error("dispatch.claim_failed", channel=channel.name, reason=str(error))
            # Kept where `status` finds it when the next try rescues.
            advice = "run `stockrelay check`: it runs the listing and shows where it fails"
            channel.failing = Outcome(Kind.TROUBLE, str(error)[:300], Trouble.LISTING, advice=advice)
        return backoff(failures, _RETRY_BASE, _SLOWEST_RETRY, clock.jitter()).total_seconds()
