"""What `stockrelay check` asks the database of a listing. Nothing is changed; nothing takes longer than its limit."""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg

from daemon.core.errors import BadRow, StoreRefused
from daemon.core.listing_cost import Reading
from daemon.core.quoting import quoted
from daemon.store import one_message, queries
from daemon.store.inspect import Inspector
from daemon.store.listing import ChannelListing, listed_of
from daemon.store.refused import RefusedSkus, refused_skus
from daemon.store.rows import looked_up, row_as

_SQL = queries.load("inspect")
_ROWS: Final = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a listing, in order, with their types' names; unknown if it has parameters ($1)."""

    columns: tuple[tuple[str, str], ...]
    has_parameters: bool


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a listing. `number` is its quantity as it reads (None: NULL); `fault`: why the row can't be read."""

    sku: str | None
    identifiers: tuple[str | None, ...]
    number: str | None
    is_sendable: bool
    is_fractional: bool
    is_zero: bool
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Examples:
    """How many there are, and some of them."""

    many: int
    some: tuple[str, ...]


class ListingInspector:
    """One listing's answers. All methods raise StoreUnavailable, StoreRefused, Denied, TookTooLong."""

    def __init__(self, inspector: Inspector, listing: ChannelListing) -> None:
        self.inspector = inspector
        # Each SKU's own numbers, not the sums that are sent.
        self._listing = replace(listing, duplicates="park")

    async def is_one_statement(self) -> bool:
        """Return whether the server understands the listing by itself: False for several statements."""
        try:
            await self._plan(self._listing.query())
        except StoreRefused as error:
            return "multi-query" not in str(error)
        return True

    async def shape(self) -> Shape:
        """Return the listing's columns, without running it."""
        try:
            await self._plan(self._filled("listing_shape").rstrip("; \n"))
        except StoreRefused as error:
            if isinstance(error.__cause__, asyncpg.UndefinedParameterError):
                return Shape((), has_parameters=True)
            raise
        columns = await self.inspector.columns(self._filled("listing_shape"))
        return Shape(columns, has_parameters=False)

    async def try_choice(self) -> None:
        """Have the server plan the query for the rows that may be sent."""
        await self._plan(self._listing.chosen())

    async def try_listing(self) -> None:
        """Have the server plan the listing where the daemon puts it, which takes the rights that running it takes."""
        async with self.inspector.look("planning the listing") as connection:
            await one_message.plan(connection, self._read_some(), [], [])

    async def rows(self, quantity_type: str) -> AsyncGenerator[Row, None]:
        """Yield the listing's rows, whose quantity is of that type. Cut by TookTooLong when the first of them take too
        long."""
        # As stockrelay.as_numeric reads it; our schema may not be there yet.
        number = "l.quantity::float8::numeric" if quantity_type == "float4" else "l.quantity::numeric"
        statement = self._listing.filled(_SQL["listing_rows"], number)
        async with aclosing(self.inspector.rows("reading the listing", statement)) as rows:
            async for row in rows:
                yield row_as(Row, row)

    async def rows_apart(self) -> AsyncGenerator[Row, None]:
        """Yield the same, SKU by SKU, of a listing of which some rows can't be read. It takes our schema."""
        statement = self._listing.statement("read_whole_listing", is_whole=True, is_apart=True)
        async with aclosing(self.inspector.rows("reading the listing row by row", statement)) as records:
            async for record in records:
                listed = listed_of(record)
                is_sendable = listed.quantity is not None
                number = str(listed.quantity) if is_sendable else listed.raw_quantity
                yield Row(
                    record["sku"],
                    listed.identifiers,
                    number,
                    is_sendable,
                    is_fractional=False,
                    is_zero=listed.quantity == 0,
                    fault=listed.fault,
                )

    async def refused_skus(self) -> RefusedSkus:
        """Return SKUs that the ledger can't hold. It takes our schema."""
        async with self.inspector.look("looking for SKUs that cannot be stored") as connection:
            return await refused_skus(connection, self._listing)

    async def duplicates(self, most: int) -> Examples:
        """Return the SKUs with more than one row."""
        return await self._examples("listing_duplicates", most)

    async def twins(self, most: int) -> Examples:
        """Return how many SKUs share their identifiers with others, and pairs of them."""
        return await self._pairs("listing_twins", most)

    async def alike(self, most: int) -> Examples:
        """Return the pairs of SKUs that differ only by blanks or capitals."""
        return await self._pairs("listing_alike", most)

    async def names_alike(self, most: int) -> Examples:
        """Return the pairs of identifiers that differ only by blanks or capitals."""
        return await self._pairs("listing_names_alike", most)

    async def _pairs(self, name: str, most: int) -> Examples:
        rows = await self._fetch(self._filled(name), most)
        pairs = (" and ".join(quoted(sku) for sku in row["pair"]) for row in rows)
        return Examples(rows[0]["many"] if rows else 0, tuple(pairs))

    async def any_sku(self) -> str | None:
        """Return a SKU of the listing; None: it has none."""
        rows = await self._fetch(self._filled("listing_sku"))
        return rows[0]["sku"] if rows else None

    async def readable_sku(self) -> str | None:
        """Return a SKU whose row can be read, of a listing that fails on some; None: it has none."""
        async with aclosing(self.rows_apart()) as rows:
            async for row in rows:
                if row.fault is None:
                    return row.sku
        return None

    async def known(self, skus: Sequence[str]) -> set[str]:
        """Return those of the SKUs that the listing has, or fails on."""
        try:
            return await self._known(skus, is_apart=False)
        except BadRow:
            return await self._known(skus, is_apart=True)

    async def _known(self, skus: Sequence[str], *, is_apart: bool) -> set[str]:
        statement = self._listing.statement("read_listing", is_whole=False, is_apart=is_apart)
        async with self.inspector.look(f"reading {len(skus)} of the listing's SKUs") as connection:
            rows = await connection.fetch(statement, list(skus), list(skus))
        return {row["sku"] for row in rows}

    async def alike_to(self, skus: Sequence[str]) -> tuple[str, str] | None:
        """Return one of these SKUs, none of which is listed, with a listed one that differs only by blanks, capitals or
        leading zeros. None, too, where the listing's SKUs can't be read because of a row."""
        try:
            rows = await self._fetch(self._filled("alike"), skus)
        except BadRow:
            return None
        return (rows[0]["alike"], rows[0]["listed"]) if rows else None

    async def has_some(self, skus: Sequence[str]) -> bool:
        """Return whether the listing has one of these SKUs. True, too, where they can't be read because of a row."""
        try:
            (row,) = await self._fetch(self._filled("has_some"), skus)
        except BadRow:
            return True
        return bool(row["has_some"])

    async def unreadable(self) -> list[str]:
        """Return the GRANTs for tables and schemas that the listing names and this role may not read."""
        doing = "looking at the rights on the ERP's tables"
        rows = await looked_up(self.inspector.look, doing, _SQL["unreadable"], self._listing.chosen())
        return [row["command"] for row in rows]

    async def cost(self, skus: Sequence[str]) -> Reading:
        """Return what it costs to read these SKUs as the daemon does: the faster of two readings."""
        async with self.inspector.look(f"reading {len(skus)} of the listing's SKUs") as connection:
            statement = f"{_SQL['measure']} {self._read_some()}"
            plans = [await one_message.value(connection, statement, skus, skus) for _ in range(2)]
        readings = [_reading(json.loads(plan)[0], len(skus)) for plan in plans]
        return min(readings, key=lambda reading: reading.seconds)

    async def _fetch(self, query: str, *values: one_message.Value) -> list[dict[str, Any]]:
        async with self.inspector.look("reading the listing") as connection:
            return await one_message.fetch(connection, query, *values)

    async def _plan(self, query: str) -> None:
        async with self.inspector.look("preparing the listing") as connection:
            await one_message.plan(connection, query)

    async def _examples(self, name: str, most: int) -> Examples:
        rows = await self._fetch(self._filled(name), most)
        return Examples(rows[0]["many"] if rows else 0, tuple(row["example"] for row in rows))

    def _read_some(self) -> str:
        return self._listing.statement("read_listing", is_whole=False, needs_schema=False).rstrip("; ")

    def _filled(self, name: str) -> str:
        return self._listing.filled(_SQL[name])


def _reading(explained: Mapping[str, Any], skus: int) -> Reading:
    """What EXPLAIN measured. Of a function's own queries the pages are known, and not the rows."""
    plan = explained["Plan"]
    rows: dict[str, int] = {}
    for table, some in _looked_at(plan):
        rows[table] = rows.get(table, 0) + some
    pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    seconds = (explained["Planning Time"] + explained["Execution Time"]) / 1000
    return Reading(
        skus, pages, sum(rows.values()), seconds, max(rows, key=rows.__getitem__) if rows else None
    )


def _looked_at(plan: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """How many rows of which table a plan has looked at, those that a condition removed among them."""
    if "Relation Name" in plan:
        looked_at = sum(plan.get(name, 0) for name in _ROWS) * plan["Actual Loops"]
        yield f"{plan['Schema']}.{plan['Relation Name']}", round(looked_at)
    children: Sequence[Mapping[str, Any]] = plan.get("Plans", ())
    for child in children:
        yield from _looked_at(child)
