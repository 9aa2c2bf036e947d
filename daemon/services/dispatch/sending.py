"""Sends what was claimed: within the rate, past the circuit breaker, under leases that are trusted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import structlog

from daemon import clock
from daemon.core.breaker import Ticket, Transition, refusals_to_open
from daemon.core.dispatching import may_join, reason_to_give_back
from daemon.core.outcome import GONE, Conclusion, Kind, Outcome, conclude
from daemon.core.types import Slot
from daemon.services.dispatch.channel import Channel
from daemon.services.dispatch.owned import OwnedSlots, QueuedAttempt, SendQueue
from daemon.services.dispatch.ports import PushClient
from daemon.services.dispatch.writing import OutcomeWriter

log = structlog.get_logger(__name__)

_NEVER_PARK: Final = 2**31
_OTHERS_PASS_WITHIN_S: Final = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """A request that is under way: the attempts that share it, the breaker's ticket, and when it was sent."""

    attempts: Sequence[QueuedAttempt]
    ticket: Ticket
    sent_at: float


@dataclass(eq=False)
class Sender:
    """Sends as many requests at a time as the owned slots' part of the channel's concurrency allows, and one call of a
    sync beside them: a crash leaves one call of a sync open."""

    channel: Channel
    owned: OwnedSlots
    client: PushClient
    writer: OutcomeWriter
    on_breaker: Callable[[Transition, Outcome], Awaitable[None]]
    queue: SendQueue = field(default_factory=SendQueue)
    sync_calls: asyncio.Queue[list[QueuedAttempt]] = field(default_factory=asyncio.Queue)
    _sync_rest: list[QueuedAttempt] = field(default_factory=list)
    _rate_queue: asyncio.Lock = field(default_factory=asyncio.Lock)
    _under_way: dict[asyncio.Task[None], _Call] = field(default_factory=dict)
    _workers: set[asyncio.Task[None]] = field(default_factory=set)
    _sync_worker: asyncio.Task[None] | None = None
    _group: asyncio.TaskGroup | None = None

    def start(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self.resize()

    def stop(self) -> None:
        """Cancel all requests."""
        self._group = None
        for task in (*self._workers, self._sync_worker):
            if task is not None:
                task.cancel()

    def resize(self) -> None:
        """Our part of the channel's slots has changed: add workers. One too many ends when its call has."""
        if self._group is None:
            return
        name = self.channel.name
        while len(self._workers) < self.channel.share.concurrency:
            self._workers.add(self._group.create_task(self._work(), name=f"send-{name}"))
        if self._sync_worker is None:
            self._sync_worker = self._group.create_task(self._work_on_sync(), name=f"send-sync-{name}")

    def give_back(self, slots: Sequence[Slot], reason: str) -> None:
        """Return the waiting attempts of these slots unsent: their rows are due again."""
        for claimed in self._take_out(slots):
            self.writer.give_back(claimed, reason)

    def cut_off(self, slots: Sequence[Slot]) -> None:
        """These slots are no longer ours (lease expired, or taken over): drop their waiting attempts, and cut off the
        requests that hold no others. A shared request goes on for the others; the ledger refuses its outcome for these
        by their epochs."""
        self._take_out(slots)
        for task, call in list(self._under_way.items()):
            if all(claimed.attempt.slot in slots for claimed in call.attempts):
                task.cancel()
                self._workers.discard(task)
                if task is self._sync_worker:
                    self._sync_worker = None
        self.resize()

    def _take_out(self, slots: Sequence[Slot]) -> list[QueuedAttempt]:
        while not self.sync_calls.empty():
            self._sync_rest += self.sync_calls.get_nowait()
        taken = [one for one in self._sync_rest if one.attempt.slot in slots]
        self._sync_rest = [one for one in self._sync_rest if one.attempt.slot not in slots]
        if self._sync_rest:
            rest, self._sync_rest = self._sync_rest, []
            self.sync_calls.put_nowait(rest)
        return taken + self.queue.take_out(slots)

    async def _work(self) -> None:
        while True:
            await self.queue.wait()
            if len(self._workers) > self.channel.share.concurrency:
                self.queue.pass_on()
                break
            if call := await self._cleared(self._next_from_queue):
                await self._send(call)
        if (task := asyncio.current_task()) is not None:
            self._workers.discard(task)

    async def _work_on_sync(self) -> None:
        while True:
            self._sync_rest += await self.sync_calls.get()
            while self._sync_rest:
                if call := await self._cleared(self._next_of_sync):
                    await self._send(call)

    def _next_from_queue(self) -> list[QueuedAttempt]:
        """The next attempt and, while batching, those in the queue that may join its call: none waits for a call to
        fill up."""
        call: list[QueuedAttempt] = [self.queue.pop()] if self.queue else []
        if call and self.channel.is_batching:
            names = {call[0].attempt.push.identifiers}
            while self.queue and self._may_join(self.queue.first(), call, names, self.channel.most_per_call):
                call.append(self.queue.pop())
        if len(self.queue) <= self.channel.claim_size // 2:
            self.channel.room.set()
        return call

    def _next_of_sync(self) -> list[QueuedAttempt]:
        call: list[QueuedAttempt] = []
        names: set[tuple[str, ...]] = set()
        while self._sync_rest and self._may_join(self._sync_rest[0], call, names, self.channel.most_per_call):
            call.append(self._sync_rest.pop(0))
        return call

    @staticmethod
    def _may_join(
        claimed: QueuedAttempt, call: Sequence[QueuedAttempt], names: set[tuple[str, ...]], most: int
    ) -> bool:
        attempt = claimed.attempt
        identifiers = attempt.push.identifiers
        if call and not may_join(most, names, call[0].attempt.failures, identifiers, attempt.failures):
            return False
        names.add(identifiers)
        return True

    async def _cleared(self, pick: Callable[[], list[QueuedAttempt]]) -> _Call | None:
        """Wait for the rate, in the order of arrival, then pick the next call; None: nothing of it may be sent.
        Attempts are picked after the wait, so that a stock-out does not wait behind others for the rate."""
        async with self._rate_queue:
            while (wait_s := self.channel.rate.wait_s(clock.monotonic())) > 0:  # noqa: ASYNC110 - it waits for time
                await asyncio.sleep(wait_s)
            # Nothing may be awaited between this check and the sending.
            now = clock.monotonic()
            sent = self._sendable(pick(), now)
            if not sent:
                return None
            self.channel.rate = self.channel.rate.take(now)
            self.channel.breaker, ticket = self.channel.breaker.sent(now)
            return _Call(sent, ticket, now)

    def _sendable(self, picked: Sequence[QueuedAttempt], now: float) -> list[QueuedAttempt]:
        """Give back what may not be sent now. A probe is one attempt."""
        if not picked:
            return []
        allowance = self.channel.breaker.allowance(now)
        max_age_s = self.channel.limits.max_claim_age.total_seconds()
        cleared: list[QueuedAttempt] = []
        for claimed in picked:
            reason = reason_to_give_back(
                now=now,
                claimed_at=claimed.claimed_at,
                max_age_s=max_age_s,
                is_trusted=claimed.lease.is_trusted(now),
                is_allowed=len(cleared) < allowance,
                is_shadow=self.channel.limits.is_shadow,
            )
            if reason is None:
                cleared.append(claimed)
            else:
                self.writer.give_back(claimed, reason)
        return cleared

    async def _send(self, call: _Call) -> None:
        pushes = [claimed.attempt.push for claimed in call.attempts]
        timeout = self.channel.limits.timeout
        task = asyncio.current_task()
        assert task is not None
        self._under_way[task] = call
        try:
            if len(pushes) == 1:
                outcomes = [await self.client.push(pushes[0], timeout)]
            else:
                outcomes = await self.client.push_many(pushes, timeout)
        except Exception as error:
            # Whether the marketplace applied a request whose client failed is not known.
            log.exception("dispatch.client_failed", channel=self.channel.name)
            reason = f"the client failed ({type(error).__name__})"
            outcomes = [Outcome(Kind.UNKNOWN, reason)] * len(pushes)
        except BaseException:
            self._abandon(call)
            raise
        finally:
            del self._under_way[task]
        await self._conclude(call, outcomes)

    def _abandon(self, call: _Call) -> None:
        """A request was cut off; if it was the probe, the next may be sent."""
        now, sku = clock.monotonic(), call.attempts[0].attempt.push.sku
        self.channel.breaker, _ = self.channel.breaker.feed(
            call.ticket, sku, Outcome(Kind.NOT_SENT), now, clock.jitter()
        )
        self.channel.room.set()

    async def _conclude(self, call: _Call, outcomes: Sequence[Outcome]) -> None:
        channel, now = self.channel, clock.monotonic()
        duration = timedelta(seconds=now - call.sent_at)
        # One jitter: those of a call that failed are due together, and share the next ones.
        jitter = clock.jitter()
        # The breaker hears of a call once: an answer about any SKU is an answer.
        answer = outcomes[0]
        for outcome in outcomes:
            if outcome.kind is Kind.APPLIED:
                channel.last_applied, channel.has_acknowledged = now, True
                answer = outcome
                break
            if outcome.is_refusal:
                answer = outcome
        last = channel.last_applied
        change = self._feed(call, answer, now, jitter)
        for claimed, outcome in zip(call.attempts, outcomes, strict=True):
            conclusion = conclude(
                outcome,
                failures=claimed.attempt.failures,
                is_delisting=claimed.attempt.is_delisting,
                do_others_pass=last is not None and now - last < _OTHERS_PASS_WITHIN_S,
                # What failed with others in its call has not failed by itself.
                park_after=channel.limits.park_after if len(call.attempts) == 1 else _NEVER_PARK,
                jitter=jitter,
            )
            if self.owned.has(claimed.lease):
                self._log(claimed, conclusion, duration)
                self.writer.finish(claimed, conclusion, duration)
        if change is not None:
            await self.on_breaker(change, answer)

    def _feed(self, call: _Call, answer: Outcome, now: float, jitter: float) -> Transition | None:
        channel, first = self.channel, call.attempts[0].attempt
        to_open = refusals_to_open(
            answer,
            is_shared=len(call.attempts) > 1,
            is_known=first.is_known,
            has_acknowledged=channel.has_acknowledged,
        )
        channel.breaker, change = channel.breaker.feed(
            call.ticket, first.push.sku, answer, now, jitter, to_open
        )
        return change

    def _log(self, claimed: QueuedAttempt, conclusion: Conclusion, duration: timedelta) -> None:
        counts, push = self.channel.counts, claimed.attempt.push
        counts[conclusion.outcome] += 1
        fields = {
            "channel": self.channel.name,
            "sku": push.sku,
            "attempt": claimed.attempt_id,
            "quantity": push.quantity,
            "duration_ms": round(duration.total_seconds() * 1000, 1),
        }
        reason = conclusion.reason
        if conclusion.outcome == Kind.APPLIED:
            log.info("dispatch.delivery_acknowledged", **fields)
        elif conclusion.is_parked:
            counts["parked"] += 1
            del fields["channel"]
            self.channel.parked_lines.add({"reason": reason, **fields})
            self.channel.log_parked()
        elif conclusion.outcome == Kind.UNKNOWN:
            log.warning("dispatch.delivery_in_doubt", reason=reason, **fields)
        elif conclusion.outcome == GONE:
            log.info("dispatch.delisting_refused", reason=reason, **fields)
        else:
            log.warning("dispatch.delivery_not_sent", outcome=conclusion.outcome, reason=reason, **fields)
