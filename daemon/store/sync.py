"""One-time initialisation: which SKUs of the listing are queued, and what became of them."""

import json
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from daemon.core.errors import BadRow, StockrelayError, StoreUnavailable
from daemon.core.plan import Listed
from daemon.core.sync_filter import WHOLE_LISTING, SyncFilter, described, named_in
from daemon.core.types import Sku
from daemon.store import one_message, queries
from daemon.store.database import Database
from daemon.store.driver_errors import translated
from daemon.store.held_rows import held_rows
from daemon.store.listing import ChannelListing, Only, as_row, listed_of
from daemon.store.refused import RefusedSkus, refused_skus
from daemon.store.rows import Connection, row_as
from daemon.store.twins import Twins

_SQL = queries.load("sync")
_LEDGER = queries.load("ledger")
_INSPECT = queries.load("inspect")

LISTING_TIMEOUT: Final = timedelta(minutes=15)
_COUNT_TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class SyncRun:
    """A sync that is open. `is_marked`: all of its SKUs have been queued; `is_new`: it begins now; `filter`: what chose
    these, as it is stored; None: it is for the whole listing."""

    number: int
    started_at: datetime
    is_marked: bool
    is_new: bool
    filter: str | None = None


@dataclass(frozen=True, slots=True)
class SyncRow:
    """What has become of one SKU in a sync; `quantity` is what the marketplace has acknowledged last."""

    sku: Sku
    identifiers: tuple[str | None, ...]
    quantity: int | None
    result: str
    reason: str | None


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
        self._read_some = listing.statement("read_listing", is_whole=False)
        self._read_some_apart = listing.statement("read_listing", is_whole=False, is_apart=True)

    async def begin(self, wanted: SyncFilter = WHOLE_LISTING) -> SyncRun:
        """Open a sync for these SKUs, or find the one that is open. Raises StockrelayError where that one has another
        filter."""
        doing = f"{self.channel}: opening a sync"
        for _ in range(3):
            async with self._database.transaction(doing) as connection:
                row = await connection.fetchrow(_SQL["begin_sync"], self.channel, wanted.text())
                if row is None:
                    continue
                run = row_as(SyncRun, row)
                if run.is_new and run.filter is not None:
                    await self._choose(connection, run, wanted)
            if run.filter != wanted.text():
                raise StockrelayError(
                    f"another sync of {self.channel} is open since {run.started_at:%Y-%m-%d %H:%M:%S %Z}, for "
                    f"{described(run.filter)}: go on with it first, with `stockrelay sync {self.channel} --resume`"
                )
            return run
        raise StoreUnavailable(f"{self.channel}: others open and end syncs all the time; try again")

    async def open(self) -> SyncRun:
        """Find the sync that is open, whatever it is for. Raises StockrelayError where there is none."""
        doing = f"{self.channel}: looking for a sync"
        runs = await self._database.fetch_all(SyncRun, doing, _SQL["open_sync"], self.channel)
        if not runs:
            raise StockrelayError(f"no sync of {self.channel} is open, so there is none to go on with")
        return runs[0]

    async def chosen(self, wanted: SyncFilter) -> set[Sku]:
        """Return the listing's SKUs that a filter chooses. Raises StoreUnavailable, StoreRefused."""
        async with self._database.transaction(f"{self.channel}: choosing SKUs") as connection:
            await self._database.limit_reading(connection)
            rows = await connection.fetch(
                self._with_choice(_SQL["chosen_skus"], wanted),
                *self._choice(wanted),
                timeout=LISTING_TIMEOUT.total_seconds(),
            )
        return {Sku(row["sku"]) for row in rows}

    async def _choose(self, connection: Connection, run: SyncRun, wanted: SyncFilter) -> None:
        """Keep which SKUs a sync is for, so that it goes on with the same ones after an interruption."""
        await self._database.limit_reading(connection)
        with translated(f"{self.channel}: choosing SKUs"):
            await connection.execute(
                self._with_choice(_SQL["choose"].replace("@chosen_skus@", _SQL["chosen_skus"]), wanted),
                *self._choice(wanted),
                run.number,
                self._listing.duplicates == "sum",
                timeout=LISTING_TIMEOUT.total_seconds(),
            )

    def _choice(self, wanted: SyncFilter) -> tuple[object, ...]:
        return self.channel, None if wanted.skus is None else sorted(wanted.skus), wanted.since

    def _with_choice(self, statement: str, wanted: SyncFilter) -> str:
        """Return the statement with the query for the SKUs that the filter's condition chooses in place."""
        chosen = replace(self._listing, sql=self._listing.chosen(), only=Only(where=wanted.where))
        names = chosen.filled(_LEDGER["listed_names"].rstrip(";"))
        return statement.replace("@chosen@", queries.dollar_quoted(names))

    async def chosen_portions(
        self, run: SyncRun, size: int
    ) -> AsyncGenerator[list[tuple[Sku, Listed]], None]:
        """Read what the listing says of the SKUs that a filter has chosen, `size` at a time. Raises as `portions`."""
        last = ""
        doing = f"{self.channel}: reading the listing"
        while rows := await self._database.fetch(doing, _SQL["next_chosen"], run.number, last, size):
            skus = [row["sku"] for row in rows]
            last = skus[-1]
            try:
                yield await self._read(self._read_some, skus)
            except BadRow:
                yield await self._read(self._read_some_apart, skus)

    async def _read(self, statement: str, skus: Sequence[str]) -> list[tuple[Sku, Listed]]:
        async with self._database.connection(f"{self.channel}: reading the listing") as connection:
            wanted = await self._twins.complete(connection, skus)
            async with self._database.reading(connection):
                rows = await connection.fetch(statement, skus, wanted)
        return [(Sku(row["sku"]), listed_of(row)) for row in rows if row["rows"] > 0]

    async def missing(self, run: SyncRun) -> list[Sku]:
        """Return the SKUs that a sync's filter names and the listing does not have, or `only` leaves out."""
        named = named_in(run.filter)
        doing = f"{self.channel}: looking at a sync"
        rows = await self._database.fetch(doing, _SQL["missing"], run.number, named) if named else []
        return await self.not_listed({Sku(row["sku"]) for row in rows})

    async def not_listed(self, skus: Collection[Sku]) -> list[Sku]:
        """Return those of the SKUs that the listing does not have, or `only` leaves out."""
        return sorted(set(skus) - await self.chosen(SyncFilter(frozenset(skus)))) if skus else []

    async def rows(self, run: SyncRun, size: int) -> AsyncGenerator[list[SyncRow], None]:
        """Return what has become of a sync's SKUs, `size` at a time."""
        doing, last = f"{self.channel}: looking at a sync", ""
        while rows := await self._database.fetch_all(
            SyncRow, doing, _of_sync("sync_rows"), run.number, last, size, timeout=_COUNT_TIMEOUT_S
        ):
            yield rows
            last = rows[-1].sku

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
            await connection.execute(_of_sync("end_marking"), run.number, listed, timeout=_COUNT_TIMEOUT_S)

    async def progress(self, run: SyncRun) -> SyncProgress:
        """How far it is; a pass over the SKUs that are still queued."""
        doing = f"{self.channel}: looking at a sync"
        return await self._database.fetch_one(
            SyncProgress, doing, _SQL["sync_progress"], run.number, timeout=_COUNT_TIMEOUT_S
        )

    async def summary(self, run: SyncRun, most_reasons: int = 20) -> SyncSummary:
        async with self._database.connection(f"{self.channel}: summing a sync up") as connection:
            row = await connection.fetchrow(_of_sync("sync_summary"), run.number, timeout=_COUNT_TIMEOUT_S)
            reasons = await connection.fetch(_of_sync("sync_reasons"), run.number, most_reasons)
        assert row is not None
        return row_as(SyncSummary, row, reasons=tuple(row_as(Refused, reason) for reason in reasons))

    async def before(self) -> tuple[int, datetime | None]:
        """How many SKUs are parked, and since when a sync is open."""
        doing = f"{self.channel}: looking for a sync"
        (row,) = await self._database.fetch(
            doing, _SQL["sync_before"], self.channel, timeout=_COUNT_TIMEOUT_S
        )
        return row["parked"], row["open_since"]


def _of_sync(name: str) -> str:
    """Return the named statement, which looks at the SKUs of one sync."""
    return _SQL[name].replace("@is_of_sync@", _SQL["is_of_sync"].partition("\n")[2])
