"""Random histories of one channel: an ERP, a marketplace that applies late, twice or never, owners that die.

The store is real; the marketplace is a dictionary with requests under way. What must hold is asked at every step and at
rest: I2 a clean row means that the marketplace holds that number; I3 one unresolved attempt at most; I4 a number that
was acknowledged last is what the marketplace holds once everything has landed. Time passes only when the history says
so, and a request that was sent lands within the settle time or never.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import asyncpg
import pytest

from daemon.store.ledger import Attempt, Debounce, Due, Owner
from tests.store.shop import EVERY_SLOT, SETTLE, Shop

STEPS = 1500
SKUS = ("A", "B", "C")
DEBOUNCE = Debounce(timedelta(seconds=2), timedelta(seconds=10), 2)
AT_ONCE = Debounce(timedelta(0), timedelta(0), 2)


@dataclass
class Request:
    """Under way to the marketplace for `age` seconds."""

    attempt: Attempt
    owner: Owner
    age: float = 0
    is_answered: bool = False


@dataclass
class History:
    """One run. `waiting` are requests whose answer the owner still waits for; `late` may land without one."""

    shop: Shop
    random: random.Random
    marketplace: dict[tuple[str, ...], int] = field(default_factory=dict)
    waiting: list[Request] = field(default_factory=list)
    late: list[Request] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)

    async def step(self) -> None:
        """Do one thing that can happen."""
        steps = (
            self.change,
            self.change,
            self.drain,
            self.drain,
            self.claim,
            self.claim,
            self.answer,
            self.answer,
        )
        rare = (
            self.resync,
            self.delist,
            self.move,
            self.rename,
            self.die,
            self.land,
            self.wait,
            self.wait,
            self.drop,
            self.sync,
            self.claim_turn,
            self.claim_turn,
        )
        await self.random.choice(steps + rare)()
        await self.check()

    async def change(self) -> None:
        name = self.random.choice(SKUS)
        await self.shop.sells(self.sku(name), self.random.choice([0, 1, 2, 3, 5, 8]), self.identifiers(name))

    async def delist(self) -> None:
        if self.random.random() < 0.3:
            await self.shop.delists(self.sku(self.random.choice(SKUS)))

    async def move(self) -> None:
        """Other identifiers, never used before."""
        if self.random.random() < 0.3:
            name = self.random.choice(SKUS)
            self.parts[name] += 1
            await self.shop.sells(self.sku(name), self.random.choice([0, 4]), self.identifiers(name))

    async def rename(self) -> None:
        """Another SKU, never used before, with the same identifiers."""
        if self.random.random() < 0.3:
            name = self.random.choice(SKUS)
            old = self.sku(name)
            self.names[name] += 1
            await self.shop.sql.execute("UPDATE shop.goods SET sku = $2 WHERE sku = $1", old, self.sku(name))

    def sku(self, name: str) -> str:
        return f"{name}{self.names[name]}"

    def identifiers(self, name: str) -> tuple[str, str]:
        return f"PN-{name}-{self.parts[name]}", "b"

    async def drain(self) -> None:
        await self.shop.drain(self.random.choice([AT_ONCE, AT_ONCE, DEBOUNCE]))

    async def resync(self) -> None:
        await self.shop.resync(DEBOUNCE)

    async def claim(self) -> None:
        claim = await self.shop.claim(limit=self.random.choice([1, 10]))
        self.waiting += [Request(attempt, self.shop.owner) for attempt in claim.attempts]
        self.seen["claimed"] += len(claim.attempts)

    async def sync(self) -> None:
        """Somebody asks for every number, or asks again after an interruption."""
        if self.random.random() < 0.3:
            _, marked = await self.shop.sync()
            self.seen["marked for a sync"] += marked

    async def claim_turn(self) -> None:
        claim = await self.shop.claim_turn(limit=self.random.choice([1, 10]))
        self.waiting += [Request(attempt, self.shop.owner) for attempt in claim.attempts]
        self.seen["claimed for a sync"] += len(claim.attempts)
        self.seen["synced"] += (await self.shop.ledger.end_sync())[0] is not None

    async def answer(self) -> None:
        """The marketplace's word arrives, or is lost, or there is none."""
        if not self.waiting:
            return
        request = self.waiting.pop(self.random.randrange(len(self.waiting)))
        outcome = self.random.choice(
            ["applied", "applied", "applied", "not_sent", "applied_unheard", "late", "lost", "trouble"]
        )
        self.seen[outcome] += 1
        if outcome.startswith("applied"):
            self.apply(request)
        if outcome == "late":
            self.late.append(request)
        heard = outcome if outcome in ("applied", "not_sent", "trouble") else "unknown"
        await self.shop.complete(
            request.attempt, heard, wait_s=self.random.choice([0, 0, 5]), owner=request.owner
        )

    def apply(self, request: Request) -> None:
        self.marketplace[request.attempt.push.identifiers] = request.attempt.push.quantity

    async def land(self) -> None:
        """A request without a waiting owner lands after all; perhaps once more later."""
        if self.late:
            request = self.late.pop(self.random.randrange(len(self.late)))
            self.apply(request)
            self.seen["landed"] += 1
            if self.random.random() < 0.3:
                self.late.append(request)

    async def drop(self) -> None:
        if self.late:
            self.late.pop()

    async def die(self) -> None:
        """The owner dies with its requests under way; another takes its slots and rescues, or the same one does."""
        if self.random.random() < 0.8:
            return
        self.late += self.waiting
        old, self.waiting = self.waiting, []
        await self.shop.take(self.random.choice(["one", "two"]))
        if old and self.random.random() < 0.5:
            # The old owner hears an answer after all: it must change nothing.
            await self.shop.complete(old[0].attempt, "applied", owner=old[0].owner)
            self.seen["fenced"] += 1
        self.seen["rescued"] += await self.shop.ledger.rescue(self.shop.owner, [], SETTLE)

    async def wait(self) -> None:
        """Time passes. What is older than the settle time can't land any more; who waits for long gives up."""
        seconds = self.random.choice([1, 3, 11, 30, 61])
        await self.shop.pass_time(seconds)
        for request in (*self.waiting, *self.late):
            request.age += seconds
        # The dispatcher's deadline is far below the settle time.
        for request in [r for r in self.waiting if r.age >= 30]:
            self.waiting.remove(request)
            self.late.append(request)
            await self.shop.complete(request.attempt, "unknown", owner=request.owner)
        self.late = [request for request in self.late if request.age < SETTLE.total_seconds()]

    async def check(self) -> None:
        """What must hold at every moment."""
        rows = {row["sku"]: row for row in await self.shop.sql.fetch("SELECT * FROM stockrelay.ledger")}
        open_attempts = {row["attempt_id"] for row in rows.values() if row["attempt_id"] is not None}
        assert open_attempts == {request.attempt.attempt_id for request in self.waiting}, "I3"
        under_way = {request.attempt.push.identifiers for request in (*self.waiting, *self.late)}
        busy = {tuple(row["identifiers"] or ()) for row in rows.values() if not is_clean(row)}
        for sku, row in rows.items():
            if not is_clean(row):
                # (Twins: its identifiers are another SKU's until that one's change is read.)
                is_due = {
                    row["due_at"],
                    row["attempt_id"],
                    row["sync_at"],
                    row["held_at"],
                    *(row["twins"] or ()),
                } != {None}
                assert is_due, f"{sku} is not clean, and nothing will be done about it: {dict(row)}"
            elif tuple(row["identifiers"]) not in busy:
                # (Busy: the SKU before it had the same identifiers, and its delisting is not decided yet.)
                self.seen["clean"] += 1
                assert row["due_at"] is None
                assert self.marketplace[tuple(row["identifiers"])] == row["acked_quantity"], f"I2: {sku}"
                assert tuple(row["identifiers"]) not in under_way, f"I4: {sku} can still be overwritten"

    async def release_held(self) -> None:
        """Nothing is held here."""

    async def rest(self) -> None:
        """All faults end. Everything that is under way lands or is answered; then all agree, and there is silence."""
        while self.waiting:
            request = self.waiting.pop()
            self.apply(request)
            await self.shop.complete(request.attempt, "applied", owner=request.owner)
        for turn in range(12):
            await self.shop.drain(DEBOUNCE)
            await self.release_held()
            await self.shop.pass_time(61 if turn % 2 else 11)
            if turn == 1:
                self.late.clear()
            for attempt in (*(await self.shop.claim()).attempts, *(await self.shop.claim_turn()).attempts):
                self.marketplace[attempt.push.identifiers] = attempt.push.quantity
                await self.shop.complete(attempt, "applied")
        listed = {
            (row["pn"], row["brand"]): int(row["quantity"])
            for row in await self.shop.sql.fetch("SELECT * FROM shop.goods")
        }
        held = {identifiers: quantity for identifiers, quantity in self.marketplace.items() if quantity}
        assert held == {identifiers: quantity for identifiers, quantity in listed.items() if quantity}
        assert await self.shop.ledger.next_due(EVERY_SLOT) == Due()
        await self.shop.resync(DEBOUNCE)
        await self.shop.pass_time(100)
        assert (await self.shop.claim()).captured == 0


def is_clean(row: asyncpg.Record) -> bool:
    """Nothing is wanted, open or doubted."""
    return row["want_seq"] == row["acked_seq"] and row["attempt_id"] is None and row["doubt_at"] is None


# Each seed is another history: one version has two of them, the other one the third.
@pytest.mark.parametrize(("server", "seed"), [("pg18", 0), ("pg15", 1), ("pg18", 2)], indirect=["server"])
async def test_whatever_happens_the_marketplace_ends_with_the_erps_numbers(shop: Shop, seed: int) -> None:
    history = History(shop, random.Random(seed))
    for _ in range(STEPS):
        await history.step()
    await history.rest()
    states = ("claimed", "clean", "applied", "late", "landed", "rescued", "claimed for a sync", "synced")
    for state in states:
        assert history.seen[state], f"the history never came to {state}: {history.seen}"
