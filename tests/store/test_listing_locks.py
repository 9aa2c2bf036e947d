"""A reading of the listing locks the ERP's tables while it reads, not while it writes, and reads what is there then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import pytest

from daemon.store.ledger import Debounce
from daemon.store.migrate import FanOut
from tests.store.place import TIMEOUT, Connection, Place, watch
from tests.store.shop import Shop, opened

NO_QUIET: Final = Debounce(timedelta(0), timedelta(0), 0)
APART: Final = """
SELECT sku, pn AS pn_code, brand AS brand_name, quantity / (sku <> 'BAD')::integer AS quantity FROM shop.goods
"""
GATE: Final = """
CREATE FUNCTION erp.gate(sku text) RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
    IF sku = 'S0001' THEN PERFORM pg_advisory_xact_lock(1); END IF; RETURN 1;
END $$;
"""
GATED: Final = (
    "SELECT sku, pn AS pn_code, brand AS brand_name, quantity * erp.gate(sku) AS quantity FROM shop.goods"
)
SKUS: Final = 1_100
"""More than one portion of `listed_apart`."""
STOCK: Final = f"""
INSERT INTO shop.goods SELECT 'S' || to_char(i, 'FM0000'), 'P' || i, 'b', 7 FROM generate_series(1, {SKUS}) AS i
"""
WAITING: Final = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid = $1"
OURS_WAIT: Final = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'stockrelay' AND wait_event_type = 'Lock' AND datname = current_database()
"""


async def _until(sql: Connection, is_so: str, *arguments: object) -> None:
    async with asyncio.timeout(TIMEOUT):
        while not await sql.fetchval(is_so, *arguments):  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0.002)


@asynccontextmanager
async def _delivered(place: Place, way: str) -> AsyncIterator[Shop]:
    """A shop that has told 5 of A."""
    async with opened(place) if way != "row by row" else opened(place, APART) as shop:
        await shop.take()
        await shop.deliver("A", 5)
        if way == "row by row":
            await shop.sells("BAD", 1)
        if way == "fanned out":
            await shop.sql.execute(
                "CREATE TABLE erp.margin (brand text); INSERT INTO erp.margin VALUES ('brand')"
            )
            by_brand = "SELECT g.sku FROM shop.goods AS g WHERE g.brand = changed.brand"
            await watch(shop.sql, ("shop.goods", "sku"), FanOut("erp.margin", by_brand))
        yield shop


def _read(shop: Shop, way: str) -> Any:  # noqa: ANN401 - the result is looked up in the ledger
    if way == "claimed":
        return shop.claim()
    return shop.resync(NO_QUIET) if way in ("compared", "row by row") else shop.drain(NO_QUIET)


@pytest.mark.parametrize("way", ["named", "fanned out", "compared", "row by row"])
async def test_the_erp_has_its_tables_while_what_was_read_is_written(way: str, place: Place) -> None:
    async with _delivered(place, way) as shop:
        await shop.sells("A", 7)
        if way == "fanned out":
            await shop.drain(NO_QUIET)
            await shop.sql.execute("UPDATE erp.margin SET brand = brand")
        other, erp = await place.connect(), await place.connect()
        await other.execute("BEGIN; SELECT FROM stockrelay.ledger WHERE sku = 'A' FOR UPDATE")
        reading = asyncio.create_task(_read(shop, way))
        await _until(shop.sql, OURS_WAIT)
        await erp.execute(
            "SET lock_timeout = '100ms'; BEGIN; LOCK TABLE shop.goods IN ACCESS EXCLUSIVE MODE; COMMIT"
        )
        await other.execute("ROLLBACK")
        await reading
        assert (await shop.row("A"))["listed_quantity"] == 7


@pytest.mark.parametrize("way", ["claimed", "named", "compared", "row by row"])
async def test_what_was_loaded_anew_while_a_reading_waited_for_the_lock_is_read(
    way: str, place: Place
) -> None:
    async with _delivered(place, way) as shop:
        await shop.sells("A", 6)
        if way == "claimed":
            await shop.drain(NO_QUIET)
        erp = await place.connect()
        await erp.execute(
            "BEGIN; TRUNCATE shop.goods; INSERT INTO shop.goods VALUES ('A', 'PN-A', 'brand', 7)"
        )
        reading = asyncio.create_task(_read(shop, way))
        await _until(shop.sql, OURS_WAIT)
        await erp.execute("COMMIT")
        read = await reading
        if way == "claimed":
            (attempt,) = read.attempts
            assert (attempt.push.quantity, attempt.is_delisting) == (7, False)
        else:
            row = await shop.row("A")
            assert (row["listed_rows"], row["listed_quantity"]) == (1, 7)


async def test_a_table_may_be_loaded_anew_between_two_portions_and_no_sku_is_missing(
    shop: Shop, place: Place
) -> None:
    await shop.sql.execute(GATE)
    await shop.sql.execute(STOCK)
    gate, reader, erp = await place.connect(), await place.connect(), await place.connect()
    await gate.execute("SELECT pg_advisory_lock(1)")
    async with opened(place, GATED) as gated:
        apart = gated.listing.listed_apart(is_whole=True)
    # What is returned does not fit into memory: it has to outlive the block that is rolled back all the same.
    await reader.execute("SET work_mem = '64kB'")
    reading = asyncio.create_task(reader.fetch(apart))
    await _until(shop.sql, WAITING, reader.get_server_pid())
    emptying = asyncio.create_task(erp.execute("BEGIN; TRUNCATE shop.goods"))
    await _until(shop.sql, WAITING, erp.get_server_pid())
    await gate.execute("SELECT pg_advisory_unlock(1)")
    await emptying
    assert not reading.done()
    await erp.execute(f"{STOCK}; COMMIT")
    assert [row["rows"] for row in await reading] == [1] * SKUS
