"""A shop's listing, one channel's ledger over it, and time that passes on command."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

import asyncpg

from daemon.core.guard import GuardRule
from daemon.core.outcome import Conclusion, Outcome
from daemon.core.sync_filter import WHOLE_LISTING, SyncFilter
from daemon.core.types import SLOTS, Duplicates, Slot
from daemon.store.changelog import ChangeLog
from daemon.store.database import Database
from daemon.store.identity import Identity
from daemon.store.intake import Intake, IntakeReading
from daemon.store.leases import Leases, SlotKey, Taken
from daemon.store.ledger import Attempt, Claim, Completion, Debounce, Owner
from daemon.store.ledger.ledger import Ledger
from daemon.store.listing import ChannelListing, Only
from daemon.store.sync import SyncRun, Syncs
from tests.channels import CHANNELS
from tests.store.place import Connection, Place

CHANNEL: Final = CHANNELS[0]
EVERY_SLOT: Final = [Slot(number) for number in range(SLOTS)]
SETTLE: Final = timedelta(seconds=60)
LEASE: Final = timedelta(seconds=10)
TIMEOUT: Final = timedelta(seconds=20)
DEBOUNCE: Final = Debounce(timedelta(seconds=2), timedelta(seconds=10), 3)
LISTING: Final = "SELECT sku, pn AS pn_code, brand AS brand_name, quantity FROM shop.goods"


def problem(identifiers: Sequence[str | None]) -> str | None:
    """As a marketplace's: a part number is needed, and 50 characters are the most."""
    if not identifiers[0]:
        return "pn_code is missing"
    return "pn_code is too long" if len(identifiers[0]) > 50 else None


def taken_by(owner: Owner) -> list[Taken]:
    """The owner's slots, as leases are renewed and given up."""
    return [Taken(CHANNEL, slot, epoch) for slot, epoch in owner.epochs.items()]


class Shop:
    """What a test does with one channel. `sql` is a session beside the store's own pool."""

    def __init__(
        self,
        place: Place,
        database: Database,
        reader: Database,
        sql: Connection,
        listing: str,
        guard: GuardRule | None = None,
        duplicates: Duplicates = "park",
    ) -> None:
        self.place = place
        self.database = database
        self.sql = sql
        self.listing = ChannelListing(CHANNEL, listing, ("pn_code", "brand_name"), duplicates=duplicates)
        self.ledger = Ledger(database, self.listing, problem, guard, reader)
        self.leases = Leases(database)
        self.syncs = Syncs(database, self.listing)
        self.changelog = ChangeLog(database)
        self.identity = Identity(database)
        self.owner = Owner("nobody", {})

    def send_only(self, *skus: str, where: str | None = None) -> None:
        """Send these SKUs alone (without any: all), and of these the ones for which the condition is true."""
        only = Only(frozenset(skus) if skus else None, where)
        self.listing = replace(self.listing, only=only)
        self.ledger.use(self.listing)
        self.syncs = Syncs(self.database, self.listing)

    def reader(self, debounce: Debounce) -> Intake:
        """The intake, with that debounce."""
        return Intake(self.database, self.ledger, debounce)

    async def sells(
        self, sku: str, quantity: object, identifiers: tuple[str | None, str] | None = None
    ) -> None:
        """The ERP's number of a SKU is this now; it is listed if it was not."""
        pn, brand = identifiers or (f"PN-{sku}", "brand")
        await self.sql.execute(
            "WITH gone AS (DELETE FROM shop.goods WHERE sku = $1) "
            "INSERT INTO shop.goods (sku, pn, brand, quantity) VALUES ($1, $2, $3, $4::text::numeric)",
            sku,
            pn,
            brand,
            None if quantity is None else str(quantity),
        )

    async def delists(self, sku: str) -> None:
        await self.sql.execute("DELETE FROM shop.goods WHERE sku = $1", sku)

    async def drain(self, debounce: Debounce = DEBOUNCE) -> IntakeReading:
        return await self.reader(debounce).drain(notify_replicas=False, timeout=TIMEOUT)

    async def resync(self, debounce: Debounce = DEBOUNCE) -> IntakeReading:
        return await self.reader(debounce).resync(notify_replicas=False, timeout=TIMEOUT)

    async def rows(self) -> int:
        """How many rows a reading marks."""
        return (await self.drain()).marked.rows

    async def take(self, holder: str = "one") -> Owner:
        """Own every slot, also those of other owners, of a channel that is live."""
        await self.leases.add_slots([CHANNEL])
        await self.sql.execute(
            "INSERT INTO stockrelay.live (channel, by, origin) VALUES ($1, 'test', 'test') ON CONFLICT DO NOTHING",
            CHANNEL,
        )
        await self.sql.execute("UPDATE stockrelay.lease SET until = '-infinity' WHERE channel = $1", CHANNEL)
        self.owner = await self.take_free(holder)
        assert len(self.owner.epochs) == SLOTS
        return self.owner

    async def take_free(self, holder: str, slots: Collection[Slot] = EVERY_SLOT) -> Owner:
        """Take the slots that have no owner."""
        wanted = [SlotKey(CHANNEL, slot) for slot in slots]
        taken = await self.leases.take(wanted, holder, LEASE)
        return Owner(holder, {one.slot: one.epoch for one in taken})

    async def renews(self, owner: Owner) -> bool:
        """Renew the owner's leases; say whether it still has all of them."""
        return len(await self.leases.renew(taken_by(owner), owner.holder, LEASE)) == len(owner.epochs)

    async def give_up(self, owner: Owner) -> None:
        await self.leases.give_up(taken_by(owner), owner.holder)

    async def trouble(self, cause: Outcome | None) -> None:
        """Keep what is wrong with the channel."""
        await self.leases.set_trouble(CHANNEL, self.owner.holder, cause)

    async def claim(self, limit: int = 100, owner: Owner | None = None, *, is_shadow: bool = False) -> Claim:
        return await self.ledger.claim(owner or self.owner, limit, SETTLE, is_shadow=is_shadow)

    async def sync(self, wanted: SyncFilter = WHOLE_LISTING) -> tuple[SyncRun, int]:
        """Queue the listing for a sync, as `stockrelay sync` does; return how many were marked."""
        run = await self.syncs.begin(wanted)
        listed = marked = 0
        whole = run.filter is None
        reading = self.syncs.portions(2) if whole else self.syncs.chosen_portions(run, 2)
        async with aclosing(reading) as portions:
            async for portion in portions:
                listed += len(portion)
                marked += await self.syncs.mark(run, portion)
        await self.syncs.end_marking(run, listed)
        return run, marked

    async def claim_turn(self, limit: int = 100) -> Claim:
        return await self.ledger.claim(self.owner, limit, SETTLE, is_sync=True)

    async def claim_one(self) -> Attempt:
        """Claim what is due; it is one row."""
        claim = await self.claim()
        assert len(claim.attempts) == 1, claim
        return claim.attempts[0]

    async def complete(
        self, attempt: Attempt, outcome: str, *, wait_s: float = 0, owner: Owner | None = None
    ) -> bool:
        """Write how an attempt ended; `refused` and `parked` (unknown once too often) park."""
        conclusion = Conclusion(
            "unknown" if outcome == "parked" else outcome,
            f"because {outcome}",
            is_parked=outcome in ("refused", "parked"),
            wait=timedelta(seconds=wait_s),
        )
        took = timedelta(milliseconds=7)
        done = Completion(attempt.push.sku, attempt.slot, attempt.attempt_id, conclusion, took)
        return (await self.ledger.complete((owner or self.owner).holder, [done], SETTLE)).is_due

    async def deliver(
        self, sku: str, quantity: int, identifiers: tuple[str | None, str] | None = None
    ) -> None:
        """Bring a number to the marketplace, all the way."""
        await self.sells(sku, quantity, identifiers)
        await self.drain()
        await self.pass_time(100)
        attempt = await self.claim_one()
        assert attempt.push.quantity == quantity
        await self.complete(attempt, "applied")

    async def slot(self, sku: str) -> Slot:
        """The slot that a SKU of the ledger is in."""
        return Slot((await self.row(sku))["slot"])

    async def row(self, sku: str) -> asyncpg.Record:
        row = await self.find(sku)
        assert row is not None, f"{sku} is not in the ledger"
        return row

    async def find(self, sku: str) -> asyncpg.Record | None:
        """The ledger's row, with what a test asks of it."""
        return await self.sql.fetchrow(
            "SELECT *, extract(epoch FROM due_at - clock_timestamp())::float8 AS due_s, "
            "extract(epoch FROM doubt_until - clock_timestamp())::float8 AS doubt_s, "
            "want_seq > acked_seq AS is_wanted "
            "FROM stockrelay.ledger WHERE channel = $1 AND sku = $2",
            CHANNEL,
            sku,
        )

    async def held(self) -> set[str]:
        """The SKUs whose numbers the guard holds."""
        rows = await self.sql.fetch(
            "SELECT sku FROM stockrelay.ledger WHERE channel = $1 AND held_at IS NOT NULL AND parked_at IS NULL",
            CHANNEL,
        )
        return {row["sku"] for row in rows}

    async def pass_time(self, seconds: float) -> None:
        """All that the ledger remembers happened so much earlier."""
        ago = timedelta(seconds=seconds)
        columns = (
            "first_dirty_at",
            "unacked_since",
            "due_at",
            "acked_at",
            "attempt_at",
            "doubt_at",
            "doubt_until",
            "retry_at",
            "parked_at",
            "sync_at",
            "exposed_at",
            "counted_until",
            "exposed_due",
        )
        moved = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
        await self.sql.execute(f"UPDATE stockrelay.ledger SET {moved}, zero_at = zero_at - $1::interval", ago)
        await self.sql.execute("UPDATE stockrelay.anomaly SET at = at - $1::interval", ago)
        await self.sql.execute(
            "UPDATE stockrelay.guard SET held_from = held_from - $1::interval, held_to = held_to - $1::interval, "
            "held_since = held_since - $1::interval, pass_until = pass_until - $1::interval, "
            "counted_at = counted_at - $1::interval",
            ago,
        )
        await self.sql.execute("UPDATE stockrelay.sync_run SET started_at = started_at - $1::interval", ago)

    async def attempts(self) -> list[asyncpg.Record]:
        """The attempt log, in order."""
        rows: list[asyncpg.Record] = await self.sql.fetch(
            "SELECT * FROM stockrelay.attempt ORDER BY attempt_id"
        )
        return rows


@asynccontextmanager
async def opened(
    place: Place,
    listing: str = LISTING,
    role: str = "postgres",
    guard: GuardRule | None = None,
    duplicates: Duplicates = "park",
    *,
    is_pooled: bool = False,
) -> AsyncIterator[Shop]:
    """A shop over that database, its store's sessions with that role; its pool is closed at the end."""
    options = replace(place.options(role), is_pooled=is_pooled)
    database = Database(options, 4)
    reader = Database(replace(options, is_for_listings=True), 2)
    await database.open()
    await reader.open()
    try:
        yield Shop(place, database, reader, await place.connect(), listing, guard, duplicates)
    finally:
        await reader.close()
        await database.close()
