"""What happens to an ERP's table: nothing, what textbooks say, or our capture."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from bench.place import Connection, DaemonSetup, connected

ROWS: Final = 100_000
PLAIN: Final = "plain"
TEXTBOOK: Final = "textbook"
OURS: Final = "erp"
LISTING: Final = (
    "SELECT sku, 'PN-' || sku AS pn_code, 'AMS' AS brand_name, on_hand AS quantity FROM erp.stock"
)

_STOCK: Final = """
CREATE SCHEMA {schema};
CREATE TABLE {schema}.stock (sku text PRIMARY KEY, on_hand integer NOT NULL);
INSERT INTO {schema}.stock SELECT 'SKU-' || i, 1000 FROM generate_series(1, {rows}) AS i;
VACUUM (ANALYZE) {schema}.stock;
"""
_TEXTBOOK: Final = """
CREATE FUNCTION {schema}.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('{schema}', NEW.sku || ':' || NEW.on_hand);
    RETURN NEW;
END $$;
CREATE TRIGGER tell AFTER UPDATE ON {schema}.stock FOR EACH ROW EXECUTE FUNCTION {schema}.tell();
"""


async def make_stock(connection: Connection, schema: str, rows: int) -> None:
    """Make a table of stock in a schema of its own."""
    for statement in _STOCK.format(schema=schema, rows=rows).split(";\n"):
        if statement.strip():
            await connection.execute(statement)


async def make_textbook(connection: Connection, schema: str) -> None:
    """A NOTIFY for each row, as textbooks have it; the payload is `SKU:NUMBER`, the channel the schema."""
    await connection.execute(_TEXTBOOK.format(schema=schema))


@asynccontextmanager
async def all_three(dsn: str, setup: DaemonSetup, rows: int) -> AsyncIterator[Connection]:
    """The three tables, alike but for their triggers, and a listener for both doorbells."""
    async with connected(dsn) as connection:
        for schema in (PLAIN, TEXTBOOK, OURS):
            await make_stock(connection, schema, rows)
        await make_textbook(connection, TEXTBOOK)
        await setup.migrate()
        async with listening(dsn, TEXTBOOK), listening(dsn, "stockrelay"), awake(dsn):
            yield connection


@asynccontextmanager
async def awake(dsn: str) -> AsyncIterator[None]:
    """Silences the doorbell, as a daemon does after half a second of changes."""
    async with connected(dsn) as connection:

        async def say_so() -> None:
            while True:
                await connection.execute("SELECT stockrelay.stay_awake(3000)")
                await asyncio.sleep(1)

        task = asyncio.create_task(say_so())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@asynccontextmanager
async def listening(dsn: str, channel: str) -> AsyncIterator[None]:
    """Somebody listens, as a daemon would."""
    async with connected(dsn) as connection:
        await connection.add_listener(channel, lambda *_: None)
        yield
        await connection.remove_listener(channel, lambda *_: None)
