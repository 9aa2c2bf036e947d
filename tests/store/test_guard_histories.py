"""The same random histories under a guard that is easily woken, with zeroes in bulk, claims that see them before any
marking, restarts and releases: what is held is never sent, everything else flows, and at rest all agree."""

import random
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta

import pytest

from daemon.core.guard import GuardRule
from daemon.store import queries
from daemon.store.guard import Guard, Released
from tests.store.place import Place
from tests.store.shop import CHANNEL, opened
from tests.store.test_histories import SKUS, History

STEPS = 2500
RULE = GuardRule(zero_share=0.3, zero_count=1, row_share=0.5, window=timedelta(seconds=300))
_BLIND = queries.load("intake")["mark_blind"]


@dataclass
class Guarded(History):
    """A history with what the guard adds to it."""

    async def step(self) -> None:
        await self.random.choice(
            [super().step] * 8
            + [
                self.bulk_zero,
                self.restore,
                self.restore,
                self.blind,
                self.confirm,
                self.release,
                self.recover,
            ]
            + [self.drain, self.claim, self.claim, self.answer, self.answer]
        )()
        await self.check()

    async def bulk_zero(self) -> None:
        if self.random.random() < 0.4:
            await self.shop.sql.execute("UPDATE shop.goods SET quantity = 0")

    async def restore(self) -> None:
        await self.shop.sql.execute(
            "UPDATE shop.goods SET quantity = 6 WHERE sku = $1", self.sku(self.random.choice(SKUS))
        )

    async def blind(self) -> None:
        """The listing fails just now."""
        skus = [self.sku(self.random.choice(SKUS))]
        await self.shop.sql.execute(_BLIND, CHANNEL, skus, timedelta(0))

    async def confirm(self) -> None:
        """As a reconcile heals: sent again, whatever was acknowledged."""
        await self.shop.sql.execute(
            "UPDATE stockrelay.ledger SET due_at = clock_timestamp(), doubt_at = clock_timestamp(), doubt_until = "
            "clock_timestamp() WHERE sku = $1 AND parked_at IS NULL AND attempt_id IS NULL AND doubt_at IS NULL",
            self.sku(self.random.choice(SKUS)),
        )

    async def release(self) -> None:
        if self.random.random() < 0.3:
            await self.release_held()

    async def release_held(self) -> None:
        guard = Guard(self.shop.database)
        self.seen["released"] += await guard.release(CHANNEL, timedelta(seconds=20)) is not None
        await guard.release_held(CHANNEL)

    async def recover(self) -> None:
        guard = Guard(self.shop.database)
        held = (await guard.state(CHANNEL)).held
        found = await guard.recover(CHANNEL, RULE, held)
        if isinstance(found, Released):
            self.seen["recovered by data"] += 1
            await guard.release_held(CHANNEL)

    async def claim(self) -> None:
        await self.watched(super().claim())

    async def claim_turn(self) -> None:
        await self.watched(super().claim_turn())

    async def watched(self, claiming: Awaitable[None]) -> None:
        """Nothing that is held now may be claimed as a zero."""
        state = await Guard(self.shop.database).state(CHANNEL)
        held = await self.shop.held() if state.held_since else set()
        before = len(self.waiting)
        await claiming
        listed = {
            row["sku"]: int(row["quantity"]) for row in await self.shop.sql.fetch("SELECT * FROM shop.goods")
        }
        for request in self.waiting[before:]:
            push = request.attempt.push
            if push.sku in held:
                self.seen["held and back"] += 1
                assert listed.get(push.sku, 0) > 0, f"a held zero was sent: {push}"
        self.seen["held"] += len(held)

    async def check(self) -> None:
        await super().check()
        rows = await self.shop.sql.fetch("SELECT * FROM stockrelay.ledger WHERE held_at IS NOT NULL")
        for row in rows:
            assert row["zero_at"] is not None or row["due_at"] is not None, f"held and no zero: {dict(row)}"


@pytest.mark.parametrize(("server", "seed"), [("pg18", 0), ("pg15", 1)], indirect=["server"])
async def test_what_is_held_is_never_sent_and_all_else_flows(place: Place, seed: int) -> None:
    async with opened(place, guard=RULE) as shop:
        await shop.take()
        await shop.resync()
        history = Guarded(shop, random.Random(seed))
        for _ in range(STEPS):
            await history.step()
        await history.rest()
    for state in ("claimed", "clean", "landed", "held", "released", "recovered by data"):
        assert history.seen[state], f"the history never came to {state}: {history.seen}"
