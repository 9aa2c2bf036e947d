"""The claim loop: claims due rows of the slots that this process owns while there is room for them."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import AT_ONCE, Interval
from daemon.core.dispatching import (
    ROWS_IN_SHADOW,
    ClaimSize,
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
from daemon.services.dispatch.owned import OwnedSlots, QueuedAttempt
from daemon.services.dispatch.ports import DeliveryLedger
from daemon.services.dispatch.sending import Sender
from daemon.services.dispatch.syncing import BLOCKED_S, SyncClaims
from daemon.services.dispatch.writing import OutcomeWriter
from daemon.services.loop import Pace, run_loop
from daemon.services.throttle import RequestThrottle
from daemon.store.ledger import Claim, Owner

log = structlog.get_logger(__name__)

_BACKLOG_LOOK_S: Final = 0.25
_LOCKED: Final = Interval(0.1, is_wakeable=False)
_PACE: Final = Pace(0.0, longest_step_s=30.0, base=timedelta(seconds=0.2), cap=timedelta(seconds=30))
_COMPARE_AGAIN_S: Final = 30.0
_SHADOW_PAUSE_S: Final = 0.1
"""Between claims in shadow, which no marketplace's rate slows down."""
_PORTION: Final = 1000
"""Rows that become due in one statement when a channel is live again."""


@dataclass(eq=False)
class Deferrals:
    """Numbers that the guard would hold, but that no reading has counted, are deferred until one has: `read_changes`
    has the changes read; if the same numbers are deferred again, `compare_all` has the whole listing compared."""

    channel: Channel
    _deferred: set[Sku] = field(default_factory=set)
    _compared_at: float = -math.inf
    read_changes: Callable[[], None] = lambda: None
    compare_all: Callable[[], None] = lambda: None

    def note(self, skus: Sequence[Sku], now: float) -> None:
        if self._deferred.isdisjoint(skus):
            self.read_changes()
        elif now - self._compared_at > _COMPARE_AGAIN_S:
            self._compared_at = now
            log.warning("dispatch.numbers_deferred", channel=self.channel.name, numbers=len(skus))
            self.compare_all()
        self._deferred = set(skus)


@dataclass(eq=False)
class ClaimLoop:
    """Claims, rescues what an earlier owner has left open, and serves a sync beside the changes."""

    channel: Channel
    owned: OwnedSlots
    ledger: DeliveryLedger
    sender: Sender
    writer: OutcomeWriter
    deferrals: Deferrals
    throttle: RequestThrottle
    keep_trouble: Callable[[], Awaitable[None]]
    _is_locked: bool = False
    _look_at: float = -math.inf
    _has_shadow: bool = True
    _was_shadowed: bool = False

    def __post_init__(self) -> None:
        self._sync = SyncClaims(self.channel, self.owned, self.ledger, partial(self._take_on, is_sync=True))

    async def run(self, stop: asyncio.Event, watchdog: Watchdog) -> None:
        """Claim until stopped."""

        async def step() -> Interval:
            self.channel.log_parked()
            size = self._next_claim()
            if size is None:
                await self._wait_for_room(stop)
                return AT_ONCE
            return Interval(await self._claim(size))

        await run_loop(step, stop, watchdog, _PACE, self._on_failure, self.channel.due)

    def _next_claim(self) -> ClaimSize | None:
        if not len(self.owned):
            return None
        if self.channel.is_shadowed:
            return ClaimSize(ROWS_IN_SHADOW, is_urgent_only=False)
        return next_claim(
            allowance=self.channel.breaker.allowance(clock.monotonic()),
            queued=len(self.sender.queue),
            claim_size=self.channel.claim_size,
            in_flight=self.owned.in_flight,
            is_urgent=self.channel.urgent.is_set(),
        )

    async def _wait_for_room(self, stop: asyncio.Event) -> None:
        channel = self.channel
        channel.urgent.clear()
        channel.room.clear()
        poll_s = channel.limits.poll.total_seconds()
        pause_s = until_room_s(poll_s, channel.breaker.next_probe_at, clock.monotonic())
        await clock.wait_any(pause_s, channel.room, channel.urgent, stop)

    async def _claim(self, size: ClaimSize) -> float:
        """Claim once; return for how many seconds there is nothing to claim."""
        channel = self.channel
        channel.urgent.clear()
        channel.due.clear()
        await self._rescue()
        owner = self.owned.begin_claim()
        if not owner.epochs:
            return channel.limits.poll.total_seconds()
        try:
            await self._end_shadow(owner)
            pause_s = await self._claim_from(owner, size)
        finally:
            self.owned.end_claim()
        self._is_locked = False
        if channel.failing is not None:
            channel.failing = None
            await self.keep_trouble()
        return pause_s

    async def _claim_from(self, owner: Owner, size: ClaimSize) -> float:
        channel = self.channel
        claim = await self.ledger.claim(
            owner,
            size.rows,
            channel.limits.settle,
            is_urgent_only=size.is_urgent_only,
            is_shadow=channel.limits.is_shadow,
            take_on=partial(self._take_on, owner, clock.monotonic()),
        )
        self.throttle.done(is_vain=claim.captured == 0)
        if claim.is_live is not None:
            self._note_live(is_live=claim.is_live)
        is_more = size.is_urgent_only or claim.captured >= size.rows
        if channel.is_shadowed and claim.captured:
            return BLOCKED_S if claim.is_blocked else _SHADOW_PAUSE_S
        await self._choose_batches(owner, is_more=is_more)
        if is_more:
            await self._sync.share_time(owner)
            return BLOCKED_S if claim.is_blocked else 0.0
        return await self._until_due_s(owner)

    async def _rescue(self) -> None:
        owner, in_flight = self.owned.take_unrescued()
        if not owner.epochs:
            return
        self._has_shadow = True
        if not self.channel.has_acknowledged:
            self.channel.has_acknowledged = await self.ledger.has_acknowledged()
        rescued = await self.ledger.rescue(owner, in_flight, self.channel.limits.settle)
        await self.keep_trouble()
        if rescued:
            log.warning("dispatch.attempts_rescued", channel=self.channel.name, attempts=rescued)

    async def _end_shadow(self, owner: Owner) -> None:
        """Make what was claimed in shadow due, a portion before each claim."""
        if self._has_shadow and not self.channel.limits.is_shadow:
            self._has_shadow = await self.ledger.end_shadow(owner.epochs, _PORTION) == _PORTION

    def _note_live(self, *, is_live: bool) -> None:
        channel = self.channel
        if is_live and not channel.is_live:
            self._has_shadow = True
            channel.due.set()
        channel.is_live = is_live
        if channel.is_shadowed != self._was_shadowed:
            self._was_shadowed = channel.is_shadowed
            if channel.is_shadowed:
                why = "mode" if channel.limits.is_shadow else "not live"
                log.warning("dispatch.shadow_begun", channel=channel.name, why=why)
            else:
                log.info("dispatch.shadow_ended", channel=channel.name)

    def _take_on(self, owner: Owner, claimed_at: float, claim: Claim, *, is_sync: bool = False) -> None:
        """Have the claimed attempts sent. Those of slots that are being given up go back."""
        self._note(claim)
        taken = self.owned.take_on(owner, claim.attempts, claimed_at)
        kept: list[QueuedAttempt] = []
        for claimed in taken:
            if self.owned.is_released(claimed.attempt.slot):
                self.writer.give_back(claimed, "its slot is given up")
            else:
                kept.append(claimed)
        if is_sync:
            self.owned.begin_sync_call(taken)
            self.sender.sync_calls.put_nowait(kept)
        else:
            self.sender.queue.put(kept)

    def _note(self, claim: Claim) -> None:
        channel = self.channel
        for sku, reason in claim.parked.items():
            channel.counts["parked"] += 1
            channel.parked_lines.add({"sku": sku, "reason": reason})
        channel.log_parked()
        for sku in claim.forgotten:
            log.info("dispatch.sku_forgotten", channel=channel.name, sku=sku)
        channel.counts["settled"] += len(claim.settled)
        for push, is_new in claim.shadowed:
            channel.counts["shadowed"] += is_new
            if is_new:
                log.info(
                    "dispatch.delivery_shadowed", channel=channel.name, sku=push.sku, quantity=push.quantity
                )
        if claim.deferred:
            self.deferrals.note(claim.deferred, clock.monotonic())

    async def _until_due_s(self, owner: Owner) -> float:
        """Nothing is due now: serve a sync, and return for how many seconds there is nothing to claim."""
        due = await self.ledger.next_due(owner.epochs)
        self._note_live(is_live=due.is_live)
        pause_s = until_due_s(self.channel.limits.poll.total_seconds(), due.change)
        if self.channel.is_shadowed:
            return pause_s
        return min(pause_s, await self._sync.serve(owner, due.sync))

    async def _choose_batches(self, owner: Owner, *, is_more: bool) -> None:
        """Batch while the backlog is above the threshold, and until it has been claimed and sent."""
        channel, queued = self.channel, len(self.sender.queue)
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
        if await self.ledger.is_backlog_above(above, owner.epochs):
            channel.is_batching = True
            log.info(
                "dispatch.batches_begun",
                channel=channel.name,
                batch=channel.most_per_call,
                batch_above=channel.limits.batch_above,
            )

    def _on_failure(self, error: StockrelayError) -> Interval | None:
        channel = self.channel
        if isinstance(error, TableLocked):
            # It waits for the lock each time, and has it as soon as the ERP's transaction ends.
            if not self._is_locked:
                log.warning("dispatch.claim_delayed", channel=channel.name, reason=str(error))
            self._is_locked = True
            return _LOCKED
        # The claim's commit may have happened although the answer was lost: nothing of it is sent, and its open
        # attempts are rescued before the next claim.
        self.owned.rescue_before_next_claim()
        if isinstance(error, StoreUnavailable):
            log.warning("dispatch.claim_delayed", channel=channel.name, reason=str(error))
        else:
            log.error("dispatch.claim_failed", channel=channel.name, reason=str(error))
            # Recorded for `status` with the next rescue.
            advice = "run `stockrelay check`: it runs the listing and shows where it fails"
            channel.failing = Outcome(Kind.TROUBLE, str(error)[:300], Trouble.LISTING, advice=advice)
        return None
