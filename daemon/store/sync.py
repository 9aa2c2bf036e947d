"""One-time initialisation: which SKUs of the listing are queued, and what became of them."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from daemon.core.errors import BadRow, StoreUnavailable
from daemon.core.plan import Listed
from daemon.core.types import Sku
from daemon.store import one_message, queries
from daemon.store.database import Database
from daemon.store.held_rows import held_rows
from daemon.store.listing import ChannelListing, as_row, listed_of
from daemon.store.refused import RefusedSkus, refused_skus
from daemon.store.rows import row_as
from daemon.store.twins import Twins

_SQL = queries.load("sync")
_INSPECT = queries.load("inspect")

LISTING_TIMEOUT: Final = timedelta(minutes=15)
_COUNT_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class SyncRun:
    """A sync that is open. `is_marked`: all of the listing has been queued; `is_new`: it begins now."""

    number: int
    started_at: datetime
    is_marked: bool
    is_new: bool


@dataclass(frozen=True, slots=True)
class SyncProgress:
    """How far a sync is. `waiting` have not been accepted, `confirming` have, and are asked once more after a doubt;
    `holders` own the channel's slots, if any process does; `trouble`: why nothing is sent just now."""

    is_finished: bool
    total: int
    waiting: int
    confirming: int
    holders: tuple[str, ...]
    trouble: str | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Why `skus` SKUs were parked; `sku` is one of them."""

    reason: str
    skus: int
    sku: Sku


@dataclass(frozen=True, slots=True)
class SyncSummary:
    """The result of a sync. `listed` are the listing's SKUs, of which `total` were queued and `left` still are.
    `refused` were parked meanwhile, `parked_before` were parked and are left alone, `held` are zeroes that are held."""

    is_finished: bool
    took: timedelta
    listed: int
    total: int
    accepted: int
    refused: int
    parked_before: int
    held: int
    in_doubt: int
    left: int
    reasons: tuple[Refused, ...]


class Syncs:
    """One channel's syncs. `reader`: connections past any pooler, for reading the listing."""

    def __init__(self, database: Database, listing: ChannelListing, reader: Database | None = None) -> None:
        self._database = database
        self._reader = reader or database
        self.channel = listing.channel
        self._listing = listing
        self._twins = Twins(listing)
        self._read_whole = listing.statement("read_whole_listing", is_whole=True)
        self._alike = _INSPECT["listing_alike"].replace("@listing@", listing.chosen())
        self._read_whole_apart = listing.statement("read_whole_listing", is_whole=True, is_apart=True)

    async def begin(self) -> SyncRun:
        """Open a sync, or find the one that is open."""
        for _ in range(3):
            doing = f"{self.channel}: opening a sync"
            if runs := await self._database.fetch_all(SyncRun, doing, _SQL["begin_sync"], self.channel):
                return runs[0]
        raise StoreUnavailable(f"{self.channel}: others open and end syncs all the time; try again")

    async def portions(self, size: int) -> AsyncGenerator[list[tuple[Sku, Listed]], None]:
        """Read the whole listing, `size` SKUs at a time, so that memory does not grow with it. Nothing of the ERP's is
        locked between portions. A SKU whose row can't be read has a fault. Raises TableLocked, StoreUnavailable,
        StoreRefused."""
        try:
            async with aclosing(self._portions(self._read_whole, size)) as portions:
                async for portion in portions:
                    yield portion
        except BadRow:
            # Raised before the first portion.
            async with aclosing(self._portions(self._read_whole_apart, size)) as portions:
                async for portion in portions:
                    yield portion

    async def _portions(self, statement: str, size: int) -> AsyncGenerator[list[tuple[Sku, Listed]], None]:
        async with (
            self._reader.connection(f"{self.channel}: reading the listing") as connection,
            aclosing(held_rows(connection, statement, size, LISTING_TIMEOUT)) as portions,
        ):
            async for rows in portions:
                yield [(Sku(row["sku"]), listed_of(row)) for row in rows]

    async def alike(self, most: int) -> list[tuple[str, str]]:
        """Return pairs of SKUs that differ only by blanks or capitals: a pass over the listing. None where a row of it
        can't be read. Raises StoreUnavailable, StoreRefused."""
        try:
            async with self._reader.connection(f"{self.channel}: comparing the listing's SKUs") as connection:
                rows = await one_message.fetch(connection, self._alike, most, timeout=LISTING_TIMEOUT)
        except BadRow:
            return []
        return [(row["pair"][0], row["pair"][1]) for row in rows]

    async def refused(self) -> RefusedSkus:
        """Return the listing's SKUs that the ledger can't hold: a pass over the listing. None where it fails on a row.
        Raises StoreUnavailable, StoreRefused."""
        try:
            async with self._reader.connection(
                f"{self.channel}: looking for SKUs that cannot be stored"
            ) as connection:
                return await refused_skus(connection, self._listing, LISTING_TIMEOUT)
        except BadRow:
            return RefusedSkus(0, ())

    async def mark(self, run: SyncRun, portion: Sequence[tuple[Sku, Listed]]) -> int:
        """Queue these SKUs; return how many were neither queued nor sent before. Safe to repeat."""
        rows = [as_row(sku, listed) for sku, listed in portion]
        async with self._database.connection(f"{self.channel}: marking for a sync") as connection:
            marked: int = await connection.fetchval(
                _SQL["mark_sync"], self.channel, run.started_at, json.dumps(rows, ensure_ascii=False)
            )
            # What a marking commits meanwhile is seen by this, or sees what was marked here.
            names = json.dumps([row["identifiers"] for row in rows if row["identifiers"]], ensure_ascii=False)
            await self._twins.note(connection, names, timedelta(0))
        return marked

    async def end_marking(self, run: SyncRun, listed: int) -> None:
        """All of the listing has been marked."""
        async with self._database.connection(f"{self.channel}: counting a sync") as connection:
            await self._twins.note(connection, None, timedelta(0), _COUNT_TIMEOUT_S)
            await connection.execute(_SQL["end_marking"], run.number, listed, timeout=_COUNT_TIMEOUT_S)

    async def progress(self, run: SyncRun) -> SyncProgress:
        """How far it is; a pass over the SKUs that are still queued."""
        doing = f"{self.channel}: looking at a sync"
        return await self._database.fetch_one(
            SyncProgress, doing, _SQL["sync_progress"], run.number, timeout=_COUNT_TIMEOUT_S
        )

    async def summary(self, run: SyncRun, most_reasons: int = 20) -> SyncSummary:
        async with self._database.connection(f"{self.channel}: summing a sync up") as connection:
            row = await connection.fetchrow(_SQL["sync_summary"], run.number, timeout=_COUNT_TIMEOUT_S)
            reasons = await connection.fetch(_SQL["sync_reasons"], run.number, most_reasons)
        assert row is not None
        return row_as(SyncSummary, row, reasons=tuple(row_as(Refused, reason) for reason in reasons))

    async def before(self) -> tuple[int, datetime | None]:
        """How many SKUs are parked, and since when a sync is open."""
        doing = f"{self.channel}: looking for a sync"
        (row,) = await self._database.fetch(
            doing, _SQL["sync_before"], self.channel, timeout=_COUNT_TIMEOUT_S
        )
        return row["parked"], row["open_since"]
