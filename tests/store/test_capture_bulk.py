"""A statement over more rows than are read one by one leaves one row, and everything is compared."""

import asyncio

import pytest

from daemon.store.intake import MANY
from tests.store.place import Connection, Place, logged, watch


@pytest.fixture
async def stock(sql: Connection) -> Connection:
    """`erp.stock`, watched, and empty."""
    await sql.execute("CREATE TABLE erp.stock (sku text, q integer DEFAULT 0)")
    await watch(sql, ("erp.stock", "sku"))
    return sql


async def fill(sql: Connection, rows: int) -> None:
    await sql.execute("INSERT INTO erp.stock SELECT 'S' || i FROM generate_series(1, $1::integer) AS i", rows)


async def test_as_many_rows_as_are_read_one_by_one_are_named(stock: Connection) -> None:
    await fill(stock, MANY)
    named = await logged(stock)
    assert len(named) == MANY
    assert None not in named


@pytest.mark.parametrize("statement", ["UPDATE erp.stock SET q = 1", "DELETE FROM erp.stock"])
async def test_one_row_more_is_everything(stock: Connection, statement: str) -> None:
    await fill(stock, MANY + 1)
    assert None in await logged(stock)
    await stock.fetchval("SELECT changes FROM stockrelay.take_changes('sekorm', $1)", MANY)
    await stock.execute(statement)
    assert await stock.fetchval("SELECT is_everything FROM stockrelay.take_changes('sekorm', $1)", MANY)


async def test_a_statement_over_more_rows_logs_one_row_that_names_none(stock: Connection) -> None:
    await fill(stock, 4 * MANY)
    assert await logged(stock) == [None]


async def test_rows_without_a_sku_do_not_hide_the_many_that_have_one(stock: Connection) -> None:
    await stock.execute("INSERT INTO erp.stock (sku) SELECT NULL FROM generate_series(1, 10)")
    await fill(stock, MANY + 1)
    await logged(stock)
    await stock.execute("UPDATE erp.stock SET q = 1")
    assert await logged(stock) == [None]


async def test_a_bulk_update_that_renames_all_is_everything(stock: Connection) -> None:
    await fill(stock, MANY)
    await stock.fetchval("SELECT changes FROM stockrelay.take_changes('sekorm', $1)", MANY)
    await stock.execute("UPDATE erp.stock SET sku = 'X' || sku")
    assert await stock.fetchval("SELECT is_everything FROM stockrelay.take_changes('sekorm', $1)", MANY)


async def test_copy_of_many_rows_is_everything(stock: Connection) -> None:
    records = [(f"S{number}", 1) for number in range(MANY + 1)]
    await stock.copy_records_to_table("stock", schema_name="erp", records=records)
    assert None in await logged(stock)


async def test_an_expression_that_fails_on_one_of_many_rows_does_not_fail_the_statement(
    sql: Connection,
) -> None:
    await sql.execute("CREATE TABLE erp.stock (sku text, q integer DEFAULT 1)")
    await watch(sql, ("erp.stock", "sku || (1 / q)::text"))
    await sql.execute(
        "INSERT INTO erp.stock SELECT 'S' || i, i - 1 FROM generate_series(1, $1::integer) AS i", MANY + 1
    )
    assert await logged(sql) == [None]


async def test_it_rings(stock: Connection, place: Place) -> None:
    listener = await place.connect()
    rung = asyncio.Event()
    await listener.add_listener("stockrelay", lambda *_: rung.set())
    await fill(stock, MANY + 1)
    await asyncio.wait_for(rung.wait(), 10)
