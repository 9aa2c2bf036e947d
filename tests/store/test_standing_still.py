"""Nobody who reads the listing keeps the ERP waiting when his process stands still (Ctrl-Z, a suspended laptop)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any, Final

import asyncpg
import pytest

from daemon.core.errors import StockrelayError, StoreUnavailable, TableLocked
from daemon.store.database import Database
from daemon.store.inspect_connecting import inspecting
from daemon.store.inspect_listing import ListingInspector
from daemon.store.listing import ChannelListing
from tests.store.place import Connection, Place
from tests.store.shop import CHANNEL, DEBOUNCE, LISTING, TIMEOUT, Shop

ROWS: Final = 3_000
_CHANNEL_LISTING: Final = ChannelListing(CHANNEL, LISTING, ("pn_code", "brand_name"))

_CUT_OFF: Final = suppress(
    StockrelayError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError
)
"""The server ends the session of who stands still."""

Reading = Callable[[Shop, Place], Any]


@asynccontextmanager
async def _sync(shop: Shop, _place: Place) -> AsyncIterator[None]:
    async with aclosing(shop.syncs.portions(10)) as portions:
        await anext(portions)
        yield


@asynccontextmanager
async def _check(_shop: Shop, place: Place) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        inspector = await stack.enter_async_context(inspecting(place.options(), TIMEOUT))
        rows = ListingInspector(inspector, _CHANNEL_LISTING).rows("numeric")
        await anext(rows)
        yield
        with _CUT_OFF:
            await rows.aclose()


@asynccontextmanager
async def _statement(_shop: Shop, place: Place) -> AsyncIterator[None]:
    """What a claim behind a pooler, explain and the night read with."""
    database = Database(place.options(), 1)
    await database.open()
    with _CUT_OFF:
        async with database.connection("reading") as connection, database.reading(connection):
            await connection.fetch("SELECT * FROM shop.goods LIMIT 9")
            yield
    await database.close()


@asynccontextmanager
async def _marking(shop: Shop, _place: Place) -> AsyncIterator[None]:
    """A reading of the change log that has read the listing and is about to commit."""
    intake = shop.reader(DEBOUNCE)
    with _CUT_OFF:
        async with shop.database.transaction("reading the change log") as connection:
            news = await intake._take(connection, TIMEOUT)
            assert news is not None
            await intake._compare(connection, news, TIMEOUT)
            yield


@pytest.mark.parametrize("reading", [_sync, _check, _statement, _marking])
async def test_the_erp_has_its_table_within_a_second(
    reading: Reading, shop: Shop, place: Place, sql: Connection
) -> None:
    await sql.execute(
        f"INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', 5 FROM generate_series(1, {ROWS}) AS i"
    )
    async with reading(shop, place):
        await sql.execute(
            "SET lock_timeout = '1s'; BEGIN; LOCK TABLE shop.goods IN ACCESS EXCLUSIVE MODE; COMMIT"
        )


async def test_a_sync_reads_all_of_the_listing_in_order_and_leaves_nothing_behind(
    shop: Shop, sql: Connection
) -> None:
    await sql.execute(
        "INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', 5 FROM generate_series(10, 34) AS i"
    )
    for _ in range(2):
        async with aclosing(shop.syncs.portions(10)) as portions:
            read = [[sku for sku, _ in portion] async for portion in portions]
        assert [len(portion) for portion in read] == [10, 10, 5]
        assert [sku for portion in read for sku in portion] == [f"S{number}" for number in range(10, 35)]
    left = "SELECT count(*) FROM pg_cursors WHERE name = 'stockrelay_held_rows'"
    async with shop.database.connection("looking") as connection:
        assert await connection.fetchval(left) == 0


async def test_a_sync_waits_for_a_table_that_the_erp_has_locked_for_a_while_and_says_so(
    shop: Shop, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.held_rows._PATIENCE_S", 0.0)
    erp = await place.connect()
    await shop.sells("A", 5)
    async with erp.transaction():
        await erp.execute("LOCK TABLE shop.goods IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TableLocked):
            await anext(shop.syncs.portions(10))
    async with aclosing(shop.syncs.portions(10)) as portions:
        assert len(await anext(portions)) == 1


async def _stands_still(database: Database) -> None:
    async with database.transaction("reading") as connection:
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 20")
        time.sleep(0.2)  # noqa: ASYNC251 - the process stands still
        # The driver has read that the session is over, and not yet that the connection is closed.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await connection.fetchval("SELECT 1")


@pytest.mark.parametrize("server", ["pg18"], indirect=True)
async def test_a_session_that_the_server_ended_is_not_called_a_silent_database(place: Place) -> None:
    database = Database(place.options(), 1)
    await database.open()
    with pytest.raises(StoreUnavailable, match="reading: the server has ended the session"):
        await _stands_still(database)
    assert await database.fetch_value("asking", "SELECT 1") == 1
    await database.close()
