"""A client that raises makes the outcome of its attempts unknown, and the lane goes on."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from structlog.testing import capture_logs

from daemon.core.outcome import Kind, Outcome
from daemon.core.types import AttemptId, Epoch, Lane, Push, Sku
from daemon.marketplaces.client import Client
from daemon.services.dispatch import Dispatcher, Limits
from daemon.store.ledger import Attempt, Claim, Completion, Due, Ledger, Owner, Written
from tests.channels import SEKORM

SKUS = 3
LIMITS = Limits(
    rate_per_s=1000,
    concurrency=1,
    timeout=timedelta(seconds=1),
    settle=timedelta(seconds=5),
    hold=timedelta(seconds=1),
    park_after=1,
    poll=timedelta(milliseconds=20),
    grace=timedelta(seconds=1),
    batch=SKUS,
)


class Syncing:
    """A ledger with a sync: a call of many, then each of its SKUs alone."""

    channel = SEKORM

    def __init__(self) -> None:
        self.calls = [range(SKUS), *([number] for number in range(SKUS))]
        self.done: list[Completion] = []
        self.is_over = asyncio.Event()

    async def recover(self, *_: object) -> int:
        return 0

    async def next_due(self, _number: int) -> Due:
        return Due(sync=timedelta(0) if self.calls else None)

    async def end_sync(self) -> tuple[None, bool]:
        return None, False

    async def claim(self, *_: object, is_sync: bool = False, **__: object) -> Claim:
        if not (is_sync and self.calls):
            return Claim()
        attempts = [
            Attempt(
                AttemptId(len(self.done) + n),
                Push(Sku(f"S{n}"), (f"P{n}",), 5),
                0,
                is_farewell=False,
                is_urgent=False,
            )
            for n in self.calls.pop(0)
        ]
        return Claim(len(attempts), attempts)

    async def complete(self, _owner: object, done: Sequence[Completion], _settle: object) -> Written:
        self.done += done
        if len(self.done) == 2 * SKUS:
            self.is_over.set()
        return Written(is_due=True, took_s=())


class FailsForMany:
    most_per_call = SKUS

    async def push(self, *_: object) -> Outcome:
        return Outcome(Kind.APPLIED)

    async def push_many(self, *_: object) -> list[Outcome]:
        raise OverflowError("date value out of range")


class Tenure:
    owner = Owner(Lane("sekorm"), Epoch(1), "one")

    def is_trusted(self, now: float) -> bool:
        return now > 0


async def _told_nothing(*_: object) -> None:
    """The channel's trouble is not kept."""


async def test_a_call_of_many_whose_client_raises_is_unknown_for_each_and_parks_none() -> None:
    ledger = Syncing()
    dispatcher = Dispatcher(cast("Ledger", ledger), cast("Client", FailsForMany()), LIMITS, _told_nothing)
    stop = asyncio.Event()
    with capture_logs() as lines:
        serving = asyncio.create_task(dispatcher.run(Tenure(), stop))
        async with asyncio.timeout(10):
            await ledger.is_over.wait()
        stop.set()
        await serving
    ends = [(done.conclusion.outcome, done.conclusion.is_parked) for done in ledger.done]
    assert ends == [(Kind.UNKNOWN, False)] * SKUS + [(Kind.APPLIED, False)] * SKUS
    (line,) = [line for line in lines if line["event"] == "dispatch.client_failed"]
    assert (line["channel"], line["log_level"], line["exc_info"]) == (SEKORM, "error", True)
