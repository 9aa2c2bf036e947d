"""A dispatcher with its ports played by the test: what is due, what the marketplace answers, and when."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

from daemon import clock
from daemon.core.errors import StockrelayError
from daemon.core.outcome import Kind, Outcome
from daemon.core.types import SLOTS, AttemptId, ChannelName, Epoch, Push, Sku, Slot
from daemon.services.dispatch.channel import Limits
from daemon.services.dispatch.dispatcher import Dispatcher
from daemon.services.lease import Lease
from daemon.store.leases import Taken
from daemon.store.ledger import Attempt, Claim, Completion, Due, Owner, Written
from tests.channels import SEKORM
from tests.unit.virtual_time import settle

EVERY_SLOT: Final = [Slot(number) for number in range(SLOTS)]
APPLIED: Final = Outcome(Kind.APPLIED)
LIMITS: Final = Limits(
    rate_per_s=1000,
    concurrency=16,
    timeout=timedelta(seconds=5),
    settle=timedelta(seconds=60),
    max_claim_age=timedelta(seconds=10),
    park_after=5,
    poll=timedelta(seconds=1),
    grace=timedelta(seconds=10),
)


@dataclass(frozen=True)
class ClaimCall:
    """One claim as it was asked for."""

    slots: list[Slot]
    limit: int
    is_urgent_only: bool
    is_sync: bool
    is_shadow: bool = False


@dataclass
class FakeLedger:
    """Gives out what the test says is due, once; keeps the outcomes. `errors` are raised by the next claims,
    `write_errors` by the next writings."""

    channel: ChannelName = SEKORM
    due: list[Attempt] = field(default_factory=list)
    sync: list[Attempt] = field(default_factory=list)
    extra: list[Claim] = field(default_factory=list)
    claims: list[ClaimCall] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    rescued: list[tuple[Owner, list[AttemptId]]] = field(default_factory=list)
    done: list[Completion] = field(default_factory=list)
    writings: list[list[Completion]] = field(default_factory=list)
    errors: list[StockrelayError] = field(default_factory=list)
    write_errors: list[Callable[[Sequence[Completion]], None]] = field(default_factory=list)
    is_backlog: bool = False
    is_locked: bool = False
    sync_number: int | None = None
    gate: asyncio.Event | None = None
    writing_takes_s: float = 0.0
    has_history: bool = False
    shadow_ended: list[tuple[list[Slot], int]] = field(default_factory=list)
    _last: int = 0

    def add(
        self, *slots: int, is_urgent: bool = False, failures: int = 0, is_sync: bool = False
    ) -> list[Attempt]:
        """One more row is due in each of these slots."""
        added = []
        for slot in slots:
            self._last += 1
            push = Push(Sku(f"S{self._last}"), (f"P{self._last}",), self._last)
            added.append(
                Attempt(
                    AttemptId(self._last),
                    push,
                    failures,
                    is_delisting=False,
                    is_urgent=is_urgent,
                    slot=Slot(slot),
                )
            )
        (self.sync if is_sync else self.due).extend(added)
        return added

    async def claim(
        self,
        owner: Owner,
        limit: int,
        settle: timedelta,
        *,
        is_urgent_only: bool = False,
        is_sync: bool = False,
        is_shadow: bool = False,
        take_on: Callable[[Claim], None] | None = None,
    ) -> Claim:
        assert settle == LIMITS.settle
        self.claims.append(ClaimCall(list(owner.epochs), limit, is_urgent_only, is_sync, is_shadow))
        self.calls.append("claim")
        if self.gate is not None:
            await self.gate.wait()
        if self.errors:
            raise self.errors.pop(0)
        rows = self.sync if is_sync else self.due
        fitting = [one for one in rows if one.slot in owner.epochs and (one.is_urgent or not is_urgent_only)]
        taken = sorted(fitting, key=lambda one: not one.is_urgent)[:limit]
        if self.is_locked:
            return Claim(captured=len(taken))
        for one in taken:
            rows.remove(one)
        claim = Claim(captured=len(taken), attempts=taken)
        if self.extra and not is_sync:
            claim = replace(self.extra.pop(0), attempts=taken)
        if take_on is not None:
            take_on(claim)
        return claim

    async def rescue(self, owner: Owner, in_flight: Collection[AttemptId], settle: timedelta) -> int:
        assert settle == LIMITS.settle
        self.calls.append("rescue")
        self.rescued.append((owner, list(in_flight)))
        return 1

    async def has_acknowledged(self) -> bool:
        return self.has_history

    async def next_due(self, slots: Collection[Slot]) -> Due:
        def first(rows: Iterable[Attempt]) -> timedelta | None:
            return timedelta(0) if any(one.slot in slots for one in rows) else None

        return Due(first(self.due), first(self.sync))

    async def end_shadow(self, slots: Collection[Slot], most: int) -> int:
        self.shadow_ended.append((list(slots), most))
        return 0

    async def is_backlog_above(self, rows: int, slots: Collection[Slot]) -> bool:
        return self.is_backlog and rows > 0 and bool(slots)

    async def end_sync(self) -> tuple[int | None, bool]:
        ended, self.sync_number = self.sync_number, None
        return ended, False

    async def complete(self, holder: str, completions: Sequence[Completion], settle: timedelta) -> Written:
        assert (holder, settle) == ("me", LIMITS.settle)
        if self.write_errors:
            self.write_errors.pop(0)(completions)
        await asyncio.sleep(self.writing_takes_s)
        self.writings.append(list(completions))
        self.done += completions
        return Written(
            is_due=False, took_s=[0.5 for one in completions if one.conclusion.outcome == "applied"]
        )

    def ends(self) -> dict[str, str]:
        """How each SKU's last attempt ended."""
        return {done.sku: str(done.conclusion.outcome) for done in self.done}


class Request:
    """One call at the marketplace; the test answers it."""

    def __init__(self, pushes: Sequence[Push]) -> None:
        self.skus = [push.sku for push in pushes]
        self.at = clock.monotonic()
        self.is_cut_off = False
        self._answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

    def answer(self, *outcomes: Outcome) -> None:
        """Answer each SKU, or all of them alike."""
        self._answer.set_result(list(outcomes) if len(outcomes) > 1 else [*outcomes] * len(self.skus))

    def fail(self, error: Exception) -> None:
        self._answer.set_exception(error)

    async def wait(self) -> list[Outcome]:
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.is_cut_off = True
            raise


class FakeClient:
    """Keeps every request until the test answers it; `answers` all at once after `takes_s`."""

    most_per_call = 100

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.answers: Outcome | None = None
        self.takes_s = 0.0

    async def push(self, push: Push, timeout: timedelta) -> Outcome:
        return (await self.push_many([push], timeout))[0]

    async def push_many(self, pushes: Sequence[Push], timeout: timedelta) -> list[Outcome]:
        assert timeout.total_seconds() > 0
        request = Request(pushes)
        self.requests.append(request)
        if self.answers is None:
            return await request.wait()
        await asyncio.sleep(self.takes_s)
        return [self.answers] * len(pushes)

    @property
    def sent(self) -> list[str]:
        """The SKUs in the order in which they were sent."""
        return [sku for request in self.requests for sku in request.skus]


class Counting:
    """An observer that counts."""

    def __init__(self) -> None:
        self.attempts: list[tuple[str, float | None]] = []
        self.latencies: list[float] = []

    def attempted(self, channel: ChannelName, outcome: str, duration_s: float | None) -> None:
        assert channel == SEKORM
        self.attempts.append((outcome, duration_s))

    def delivered(self, channel: ChannelName, latency_s: float) -> None:
        assert channel == SEKORM
        self.latencies.append(latency_s)


class Stage:
    """The dispatcher under test and what it is connected to."""

    def __init__(self, limits: Limits) -> None:
        self.ledger = FakeLedger()
        self.client = FakeClient()
        self.observer = Counting()
        self.troubles: list[Outcome | None] = []
        self.keeping_fails: StockrelayError | None = None
        self.changes = 0
        self.leases: dict[Slot, Lease] = {}
        self.stop = asyncio.Event()
        self.dispatcher = Dispatcher(
            self.ledger, self.client, limits, "me", self._keep, observer=self.observer
        )
        self.dispatcher.on_slots_changed = self._note_change

    async def _keep(self, trouble: Outcome | None) -> None:
        if self.keeping_fails is not None:
            raise self.keeping_fails
        self.troubles.append(trouble)

    def _note_change(self) -> None:
        self.changes += 1

    def gain(self, slots: Iterable[Slot], epoch: int = 1) -> None:
        gained = [Lease(Taken(SEKORM, slot, Epoch(epoch)), math.inf) for slot in slots]
        self.leases |= {lease.slot: lease for lease in gained}
        self.dispatcher.gain(gained)

    def has(self, slot: int) -> bool:
        return self.dispatcher.has(self.leases[Slot(slot)])

    async def wakes(self, *, is_urgent: bool = False) -> None:
        """The intake says that rows may be due."""
        self.dispatcher.wake(is_urgent=is_urgent)
        await settle()

    async def sends(self, requests: int) -> list[Request]:
        """Wait until this many requests were sent."""
        async with asyncio.timeout(60):
            while len(self.client.requests) < requests:  # noqa: ASYNC110 - time is virtual
                await asyncio.sleep(0.01)
        return self.client.requests


@asynccontextmanager
async def serving(
    slots: Iterable[Slot] = EVERY_SLOT,
    **limits: Any,  # noqa: ANN401 - fields of Limits
) -> AsyncIterator[Stage]:
    """A dispatcher that serves these slots; at the end it is stopped, and has ended."""
    stage = Stage(replace(LIMITS, **limits))
    task = asyncio.create_task(stage.dispatcher.run(stage.stop))
    await settle()
    stage.gain(slots)
    try:
        await settle()
        yield stage
    finally:
        stage.stop.set()
        await asyncio.wait_for(task, 60)
        assert not stage.dispatcher.is_serving
