"""Strangers who say in a loop that rows are due cost the database no more claims than polling does."""

import asyncio
import time
from datetime import timedelta
from typing import cast

import pytest

from daemon.core.types import Epoch, Lane
from daemon.marketplaces.client import Client
from daemon.services.dispatch import Dispatcher, Limits
from daemon.store.ledger import Claim, Due, Ledger, Owner
from tests.channels import SEKORM

LASTS_S = 0.6
POLL = timedelta(milliseconds=100)
LIMITS = Limits(
    rate_per_s=100,
    concurrency=1,
    timeout=timedelta(seconds=1),
    settle=timedelta(seconds=5),
    hold=timedelta(seconds=1),
    park_after=5,
    poll=POLL,
    grace=timedelta(seconds=1),
)


class Claiming:
    """A ledger in which this number of rows is due at every claim, and whose claims are counted."""

    channel = SEKORM

    def __init__(self, due: int) -> None:
        self.claims = 0
        self._due = due

    async def recover(self, *_: object) -> int:
        return 0

    async def claim(self, *_: object, **__: object) -> Claim:
        self.claims += 1
        return Claim(looked_at=self._due)

    async def next_due(self, _number: int) -> Due:
        return Due()

    async def end_sync(self) -> tuple[None, bool]:
        return None, False


class Tenure:
    owner = Owner(Lane("sekorm"), Epoch(1), "one")

    def is_trusted(self, now: float) -> bool:
        return now > 0


class Silent:
    most_per_call = 1


async def _told_nothing(*_: object) -> None:
    """The channel's trouble is not kept."""


async def _claims(due: int) -> int:
    ledger = Claiming(due)
    dispatcher = Dispatcher(cast("Ledger", ledger), cast("Client", Silent()), LIMITS, _told_nothing)
    stop = asyncio.Event()
    serving = asyncio.create_task(dispatcher.run(Tenure(), stop))
    began = time.monotonic()
    while time.monotonic() - began < LASTS_S:
        dispatcher.hear()
        await asyncio.sleep(0.001)
    stop.set()
    await serving
    return ledger.claims


@pytest.mark.parametrize(("due", "least", "most"), [(0, 2, 16), (1, 30, 10_000)])
async def test_notifications_without_due_rows_are_followed_at_the_pace_of_polling(
    due: int, least: int, most: int
) -> None:
    assert least <= await _claims(due) <= most
