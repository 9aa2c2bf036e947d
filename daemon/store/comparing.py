"""What is compared: the listing's numbers of a day's SKUs, and numbers read back against all of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import asyncpg

from daemon.core.errors import BadRow
from daemon.core.readback import ReadPage
from daemon.core.types import Sku
from daemon.store import queries
from daemon.store.database import Database
from daemon.store.foreign_text import storable
from daemon.store.listing import EVERYTHING, ChannelListing
from daemon.store.reconcile import LONG_S, Reconciles
from daemon.store.reconcile_rows import Chunk, ReconcileRun
from daemon.store.rows import row_as
from daemon.store.twins import Twins

_SQL = queries.load("reconcile")


@dataclass(frozen=True, slots=True)
class ComparedRow:
    """What the listing says of a SKU now. `is_settled`: the ledger says that the marketplace holds just that, and it
    has had time to."""

    sku: Sku
    identifiers: tuple[str | None, ...]
    quantity: int | None
    is_listed: bool
    is_parked: bool
    is_settled: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """The result of comparing the numbers read back with the listing."""

    checked: int
    unsettled: int
    parked: int
    differing: int


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """What is kept of what was read back."""

    numbers: int
    products: int


@dataclass(frozen=True, slots=True)
class WithoutIdentifier:
    """Numbers on sale at the marketplace that have no identifier of ours, and some of their products."""

    skus: int
    products: tuple[str, ...]


class ComparedNumbers:
    def __init__(self, database: Database, listing: ChannelListing) -> None:
        self._database = database
        self.channel = listing.channel
        self._runs = Reconciles(database)
        self.use(listing)

    def use(self, listing: ChannelListing) -> None:
        """Compare with this listing from now on."""
        self._twins = Twins(listing)
        settled = _SQL["settled"].partition("\n")[2]
        now = "statement_timestamp()"
        self._rows = _filled("rows", listing.as_sent(is_whole=False, is_apart=False), settled, now)
        self._rows_apart = _filled("rows", listing.as_sent(is_whole=False, is_apart=True), settled, now)
        # A missing number may have been sent after its page was read.
        asked_at = "coalesce(h.asked_at, (SELECT b.at FROM begun AS b))"
        judge, judge_apart = (
            _filled("judge", listing.as_sent(is_whole=True, is_apart=is_apart), settled, asked_at)
            for is_apart in (False, True)
        )
        is_whole = "true" if listing.only == EVERYTHING else "false"
        self._judge = judge.replace("@is_whole@", is_whole)
        self._judge_apart = judge_apart.replace("@is_whole@", is_whole)

    # What changed on a day

    async def day_count(self, window: tuple[datetime, datetime]) -> int:
        """Count the SKUs that changed: a pass over the day's attempts."""
        doing = f"{self.channel}: counting what changed"
        count: int = await self._database.fetch_value(
            doing, _SQL["day_count"], self.channel, *window, timeout=LONG_S
        )
        return count

    async def day_skus(self, window: tuple[datetime, datetime], after: str, limit: int) -> list[Sku]:
        """Return the next SKUs, by name, that changed."""
        doing = f"{self.channel}: reading what changed"
        rows = await self._database.fetch(
            doing, _SQL["day_skus"], self.channel, *window, after, limit, timeout=LONG_S
        )
        return [Sku(row["sku"]) for row in rows]

    async def rows(self, skus: Sequence[str], rest: timedelta) -> list[ComparedRow]:
        """Read the listing now; `rest`: how long ago a number must have been acknowledged to count as settled."""
        try:
            rows = await self._read_rows(self._rows, skus, rest)
        except BadRow:
            rows = await self._read_rows(self._rows_apart, skus, rest)
        return [row_as(ComparedRow, row) for row in rows]

    async def _read_rows(self, statement: str, skus: Sequence[str], rest: timedelta) -> list[asyncpg.Record]:
        async with (
            self._database.connection(f"{self.channel}: reading the listing") as connection,
            self._database.reading(connection),
        ):
            wanted = await self._twins.complete(connection, skus)
            rows = await connection.fetch(statement, self.channel, wanted, rest)
        asked = set(skus)
        return [row for row in rows if row["sku"] in asked]

    async def count_in_flight_or_recent(self, rest: timedelta) -> int:
        """Count the SKUs that are due, in flight or in doubt, or were acknowledged within `rest`."""
        count: int = await self._database.fetch_value(
            f"{self.channel}: counting the backlog", _SQL["count_in_flight_or_recent"], self.channel, rest
        )
        return count

    # Numbers read back

    async def keep_page(
        self, run: ReconcileRun, look: int, number: int, page: ReadPage, took: timedelta
    ) -> None:
        """Keep one page, in place of what it was when it was read before; `took`: since the marketplace was asked."""
        empty = max(0, page.products - len({sku.product_id for sku in page.skus}))
        chunk = Chunk(
            look,
            number,
            None,
            None,
            len(page.skus),
            "read",
            words=page.problem,
            products=page.products,
            empty=empty,
            set_aside=page.set_aside,
            took=took,
        )
        async with self._runs.writing(run) as connection:
            await self._runs.note_chunk_within(connection, run, chunk)
            # What the database can't hold is no name of ours: it is kept as a name that nothing equals.
            identifiers = await storable(connection, [sku.identifier for sku in page.skus])
            product_ids = await storable(connection, [sku.product_id for sku in page.skus])
            await connection.execute(_SQL["drop_page"], run.run_id, number)
            await connection.execute(
                _SQL["keep_page"],
                run.run_id,
                number,
                product_ids,
                identifiers,
                [sku.quantity for sku in page.skus],
                [sku.is_used for sku in page.skus],
            )

    async def drop_pages_after(self, run: ReconcileRun, page: int) -> None:
        await self._database.execute(
            f"{self.channel}: keeping what was read", _SQL["drop_pages_after"], run.run_id, page
        )

    async def count_read(self, run: ReconcileRun, look: int) -> ReadCounts:
        """Count what is kept of a run's reading."""
        doing = f"{self.channel}: counting what was read"
        return await self._database.fetch_one(
            ReadCounts, doing, _SQL["count_read"], run.run_id, look, timeout=LONG_S
        )

    async def count_ledger_skus(self) -> int:
        count: int = await self._database.fetch_value(
            f"{self.channel}: counting its SKUs", _SQL["count_ledger_skus"], self.channel, timeout=LONG_S
        )
        return count

    async def without_identifier(self, run: ReconcileRun, shown: int) -> WithoutIdentifier:
        """Find what the marketplace sells under no identifier of ours, as the run's reading shows it."""
        doing = f"{self.channel}: counting what was read"
        return await self._database.fetch_one(
            WithoutIdentifier, doing, _SQL["without_identifier"], run.run_id, shown, timeout=LONG_S
        )

    async def forget_looks(self, run: ReconcileRun) -> None:
        """Begin reading anew."""
        async with self._runs.writing(run) as connection:
            await connection.execute(_SQL["forget_looks"], run.run_id, timeout=LONG_S)

    async def judge(self, run: ReconcileRun, look: int, rest: timedelta, *, is_complete: bool) -> Judged:
        """Hold what was read back against the listing as a whole, inside the server; the findings are kept there. A SKU
        whose row in the listing can't be read is not judged."""
        try:
            return await self._judged(self._judge, run, look, rest, is_complete)
        except BadRow:
            return await self._judged(self._judge_apart, run, look, rest, is_complete)

    async def _judged(
        self, statement: str, run: ReconcileRun, look: int, rest: timedelta, is_complete: bool
    ) -> Judged:
        async with self._runs.writing(run) as connection:
            await self._database.limit_reading(connection)
            await connection.execute(_SQL["forget_look"], run.run_id, look, timeout=LONG_S)
            row = await connection.fetchrow(
                statement, self.channel, run.run_id, rest, look, is_complete, timeout=LONG_S
            )
            assert row is not None
            if look == 2:
                await connection.execute(_SQL["keep_both"], run.run_id, timeout=LONG_S)
            elif row["differing"] == 0:
                await connection.execute(_SQL["only_look"], run.run_id)
        return row_as(Judged, row)

    async def suspect_pages(self, run: ReconcileRun) -> list[int]:
        doing = f"{self.channel}: reading what was found"
        return [row["page"] for row in await self._database.fetch(doing, _SQL["suspect_pages"], run.run_id)]

    async def has_news_of_absence(self, run: ReconcileRun) -> bool:
        """Whether something is missing at the marketplace that was not missing before."""
        doing = f"{self.channel}: reading what was found"
        return bool(
            await self._database.fetch_value(doing, _SQL["has_news_of_absence"], run.run_id, self.channel)
        )


def _filled(name: str, listed: str, settled: str, asked_at: str) -> str:
    return (
        _SQL[name].replace("@settled@", settled.replace("@asked_at@", asked_at)).replace("@listed@", listed)
    )
