"""Dispatch: claims due rows of a channel's lanes, sends them, records the outcomes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, NamedTuple, Protocol

import structlog

from daemon import clock
from daemon.core.backoff import backoff
from daemon.core.batches import most_together
from daemon.core.breaker import Breaker, Change, Ticket
from daemon.core.conclusion import GONE, Conclusion, conclude
from daemon.core.errors import BadRow, StockrelayError, StoreUnavailable, TableLocked
from daemon.core.outcome import Kind, Outcome, Trouble
from daemon.core.parked_lines import ParkedLines, Summary
from daemon.core.ratelimit import RateLimit
from daemon.core.types import AttemptId, ChannelName, Sku
from daemon.marketplaces.client import Client
from daemon.progress import Progress, Pulse
from daemon.services.heeding import Heeding
from daemon.store.ledger import Attempt, Claim, Completion, Ledger, Owner, Written

log = structlog.get_logger(__name__)

_MOST_CLAIMED: Final = 400
"""Rows of one claim: enough to share a commit, few enough for a newer stock-out to be next soon."""
_MOST_CLAIMED_TOGETHER: Final = 1000
"""The same while SKUs share calls."""
_BACKLOG_LOOK_S: Final = 0.25
_LOCKED_RETRY_S: Final = 0.1
_CALLS_BESIDE_A_SYNC: Final = 10
_SHARE_AT_LEAST_S: Final = 0.05
_NEVER: Final = 2**31
_ROUNDS: Final = 16
_OTHERS_PASS_WITHIN_S: Final = 120.0
_SLOWEST_RETRY: Final = timedelta(seconds=30)
_MOST_WRITTEN: Final = 500
_MANY_AT_ONCE: Final = 8
_LOOK_AGAIN_S: Final = 30.0
_GATHER_S: Final = 0.02
"""Outcomes that come fast are gathered for so long: a statement for a few costs nearly as much as one for many."""


class Observer(Protocol):
    """Counts what was tried, and how long changes took; for metrics."""

    def attempted(self, channel: ChannelName, outcome: str, duration_s: float | None) -> None:
        """An attempt has ended like that, and after how many seconds; None: nothing was sent."""

    def delivered(self, channel: ChannelName, latency_s: float) -> None:
        """A number was acknowledged this many seconds after its oldest change was read."""


class TenureLike(Protocol):
    """The lease as the dispatcher sees it."""

    @property
    def owner(self) -> Owner: ...

    def is_trusted(self, now: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """How a channel is served. `hold` is how long after its claim an attempt may still be sent; together with
    `timeout` it is less than `settle`, so that what is sent can't land after doubt about it has ended. `batch` SKUs
    share a call, in a sync and while more than `batch_above` rows are due (0: never then). Rate, concurrency and
    `batch_above` are the channel's: a lane has its part of them. Of its lanes, `claims` are in the
    database at a time: the connections are all channels'."""

    rate_per_s: float
    concurrency: int
    timeout: timedelta
    settle: timedelta
    hold: timedelta
    park_after: int
    poll: timedelta
    grace: timedelta
    batch: int = 1
    batch_above: int = 0
    claims: int = 2


class Dispatcher:
    """One channel's dispatcher, for as many of its lanes as this process owns; they share what is the channel's: its
    rate, its breaker, what is known of the partner. `counts` are outcomes since the start."""

    def __init__(
        self,
        ledger: Ledger,
        partner: Client,
        limits: Limits,
        tell_trouble: Callable[[Owner, ChannelName, Outcome | None], Awaitable[None]],
        observer: Observer | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.ledger = ledger
        self.partner = partner
        self.limits = limits
        self.counts: Counter[str] = Counter()
        self.breaker = Breaker()
        self.last_applied: float | None = None
        self.read_changes: Callable[[], None] = _nothing
        self.compare_all: Callable[[], None] = _nothing
        # Not used before the first lane is served.
        self.rate = RateLimit.starting(limits.rate_per_s, 1, clock.monotonic())
        self._rate_queue = asyncio.Lock()
        self.claiming = asyncio.Semaphore(limits.claims)
        self.observer = observer
        self.progress = progress or Progress()
        self._tell_trouble = tell_trouble
        self._shifts: set[_Shift] = set()
        self._put_off: set[Sku] = set()
        self.parked_lines = ParkedLines()
        self._compared_at = float("-inf")

    def use(self, limits: Limits) -> None:
        """Serve the channel like this from now on; the concurrency is a matter of the tasks that run."""
        self.limits = limits
        for shift in self._shifts:
            shift.use(limits)
        self._share_rate()

    def wake(self, lanes: Collection[int] | None = None, *, is_urgent: bool = False) -> None:
        """Rows of these lanes (their numbers; None: of any) may have become due; urgent ones go ahead of all others."""
        for shift in self._shifts:
            if lanes is None or shift.number in lanes:
                shift.wake.set()
                if is_urgent:
                    shift.urgent.set()

    def hear(self) -> None:
        """A notification says that rows of any lane may have become due."""
        for shift in self._shifts:
            shift.heeding.hear()

    def recover(self) -> None:
        """The database may have another idea of what is open and what is wrong: every lane puts it right."""
        for shift in self._shifts:
            shift.recover()

    def note_put_off(self, skus: Sequence[Sku], now: float) -> None:
        """Wrong numbers that no marking has counted wait for one: have the changes read, and if that has brought
        nothing (they were marked without looking), have the whole listing compared."""
        if self._put_off.isdisjoint(skus):
            self.read_changes()
        elif now - self._compared_at > _LOOK_AGAIN_S:
            self._compared_at = now
            log.warning("dispatch.numbers_put_off", channel=self.ledger.channel, numbers=len(skus))
            self.compare_all()
        self._put_off = set(skus)

    def tell_parked(self, *, is_over: bool = False) -> None:
        """Write what was parked of late."""
        lines = self.parked_lines.due(clock.monotonic(), is_over=is_over)
        channel = self.ledger.channel
        if isinstance(lines, Summary):
            log.error(
                "dispatch.deliveries_parked",
                channel=channel,
                skus=lines.skus,
                sku=lines.sku,
                reason=lines.reason,
                advice="`stockrelay parked list` has all of them",
            )
            return
        for fields in lines:
            log.error("dispatch.delivery_parked", channel=channel, **fields)

    async def run(self, tenure: TenureLike, stop: asyncio.Event) -> None:
        """Serve the lane until `stop`; cancelled when the lease is lost: what is in flight is then in doubt."""
        shift = _Shift(self, tenure)
        if not self._shifts:
            # A new owner starts with an empty bucket: it does not know what the last one has just sent.
            self.rate = RateLimit.starting(self.limits.rate_per_s, 1, clock.monotonic())
        self._shifts.add(shift)
        self._share_rate()
        try:
            await shift.run(stop)
        finally:
            self._shifts.discard(shift)
            self.tell_parked(is_over=not self._shifts)
            self._share_rate()

    def _share_rate(self) -> None:
        """As much of the channel's rate as of its lanes is ours: whoever has the other lanes has the rest."""
        share = sum(1 / shift.of for shift in self._shifts)
        if share:
            rate = self.limits.rate_per_s * min(1.0, share)
            self.rate = self.rate.at_rate(rate, max(1, int(rate / 10)), clock.monotonic())

    async def wait_for_rate(self) -> None:
        """Return when one more request may be sent: to those who wait in the order in which they came. Nothing may be
        awaited between this and the sending."""
        async with self._rate_queue:
            while (wait_s := self.rate.wait_s(clock.monotonic())) > 0:  # noqa: ASYNC110 - time is what it waits for
                await asyncio.sleep(wait_s)

    @property
    def shifts(self) -> int:
        """How many lanes are served: so many claims may be waited for."""
        return len(self._shifts)

    def has_in_hand(self) -> bool:
        """Whether any lane has attempts that have not ended: while the channel is probed, one at a time is sent."""
        return any(shift.in_hand for shift in self._shifts)

    def abandon(self, ticket: Ticket, sku: Sku) -> None:
        """A request was cancelled with its lane; if it was the probe, another lane may send the next one."""
        now = clock.monotonic()
        self.breaker, _ = self.breaker.feed(ticket, sku, Outcome(Kind.NOT_SENT), now, clock.jitter())
        for shift in self._shifts:
            shift.has_room.set()

    @property
    def cause(self) -> Outcome | None:
        """What is wrong: with the partner, or with a claim."""
        failing = (shift.failing for shift in self._shifts if shift.failing is not None)
        return self.breaker.cause or next(failing, None)

    async def tell_trouble(self, owner: Owner, failing: Outcome | None) -> None:
        """Keep the channel's trouble, or that it has none, for one lane."""
        await self._tell_trouble(owner, self.ledger.channel, self.breaker.cause or failing)

    async def tell_change(self) -> None:
        """The channel was paused or resumed: every lane looks, and is told of."""
        for shift in self._shifts:
            shift.has_room.set()
        for owner, failing in [(shift.owner, shift.failing) for shift in self._shifts]:
            await self.tell_trouble(owner, failing)


def _nothing() -> None:
    """Until the composition root says what there is to call."""


class _Claimed(NamedTuple):
    """Compares as it is to be sent: urgent ones first, then in the order of their claims."""

    is_patient: bool
    attempt_id: AttemptId
    attempt: Attempt
    at: float


def _claimed(attempt: Attempt, at: float) -> _Claimed:
    return _Claimed(not attempt.is_urgent, attempt.attempt_id, attempt, at)


class _Shift:
    """One tenure's work. What it forgets when it dies is in the ledger as an open attempt."""

    def __init__(self, dispatcher: Dispatcher, tenure: TenureLike) -> None:
        self._of = dispatcher
        self._ledger = dispatcher.ledger
        self._limits = dispatcher.limits
        self._tenure = tenure
        self.owner = tenure.owner
        self.lane = tenure.owner.lane
        self.number = tenure.owner.number
        self.of = tenure.owner.of
        self.wake = clock.Signal()
        self.urgent = clock.Signal()
        self.heeding = Heeding(self._look_now, self._limits.poll.total_seconds())
        self._concurrency = max(1, self._limits.concurrency // self.of)
        self._is_many = False
        self.use(self._limits)
        self._look_at = 0.0
        self._queue: asyncio.PriorityQueue[_Claimed] = asyncio.PriorityQueue()
        # A sync's calls go one after another, beside the others: what a crash leaves open is one of them.
        self._turns: asyncio.Queue[list[_Claimed]] = asyncio.Queue()
        self._turn: set[AttemptId] = set()
        self._is_syncing = True
        self._share_at = 0.0
        self._is_stopping = False
        self.in_hand: set[AttemptId] = set()
        self._done: list[Completion] = []
        self._has_done = asyncio.Event()
        self.has_room = clock.Signal()
        self._is_empty = clock.Signal()
        self._is_empty.set()
        self._must_recover = True
        self._is_locked = False
        self.failing: Outcome | None = None

    def use(self, limits: Limits) -> None:
        """Take over limits that have changed."""
        self._limits = limits
        self._rate_per_s = limits.rate_per_s / self.of
        # Never more than is sent within half a second, or than a few rounds of requests: what waits here is aging.
        self._single = max(1, min(_MOST_CLAIMED, int(self._rate_per_s / 2), self._concurrency * _ROUNDS))
        self._most = min(limits.batch, self._of.partner.most_per_call)
        if not self._is_many:
            self._batch = self._single

    def _look_now(self) -> None:
        self.wake.set()
        self.urgent.set()

    def recover(self) -> None:
        """Look before the next claim for attempts without a waiting owner."""
        self._must_recover = True
        self.wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        name = self._ledger.channel
        async with asyncio.TaskGroup() as group:
            workers = [
                group.create_task(self._work(), name=f"send-{name}-{n}") for n in range(self._concurrency)
            ]
            workers.append(group.create_task(self._work_on_turns(), name=f"sync-{name}"))
            writer = group.create_task(self._write_outcomes(), name=f"write-{name}")
            with self._of.progress.pulse(f"claim-{self.lane}") as pulse:
                await self._claim_until(stop, pulse)
            self._is_stopping = True
            while not self._queue.empty():
                self._give_back(self._queue.get_nowait().attempt, "stopping")
            while not self._turns.empty():
                for claimed in self._turns.get_nowait():
                    self._give_back(claimed.attempt, "stopping")
            # Every attempt in hand ends within its timeout; its outcome is written before the lane is given up.
            if not await clock.wait_any(self._limits.grace.total_seconds(), self._is_empty):
                log.warning("dispatch.grace_exceeded", channel=name, in_flight=len(self.in_hand))
            for task in (*workers, writer):
                task.cancel()

    # Claiming

    async def _claim_until(self, stop: asyncio.Event, pulse: Pulse) -> None:
        failures = 0
        while not stop.is_set():
            pulse.beat(_SLOWEST_RETRY.total_seconds() * self._of.shifts)
            self._of.tell_parked()
            room = self._room()
            is_urgent_only = room == 0 and self.urgent.is_set() and self._is_open()
            if room == 0 and not is_urgent_only:
                self.urgent.clear()
                self.has_room.clear()
                await clock.wait_any(self._until_room_s(), self.has_room, self.urgent, stop)
                continue
            room = room or self._batch
            self.urgent.clear()
            self.wake.clear()
            try:
                await self._recover()
                async with self._of.claiming:
                    claim = await self._ledger.claim(
                        self._tenure.owner,
                        room,
                        self._limits.settle,
                        is_urgent_only=is_urgent_only,
                        take_on=partial(self._enqueue, clock.monotonic()),
                    )
                self.heeding.followed(is_vain=claim.looked_at == 0)
                is_more = is_urgent_only or claim.looked_at >= room
                await self._choose_company(is_more=is_more)
                if is_more:
                    await self._share_with_sync()
                pause = 0.0 if is_more else await self._until_due_s()
                failures = 0
                self._is_locked = False
                if self.failing is not None:
                    self.failing = None
                    await self._of.tell_trouble(self.owner, None)
            except StockrelayError as error:
                # The claim's commit may have happened without our hearing of it: nothing of it is sent, and its open
                # attempts are recovered before the next claim.
                self._must_recover = not isinstance(error, TableLocked)
                failures += 1
                pause = self._pause_after(error, failures)
                await clock.wait_any(pause, stop)
                continue
            if pause > 0:
                await clock.wait_any(pause, self.wake, stop)

    def _pause_after(self, error: StockrelayError, failures: int) -> float:
        """Note why a claim failed; return for how long not to try again."""
        if isinstance(error, TableLocked):
            # It waits for the lock each time, and has it as soon as the ERP's transaction ends.
            if not self._is_locked:
                log.warning("dispatch.claim_delayed", channel=self._ledger.channel, reason=str(error))
            self._is_locked = True
            return _LOCKED_RETRY_S
        self._note_claim_failure(error)
        return backoff(failures, timedelta(seconds=0.2), _SLOWEST_RETRY, clock.jitter()).total_seconds()

    def _note_claim_failure(self, error: StockrelayError) -> None:
        if isinstance(error, StoreUnavailable):
            log.warning("dispatch.claim_delayed", channel=self._ledger.channel, reason=str(error))
            return
        log.error("dispatch.claim_failed", channel=self._ledger.channel, reason=str(error))
        # Told to those who are in charge when the next try recovers.
        advice = "run `stockrelay check`: it runs the listing and shows where it fails"
        self.failing = Outcome(Kind.TROUBLE, str(error)[:300], Trouble.LISTING, advice=advice)

    def _is_open(self) -> bool:
        return self._of.breaker.allowance(clock.monotonic()) > 1

    def _room(self) -> int:
        allowance = self._of.breaker.allowance(clock.monotonic())
        if allowance == 0:
            return 0
        if allowance == 1:
            return 0 if self._of.has_in_hand() else 1
        queued = self._queue.qsize()
        # Refill a half-empty queue, so that one claim works while the other is sent.
        return self._batch - queued if queued <= self._batch // 2 else 0

    def _until_room_s(self) -> float:
        probe_at = self._of.breaker.next_probe_at
        poll = self._limits.poll.total_seconds()
        return poll if probe_at is None else min(poll, max(0.01, probe_at - clock.monotonic()))

    async def _until_due_s(self) -> float:
        """Nothing is due now: let a sync have its turn, and return for how many seconds there is nothing to claim."""
        due = await self._ledger.next_due(self.number)
        pause = self._limits.poll.total_seconds()
        if due.change is not None:
            # Overdue and yet not claimed: another session has the row locked for a moment.
            pause = min(pause, max(0.02, due.change.total_seconds()))
        return min(pause, await self._serve_sync(due.sync))

    async def _share_with_sync(self) -> None:
        """Give a sync one call in ten while changes keep coming: they may never be fewer than the rate allows."""
        now = clock.monotonic()
        if now < self._share_at or not self._is_open():
            return
        due = await self._ledger.next_due(self.number)
        await self._serve_sync(due.sync)
        # A slow listing makes it dear: changes then have three quarters of the time.
        took_s = clock.monotonic() - now
        pause_s = max(_SHARE_AT_LEAST_S, _CALLS_BESIDE_A_SYNC / self._rate_per_s, 3 * took_s)
        self._share_at = clock.monotonic() + pause_s

    async def _serve_sync(self, due: timedelta | None) -> float:
        """Claim the sync's next call if it is due, or end the sync; return for how many seconds it needs nothing."""
        pause = self._limits.poll.total_seconds()
        if self._turn:
            return pause
        if due is None:
            await self._end_sync()
            return pause
        allowance = self._of.breaker.allowance(clock.monotonic())
        if due > timedelta(0) or not allowance:
            return max(0.02, due.total_seconds())
        return await self._claim_turn(min(self._most, allowance))

    async def _claim_turn(self, most: int) -> float:
        """Claim one call of a sync. The next is claimed when the ledger has the outcomes of this one."""
        async with self._of.claiming:
            claimed_at = clock.monotonic()
            claim = await self._ledger.claim(self._tenure.owner, most, self._limits.settle, is_sync=True)
        self._is_syncing = True
        if attempts := self._take_on(claim):
            self._turn = {attempt.attempt_id for attempt in attempts}
            self._turns.put_nowait([_claimed(attempt, claimed_at) for attempt in attempts])
            return self._limits.poll.total_seconds()
        # All of them were parked: the next have their turn at once. None at all: another session has them locked.
        return 0.0 if claim.looked_at else 0.02

    async def _end_sync(self) -> None:
        if self._is_syncing:
            ended, self._is_syncing = await self._ledger.end_sync()
            if ended is not None:
                log.info("dispatch.sync_ended", channel=self._ledger.channel, sync=ended)

    async def _choose_company(self, *, is_more: bool) -> None:
        """SKUs share calls from when the backlog is above the threshold until it is claimed and sent."""
        limits, most = self._limits, self._most
        if self._is_many:
            if not is_more and self._queue.qsize() <= self._concurrency:
                self._is_many, self._batch = False, self._single
                log.info("dispatch.batches_ended", channel=self._ledger.channel)
            return
        now = clock.monotonic()
        if limits.batch_above == 0 or most == 1 or not is_more or now < self._look_at:
            return
        self._look_at = now + _BACKLOG_LOOK_S
        if await self._ledger.is_backlog_above(limits.batch_above // self.of, self.number):
            in_half_a_second = max(1, int(self._rate_per_s / 2)) * most
            self._batch = min(
                max(_MOST_CLAIMED_TOGETHER, most), in_half_a_second, 2 * self._concurrency * most
            )
            self._is_many = True
            log.info(
                "dispatch.batches_begun",
                channel=self._ledger.channel,
                batch=most,
                batch_above=limits.batch_above,
            )

    async def _recover(self) -> None:
        if not self._must_recover:
            return
        self._must_recover = False
        recovered = await self._ledger.recover(self._tenure.owner, self.in_hand, self._limits.settle)
        await self._of.tell_trouble(self.owner, self.failing)
        if recovered:
            log.warning("dispatch.attempts_recovered", channel=self._ledger.channel, attempts=recovered)

    def _enqueue(self, claimed_at: float, claim: Claim) -> None:
        for attempt in self._take_on(claim):
            self._queue.put_nowait(_claimed(attempt, claimed_at))

    def _take_on(self, claim: Claim) -> Sequence[Attempt]:
        channel = self._ledger.channel
        for sku, reason in claim.parked.items():
            self._of.counts["parked"] += 1
            self._of.parked_lines.add({"sku": sku, "reason": reason})
        self._of.tell_parked()
        for sku in claim.forgotten:
            log.info("dispatch.sku_forgotten", channel=channel, sku=sku)
        self._of.counts["settled"] += len(claim.settled)
        if claim.put_off:
            self._of.note_put_off(claim.put_off, clock.monotonic())
        for attempt in claim.attempts:
            self.in_hand.add(attempt.attempt_id)
            self._is_empty.clear()
        return claim.attempts

    # Sending

    async def _work(self) -> None:
        while True:
            claimed = await self._queue.get()
            if self._queue.qsize() <= self._batch // 2:
                self.has_room.set()
            if self._is_many:
                await self._send_many([claimed], self._fill)
            else:
                await self._send(claimed)

    async def _work_on_turns(self) -> None:
        while True:
            turn = await self._turns.get()
            while turn and not self._is_stopping:
                call = [turn.pop(0)]
                names = {call[0].attempt.push.identifiers}
                while turn and self._fits(turn[0], call, names):
                    call.append(turn.pop(0))
                await self._send_many(call)
            for claimed in turn:
                self._give_back(claimed.attempt, "stopping")

    def _fill(self, call: list[_Claimed]) -> None:
        """Add what is in the queue now: nothing waits for a call to become full."""
        names = {claimed.attempt.push.identifiers for claimed in call}
        while not self._queue.empty():
            claimed = self._queue.get_nowait()
            if not self._fits(claimed, call, names):
                self._queue.put_nowait(claimed)
                break
            call.append(claimed)
        if self._queue.qsize() <= self._batch // 2:
            self.has_room.set()

    def _fits(self, claimed: _Claimed, call: Sequence[_Claimed], names: set[tuple[str, ...]]) -> bool:
        """Whether it may share that call, and take its name if so: with those that failed as often, and never twice
        under one name."""
        most = most_together(self._most, claimed.attempt.failures)
        if len(call) >= most or most != most_together(self._most, call[0].attempt.failures):
            return False
        taken = len(names)
        names.add(claimed.attempt.push.identifiers)
        return len(names) > taken

    async def _send_many(
        self, call: list[_Claimed], fill: Callable[[list[_Claimed]], None] | None = None
    ) -> None:
        """Send many in one call: one for the rate and for the breaker, and for each attempt all that `_send` is."""
        await self._of.wait_for_rate()
        if fill is not None:
            fill(call)
        now = clock.monotonic()
        sent = self._cleared(call, now)
        if not sent:
            return
        self._of.rate = self._of.rate.take(now)
        self._of.breaker, ticket = self._of.breaker.sent(now)
        pushes = [attempt.push for attempt in sent]
        try:
            if len(pushes) == 1:
                outcomes = [await self._of.partner.push(pushes[0], self._limits.timeout)]
            else:
                outcomes = await self._of.partner.push_many(pushes, self._limits.timeout)
        except Exception as error:  # noqa: BLE001 - the traceback is logged
            outcomes = [self._unforeseen(error)] * len(pushes)
        except BaseException:
            self._of.abandon(ticket, pushes[0].sku)
            raise
        await self._conclude_many(sent, outcomes, ticket, now)

    def _unforeseen(self, error: Exception) -> Outcome:
        """What the partner made of a request whose client failed is not known."""
        log.exception("dispatch.client_failed", channel=self._ledger.channel)
        return Outcome(Kind.UNKNOWN, f"the client failed ({type(error).__name__})")

    def _cleared(self, call: Sequence[_Claimed], now: float) -> list[Attempt]:
        """Those that may be sent now; the others are given back. A channel is probed with one."""
        allowance = self._of.breaker.allowance(now)
        is_trusted = self._tenure.is_trusted(now)
        cleared: list[Attempt] = []
        for claimed in call:
            if now - claimed.at > self._limits.hold.total_seconds():
                self._give_back(claimed.attempt, "claimed too long ago")
            elif not is_trusted:
                self._give_back(claimed.attempt, "the lease is not trusted any more")
            elif len(cleared) >= allowance:
                self._give_back(claimed.attempt, "the channel is paused")
            else:
                cleared.append(claimed.attempt)
        return cleared

    async def _conclude_many(
        self, sent: Sequence[Attempt], outcomes: Sequence[Outcome], ticket: Ticket, sent_at: float
    ) -> None:
        now = clock.monotonic()
        duration = timedelta(seconds=now - sent_at)
        # One jitter: those of a call that failed are due together, and share the next ones.
        jitter = clock.jitter()
        # The breaker hears of a call once: an answer about any SKU is an answer.
        said = min(outcomes, key=lambda outcome: outcome.kind not in (Kind.APPLIED, Kind.REFUSED))
        if any(outcome.kind is Kind.APPLIED for outcome in outcomes):
            self._of.last_applied = now
        last = self._of.last_applied
        breaker, change = self._of.breaker.feed(ticket, sent[0].push.sku, said, now, jitter)
        self._of.breaker = breaker
        for attempt, outcome in zip(sent, outcomes, strict=True):
            conclusion = conclude(
                outcome,
                failures=attempt.failures,
                is_farewell=attempt.is_farewell,
                do_others_pass=last is not None and now - last < _OTHERS_PASS_WITHIN_S,
                # What failed in company has not failed by itself.
                park_after=self._limits.park_after if len(sent) == 1 else _NEVER,
                jitter=jitter,
            )
            self._log(attempt, conclusion, duration)
            self._finish(attempt, conclusion, duration)
        if change is not None:
            await self._note_change(change, said)

    async def _send(self, claimed: _Claimed) -> None:
        attempt = claimed.attempt
        # A wait and its end are one decision: nothing may be awaited between the last look and the sending.
        await self._of.wait_for_rate()
        now = clock.monotonic()
        if now - claimed.at > self._limits.hold.total_seconds():
            return self._give_back(attempt, "claimed too long ago")
        if not self._tenure.is_trusted(now):
            return self._give_back(attempt, "the lease is not trusted any more")
        if not self._of.breaker.allowance(now):
            return self._give_back(attempt, "the channel is paused")
        self._of.rate = self._of.rate.take(now)
        self._of.breaker, ticket = self._of.breaker.sent(now)
        try:
            outcome = await self._of.partner.push(attempt.push, self._limits.timeout)
        except Exception as error:  # noqa: BLE001 - the traceback is logged
            outcome = self._unforeseen(error)
        except BaseException:
            self._of.abandon(ticket, attempt.push.sku)
            raise
        await self._conclude(attempt, outcome, ticket, now)
        return None

    async def _conclude(self, attempt: Attempt, outcome: Outcome, ticket: Ticket, sent_at: float) -> None:
        now = clock.monotonic()
        duration = timedelta(seconds=now - sent_at)
        if outcome.kind is Kind.APPLIED:
            self._of.last_applied = now
        breaker, change = self._of.breaker.feed(ticket, attempt.push.sku, outcome, now, clock.jitter())
        self._of.breaker = breaker
        last = self._of.last_applied
        conclusion = conclude(
            outcome,
            failures=attempt.failures,
            is_farewell=attempt.is_farewell,
            do_others_pass=last is not None and now - last < _OTHERS_PASS_WITHIN_S,
            park_after=self._limits.park_after,
            jitter=clock.jitter(),
        )
        self._log(attempt, conclusion, duration)
        self._finish(attempt, conclusion, duration)
        if change is not None:
            await self._note_change(change, outcome)

    def _log(self, attempt: Attempt, conclusion: Conclusion, duration: timedelta) -> None:
        self._of.counts[conclusion.outcome] += 1
        fields = {
            "channel": self._ledger.channel,
            "sku": attempt.push.sku,
            "attempt": attempt.attempt_id,
            "quantity": attempt.push.quantity,
            "duration_ms": round(duration.total_seconds() * 1000, 1),
        }
        if conclusion.outcome == Kind.APPLIED:
            log.info("dispatch.delivery_acknowledged", **fields)
        elif conclusion.is_parked:
            self._of.counts["parked"] += 1
            del fields["channel"]
            self._of.parked_lines.add({"reason": conclusion.reason, **fields})
            self._of.tell_parked()
        elif conclusion.outcome == Kind.UNKNOWN:
            log.warning("dispatch.delivery_in_doubt", reason=conclusion.reason, **fields)
        elif conclusion.outcome == GONE:
            log.info("dispatch.farewell_refused", reason=conclusion.reason, **fields)
        else:
            log.warning(
                "dispatch.delivery_held_up", outcome=conclusion.outcome, reason=conclusion.reason, **fields
            )

    async def _note_change(self, change: Change, outcome: Outcome) -> None:
        channel = self._ledger.channel
        if change is Change.CLOSED:
            log.info("dispatch.channel_resumed", channel=channel)
        else:
            cause = self._of.breaker.cause or outcome
            event = log.error if change is Change.OPENED else log.warning
            event(
                "dispatch.channel_paused",
                channel=channel,
                trouble=(cause.trouble or cause.kind).value,
                reason=cause.reason,
                advice=cause.advice,
                next_probe_s=round(max(0.0, (self._of.breaker.next_probe_at or 0) - clock.monotonic()), 1),
            )
        try:
            await self._of.tell_change()
        except StockrelayError as error:
            log.warning("dispatch.state_not_kept", channel=channel, reason=str(error))
            self._of.recover()

    def _give_back(self, attempt: Attempt, reason: str) -> None:
        """Nothing was sent: the row is due again."""
        self._of.counts["not_sent"] += 1
        self._finish(attempt, Conclusion(Kind.NOT_SENT, reason), None)

    # Writing

    def _finish(self, attempt: Attempt, conclusion: Conclusion, duration: timedelta | None) -> None:
        self._done.append(Completion(attempt.push.sku, attempt.attempt_id, conclusion, duration))
        if self._of.observer is not None:
            seconds = None if duration is None else duration.total_seconds()
            self._of.observer.attempted(self._ledger.channel, conclusion.outcome, seconds)
        self._has_done.set()

    async def _write_outcomes(self) -> None:
        """Write outcomes as they come, many in one statement when they come fast. What can't be written is kept: the
        attempt stays open, so the SKU is not sent again meanwhile."""
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
        self.in_hand.difference_update(done.attempt_id for done in batch)
        if self._of.observer is not None:
            for latency_s in took_s:
                self._of.observer.delivered(self._ledger.channel, latency_s)
        if self._turn:
            self._turn &= self.in_hand
            is_due = is_due or not self._turn
        if is_due:
            self.wake.set()
        if not self.in_hand:
            self._is_empty.set()
            self.has_room.set()

    async def _written(self, batch: list[Completion]) -> Written:
        failures = 0
        while True:
            try:
                return await self._ledger.complete(self._tenure.owner, batch, self._limits.settle)
            except BadRow as error:
                return await self._written_apart(batch, error)
            except StockrelayError as error:
                failures += 1
                log.warning(
                    "dispatch.outcomes_delayed",
                    channel=self._ledger.channel,
                    outcomes=len(batch),
                    reason=str(error),
                )
                pause = backoff(failures, timedelta(seconds=0.2), timedelta(seconds=5), clock.jitter())
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
        log.error("dispatch.outcome_lost", channel=self._ledger.channel, sku=done.sku, reason=str(error))
        # The attempt has no waiting owner any more: recovery turns it into doubt.
        self.recover()
        return Written(is_due=False, took_s=())
