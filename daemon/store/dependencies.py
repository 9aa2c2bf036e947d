"""What a listing reads (the server has it locked when the listing has been run), and how changes spell SKUs."""

from collections.abc import Sequence
from dataclasses import replace

import asyncpg

from daemon.core.dependencies import Reads, Relation, Unseen
from daemon.core.errors import StockrelayError, StoreRefused
from daemon.core.spelling import Spelling, is_inconclusive
from daemon.core.types import ChannelName
from daemon.store import one_message, queries
from daemon.store.listing import ChannelListing
from daemon.store.rows import Look, looked_up

_SQL = queries.load("dependencies")
_FAN_OUT = queries.load("fanout")
_CAPTURE = queries.load("capture_health")


class Dependencies:
    """What the listings read, and how changes spell SKUs. `compared_only`: relations that need not be watched. All
    methods raise StoreUnavailable, StoreRefused."""

    def __init__(self, look: Look, compared_only: Sequence[str] = ()) -> None:
        self._look = look
        self._compared_only = list(compared_only)

    async def reads(self, listing: ChannelListing, sku: str | None = None) -> Reads:
        """Return what the listing reads, for `sku` or one that the ledger knows: it is planned, which shows all that it
        names, and run for one SKU, which shows what its functions read. (`stockrelay.listed` would give the locks
        back.)"""
        portion = listing.portion(is_whole=False)
        async with self._look("looking at what the listing reads") as connection:
            row = await connection.fetchrow(_SQL["begin_looking"], listing.channel)
            assert row is not None
            sku = sku if sku is not None else row["sku"]
            await one_message.plan(connection, portion, [], [])
            if sku is not None:
                await one_message.fetch(connection, portion, [], [sku])
            rows = await one_message.fetch(connection, _SQL["held"], self._compared_only)
        relations = [Relation(row["name"], Unseen(row["unseen"]) if row["unseen"] else None) for row in rows]
        watches = frozenset(name for row in rows for name in row["watches"])
        return Reads(listing.channel, relations, watches)

    async def subscribed(self) -> list[str]:
        """Return the watched tables whose rows come from a subscription."""
        rows = await looked_up(
            self._look, "looking for subscriptions", _SQL["subscribed"], self._compared_only
        )
        return [row["name"] for row in rows]

    async def spellings(self, channels: Sequence[ChannelName], reads: Sequence[Reads]) -> list[Spelling]:
        """Return what the last changes of each watched table call SKUs, judged by each listing that reads the table;
        where none does, by all of them together."""
        are_read = {table for each in reads for table in each.watches}
        async with self._look("looking at how changes spell SKUs") as connection:
            together = await connection.fetch(_SQL["spellings"], list(channels))
            by_channel = [(each, await connection.fetch(_SQL["spellings"], [each.channel])) for each in reads]
        return [_spelling(row, None) for row in together if row["name"] not in are_read] + [
            await self._judged(row, each.channel)
            for each, rows in by_channel
            for row in rows
            if row["name"] in each.watches
        ]

    async def _judged(self, row: asyncpg.Record, channel: ChannelName) -> Spelling:
        spelling = _spelling(row, channel)
        if not is_inconclusive(spelling):
            return spelling
        statement = _SQL["has_listed"].replace("@table@", row["relation"]).replace("@sku@", row["sku"])
        try:
            async with self._look("looking for listed SKUs in a watched table") as connection:
                await connection.fetchrow(_SQL["begin_looking"], channel)
                await connection.execute(_CAPTURE["plain_path"])
                (answer,) = await one_message.fetch(connection, statement, channel, row["relation"])
        except StockrelayError:
            # The table may be locked, or this role may not read it: nothing is proven.
            return replace(spelling, is_part=True)
        return replace(spelling, is_part=answer["has_listed"])

    async def try_fan_out(self, table: str, skus: str) -> None:
        """Have the server understand a watch's query for SKUs. Raises StoreRefused with its words."""
        async with self._look("trying the query") as connection:
            query = _FAN_OUT["try"].replace("@table@", table).replace("@skus@", skus)
            await one_message.prepare(connection, query.rstrip(";"))

    async def broken_fan_outs(self) -> list[tuple[str, str]]:
        """Return the watched tables whose query for SKUs does not work any more, and why."""
        watches = await looked_up(self._look, "looking for queries for SKUs", _SQL["fan_outs"])
        broken = []
        for watch in watches:
            try:
                await self.try_fan_out(watch["relation"], watch["skus"])
            except StoreRefused as error:
                broken.append((watch["name"], str(error)))
        return broken


def _spelling(row: asyncpg.Record, channel: ChannelName | None) -> Spelling:
    return Spelling(
        row["name"], row["known"], row["unknown"], row["example"], row["alike"], row["listed"], channel
    )
