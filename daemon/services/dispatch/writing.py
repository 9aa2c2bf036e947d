"""Writes the outcomes of attempts as they come."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.errors import BadRow, StockrelayError
from daemon.core.outcome import Conclusion, Kind
from daemon.services.dispatch.channel import Channel
from daemon.services.dispatch.owned import OwnedSlots, QueuedAttempt
from daemon.services.dispatch.ports import DeliveryLedger, Observer
from daemon.store.ledger import Completion, Written

log = structlog.get_logger(__name__)

_MOST_WRITTEN: Final = 500
_MANY_AT_ONCE: Final = 8
_GATHER_S: Final = 0.02
"""Outcomes that come fast are gathered this long: a statement for a few costs nearly as much as one for many."""
_RETRY_BASE: Final = timedelta(seconds=0.2)
_RETRY_CAP: Final = timedelta(seconds=5)


@dataclass(eq=False)
class OutcomeWriter:
    """Writes outcomes, many in one statement when they come fast. What can't be written is kept: the attempt stays
    open, so the SKU is not sent again meanwhile."""

    channel: Channel
    owned: OwnedSlots
    ledger: DeliveryLedger
    observer: Observer | None
    _done: list[Completion] = field(default_factory=list)
    _has_done: asyncio.Event = field(default_factory=asyncio.Event)

    def finish(self, claimed: QueuedAttempt, conclusion: Conclusion, duration: timedelta | None) -> None:
        """An attempt has ended. `duration` is None when nothing was sent."""
        attempt = claimed.attempt
        self._done.append(
            Completion(attempt.push.sku, attempt.slot, attempt.attempt_id, conclusion, duration)
        )
        if self.observer is not None:
            seconds = None if duration is None else duration.total_seconds()
            self.observer.attempted(self.channel.name, conclusion.outcome, seconds)
        self._has_done.set()

    def give_back(self, claimed: QueuedAttempt, reason: str) -> None:
        """Nothing was sent: the row is due again."""
        self.channel.counts["not_sent"] += 1
        self.finish(claimed, Conclusion(Kind.NOT_SENT, reason), None)

    async def run(self) -> None:
        while True:
            await self._has_done.wait()
            self._has_done.clear()
            while self._done:
                batch = self._done[:_MOST_WRITTEN]
                del self._done[:_MOST_WRITTEN]
                await self._write(batch)
                if len(batch) >= _MANY_AT_ONCE:
                    await asyncio.sleep(_GATHER_S)

    async def _write(self, batch: list[Completion]) -> None:
        is_due, took_s = await self._written(batch)
        has_ended_sync_call = self.owned.finish(batch)
        if self.observer is not None:
            for latency_s in took_s:
                self.observer.delivered(self.channel.name, latency_s)
        if is_due or has_ended_sync_call:
            self.channel.due.set()
        if self.owned.none_in_flight.is_set():
            self.channel.room.set()

    async def _written(self, batch: list[Completion]) -> Written:
        failures = 0
        while True:
            try:
                return await self.ledger.complete(self.owned.holder, batch, self.channel.limits.settle)
            except BadRow as error:
                return await self._written_apart(batch, error)
            except StockrelayError as error:
                failures += 1
                log.warning(
                    "dispatch.outcomes_delayed",
                    channel=self.channel.name,
                    outcomes=len(batch),
                    reason=str(error),
                )
                pause = backoff(failures, _RETRY_BASE, _RETRY_CAP, clock.jitter())
                await asyncio.sleep(pause.total_seconds())

    async def _written_apart(self, batch: list[Completion], error: BadRow) -> Written:
        """Split outcomes of which the database refuses one until that one is alone; write it without its words."""
        if len(batch) > 1:
            half = len(batch) // 2
            first, second = await self._written(batch[:half]), await self._written(batch[half:])
            return Written(first.is_due or second.is_due, [*first.took_s, *second.took_s])
        done = batch[0]
        if done.conclusion.reason:
            return await self._written([done._replace(conclusion=done.conclusion._replace(reason=""))])
        log.error("dispatch.outcome_lost", channel=self.channel.name, sku=done.sku, reason=str(error))
        # Nobody waits for the attempt any more: it is turned into doubt before the next claim.
        self.owned.rescue_before_next_claim()
        self.channel.due.set()
        return Written(is_due=False, took_s=())
