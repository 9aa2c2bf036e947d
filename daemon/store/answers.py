"""What an operator asks about one SKU, or of the attempt log."""

import json
import math
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import asyncpg

from daemon import clock
from daemon.core.errors import BadRow, SchemaMismatch, StockrelayError
from daemon.core.explain.facts import ExplainSettings, Facts, Filling, PastAttempt, PastDifference, Stop, Twin
from daemon.core.explain.ledger_row import LedgerRow
from daemon.core.guard import threshold
from daemon.core.plan import LEFT_OUT, Listed
from daemon.core.types import ChannelName, Sku
from daemon.store import one_message, queries
from daemon.store.answer_rows import ChannelState, LoggedAttempt, OpenDifference, Reconciled, Sync
from daemon.store.control import Pauses
from daemon.store.database import Database
from daemon.store.guard import Guard, GuardState
from daemon.store.leases import Leases
from daemon.store.listing import ChannelListing, listed_of
from daemon.store.live import why_shadow
from daemon.store.operations import OperationLog
from daemon.store.rows import Connection, row_as
from daemon.store.twins import Twins

_SQL = queries.load("answers")
_LEDGER = queries.load("ledger")
_MOST_ROWS: Final = 5
_MOST_CANDIDATES: Final = 200
_MOST_NAMESAKES: Final = 20
_MOST_TWINS: Final = 20
_OPERATIONS: Final = 5


class Answers:
    """Reads; changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def facts(
        self, listing: ChannelListing, sku: Sku, settings: ExplainSettings, attempts: int
    ) -> Facts:
        """Return all that is known of the SKU at that channel's marketplace, with its last few `attempts`."""
        channel = listing.channel
        async with self._database.connection(f"{channel}: looking {sku} up") as connection:
            intake = await connection.fetchrow(_SQL["intake"], sku, channel)
            record = await connection.fetchrow(_SQL["ledger_row"], channel, sku)
            past = await connection.fetch(_SQL["last_attempts"], channel, sku, attempts)
            differences = await connection.fetch(_SQL["differences"], channel, sku)
        assert intake is not None
        row = None if record is None else row_as(LedgerRow, record)
        listed, rows, problem = await self._listed(listing, sku)
        has_moved = row is not None and problem is None and _has_moved(row, listed, sku)
        guard = await Guard(self._database).state(channel)
        return Facts(
            channel=channel,
            sku=sku,
            now=intake["now"],
            columns=listing.identifier_columns,
            listing=rows,
            listing_problem=problem,
            listed=listed,
            row=row,
            successor=await self._successor(channel, sku) if has_moved else None,
            attempts=tuple(row_as(PastAttempt, one) for one in past),
            differences=tuple(row_as(PastDifference, one) for one in differences),
            guard=Stop(guard.held_since, guard.why) if guard.held_since else None,
            filling=_filling(guard, settings),
            threshold=threshold(settings.guard, guard.on_sale) if settings.guard else "",
            paused=await self._paused(channel),
            trouble=await self._trouble(channel),
            shadow=await why_shadow(self._database, channel, is_shadow=settings.is_shadow),
            has_owner=await self._has_owner(channel, None if record is None else record["slot"]),
            is_unread=intake["is_unread"],
            resync_at=intake["resynced_at"] and intake["resynced_at"] + settings.resync,
            settings=settings,
            factor=math.inf if settings.guard is None else settings.guard.move_factor,
            twins=await self._twins(listing, sku, row, listed),
            operations=tuple(await OperationLog(self._database).recent(_OPERATIONS, channel, sku)),
            duplicates=listing.duplicates,
            is_first_reading=intake["is_first_reading"],
        )

    async def _paused(self, channel: ChannelName) -> Stop | None:
        pause = (await Pauses(self._database).all()).get(channel)
        if pause is None:
            return None
        return Stop(pause.since, f"by {pause.by}: {pause.reason}" if pause.reason else f"by {pause.by}")

    async def _trouble(self, channel: ChannelName) -> Stop | None:
        for one in await Leases(self._database).troubles():
            if one.channel == channel:
                return Stop(one.since, f"{one.trouble}: {one.reason}; {one.advice}")
        return None

    async def _has_owner(self, channel: ChannelName, slot: int | None) -> bool:
        """Whether a replica owns the SKU's slot; None: any slot of the channel."""
        leases = await Leases(self._database).all()
        return any(
            lease.holder for lease in leases if lease.channel == channel and slot in (None, lease.slot)
        )

    async def _twins(
        self, listing: ChannelListing, sku: Sku, row: LedgerRow | None, listed: Listed | None
    ) -> tuple[Twin, ...]:
        """Other SKUs with the same identifiers, which are the listing's now, or those that were read last."""
        names = row and row.listed_identifiers if listed is None else listed.identifiers
        if not names:
            return ()
        doing = f"{listing.channel}: looking for an identifier"
        wanted = (listing.channel, sku, list(names), _MOST_TWINS)
        return tuple(await self._database.fetch_all(Twin, doing, _SQL["twins"], *wanted))

    async def _listed(
        self, listing: ChannelListing, sku: Sku
    ) -> tuple[Listed | None, tuple[dict[str, object], ...], str | None]:
        """What the listing makes of the SKU, the query's own rows, and why it fails if it does."""
        try:
            made, rows = await self._listing_rows(listing, sku)
        except SchemaMismatch:
            raise
        except StockrelayError as error:
            return None, (), str(error)
        # Numbers stay as the server writes them.
        shown = tuple(json.loads(row["row"], parse_float=str) for row in rows)
        if shown and listing.only.leaves_out(sku):
            return LEFT_OUT, shown, None
        return None if made is None else listed_of(made), shown, None

    async def _listing_rows(
        self, listing: ChannelListing, sku: Sku
    ) -> tuple[asyncpg.Record | None, list[dict[str, Any]]]:
        """What a claim reads of the SKU, and the query's own rows: none where they can't be read."""
        plain = listing.statement("read_listing", is_whole=False)
        try:
            async with self._reading_listing() as connection:
                made = await self._made(connection, plain, listing, sku)
                query = _with(listing, "listing_rows")
                return made, await one_message.fetch(connection, query, sku, _MOST_ROWS)
        except BadRow:
            apart = listing.statement("read_listing", is_whole=False, is_apart=True)
            async with self._reading_listing() as connection:
                return await self._made(connection, apart, listing, sku), []

    @staticmethod
    async def _made(
        connection: Connection, statement: str, listing: ChannelListing, sku: Sku
    ) -> asyncpg.Record | None:
        read = await Twins(listing).complete(connection, [sku])
        rows = await connection.fetch(statement, [sku], read)
        made = next((row for row in rows if row["sku"] == sku), None)
        if listing.duplicates == "park" or made is None or not made["identifiers"]:
            return made
        # Where no reading has seen these identifiers yet, a claim finds the others first, and reads again.
        others = await connection.fetch(_SQL["twins"], listing.channel, sku, made["identifiers"], None)
        if not {one["sku"] for one in others} - set(read):
            return made
        rows = await connection.fetch(statement, [sku], [sku, *(one["sku"] for one in others)])
        return next((row for row in rows if row["sku"] == sku), None)

    @asynccontextmanager
    async def _reading_listing(self) -> AsyncIterator[Connection]:
        async with (
            self._database.connection("reading the listing") as connection,
            self._database.reading(connection),
        ):
            yield connection

    async def _successor(self, channel: ChannelName, sku: Sku) -> Sku | None:
        doing = f"{channel}: looking for successors"
        rows = await self._database.fetch(doing, _LEDGER["successors"], channel, [sku])
        return next((row["sku"] for row in rows if row["takes_over"]), None)

    async def sold_as(self, listing: ChannelListing, identifier: str) -> list[Sku]:
        """Return the SKUs that the marketplace knows by this (first) identifier, at most twenty."""
        channel = listing.channel
        doing = f"{channel}: looking for an identifier"
        rows = await self._database.fetch(doing, _SQL["sold_as"], channel, identifier, _MOST_NAMESAKES)
        return [row["sku"] for row in rows] or await self._ask_listing(
            listing, "listed_as", identifier, _MOST_NAMESAKES
        )

    async def candidates(self, listing: ChannelListing, asked: str) -> list[Sku]:
        """Return SKUs that may have been meant, from ledger and listing."""
        channel = listing.channel
        near = _SQL["near"].replace("@source@", _SQL["near_in_ledger"].rstrip(";"))
        doing = f"{channel}: looking for names like it"
        rows = await self._database.fetch(doing, near, asked, _MOST_CANDIDATES, channel)
        listed = await self._ask_listing(listing, "near", asked, _MOST_CANDIDATES, channel)
        return list(dict.fromkeys([*(row["sku"] for row in rows), *listed]))

    async def _ask_listing(
        self, listing: ChannelListing, name: str, *arguments: one_message.Value
    ) -> list[Sku]:
        """Ask the operator's query. One that fails is reported elsewhere, and gives nothing here."""
        try:
            async with self._reading_listing() as connection:
                rows = await one_message.fetch(connection, _with(listing, name), *arguments)
        except SchemaMismatch:
            raise
        except StockrelayError:
            return []
        return [Sku(row["sku"]) for row in rows]

    async def clock_ahead(self) -> timedelta:
        """Return how far the database's clock is ahead of this machine's, to within half a round trip."""
        async with self._database.connection("reading the database's clock") as connection:
            before = clock.now()
            there: datetime = await connection.fetchval(_SQL["now"])
            return there - (before + (clock.now() - before) / 2)

    async def channel_state(self, channel: ChannelName) -> ChannelState:
        """Return the state of a channel beside its backlog."""
        (row,) = await self._database.fetch(f"{channel}: reading its state", _SQL["channel_state"], channel)
        sync = None if row["since"] is None else row_as(Sync, row)
        reconciled = None if row["day"] is None else row_as(Reconciled, row)
        return ChannelState(sync, reconciled, row["differences"])

    async def open_differences(self, channels: Collection[ChannelName], limit: int) -> list[OpenDifference]:
        """Return the open differences of these channels, the last seen first."""
        doing = "reading the differences"
        rows = await self._database.fetch(doing, _SQL["open_differences"], list(channels), limit)
        return [row_as(OpenDifference, row, difference=row_as(PastDifference, row)) for row in rows]

    async def attempts(
        self,
        channels: Collection[ChannelName],
        *,
        sku: Sku | None,
        since: datetime | None,
        outcomes: Sequence[str],
        limit: int,
    ) -> list[LoggedAttempt]:
        """Return attempts of these channels, the newest first. No `outcomes`: any."""
        wanted = (since, list(channels), sku, list(outcomes) or None, limit)
        rows = await self._database.fetch("reading the attempt log", _SQL["attempts"], *wanted)
        return [row_as(LoggedAttempt, row, attempt=row_as(PastAttempt, row)) for row in rows]


def _with(listing: ChannelListing, name: str) -> str:
    """The named query with this listing in place."""
    text = _SQL[name].replace("@source@", _SQL["near_in_listing"].rstrip(";"))
    return text.replace("@identifier@", listing.identifier_columns[0]).replace("@listing@", listing.query())


def _has_moved(row: LedgerRow, listed: Listed | None, sku: Sku) -> bool:
    """Whether the identifiers that were sent are no longer the listing's for this SKU."""
    if row.identifiers is None:
        return False
    return listed is None or listed.identifiers != row.identifiers or listed.carrier not in (None, sku)


def _filling(state: GuardState, settings: ExplainSettings) -> Filling:
    if settings.guard is None or state.is_filled:
        return Filling.GOOD
    return Filling.AWAITED if state.held_since is None else Filling.HELD
