"""Asking in one message: values reach the server as they are, and a table that is locked is not waited for."""

import asyncpg
import pytest

from daemon.store import one_message
from tests.store.place import Connection, Place


@pytest.mark.parametrize(
    "value", ["A", "$query$", "A$query", "$query_$ $query", "'\\", "$1", "@query@@values@", "", "a\nb"]
)
async def test_a_value_reaches_the_server_as_it_is(sql: Connection, value: str) -> None:
    rows = await one_message.fetch(sql, "SELECT $1 AS a, $2 AS b, $3 AS c;", value, [value, "x"], 7)
    assert rows == [{"a": value, "b": [value, "x"], "c": 7}]
    assert await one_message.value(sql, "SELECT $1", value) == value


async def test_nothing_is_run_that_is_only_planned(sql: Connection) -> None:
    await sql.execute("CREATE SEQUENCE shop.runs")
    await one_message.plan(sql, "SELECT nextval('shop.runs') WHERE $1 <> ''", "x")
    await one_message.prepare(sql, "SELECT nextval('shop.runs')")
    assert await sql.fetchval("SELECT is_called FROM shop.runs") is False
    with pytest.raises(asyncpg.InvalidCursorDefinitionError, match="multi-query"):
        await one_message.plan(sql, "SELECT 1; SELECT nextval('shop.runs')")
    with pytest.raises(asyncpg.UndefinedParameterError):
        await one_message.plan(sql, "SELECT $1")


async def test_a_plan_locks_what_views_read_and_asks_for_rights(sql: Connection) -> None:
    await sql.execute("CREATE VIEW shop.sold AS SELECT * FROM shop.goods")
    async with sql.transaction():
        await one_message.plan(sql, "SELECT sku FROM shop.sold WHERE sku = ANY ($1)", [])
        held = await sql.fetch(
            "SELECT relation::regclass::text AS name FROM pg_locks WHERE pid = pg_backend_pid()"
        )
    assert {"shop.sold", "shop.goods"} <= {row["name"] for row in held}


async def test_a_locked_table_is_not_waited_for(sql: Connection, place: Place) -> None:
    erp = await place.connect()
    async with erp.transaction():
        await erp.execute("LOCK TABLE shop.goods IN ACCESS EXCLUSIVE MODE")
        for ask in (one_message.plan, one_message.prepare, one_message.fetch):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await ask(sql, "SELECT sku FROM shop.goods")
