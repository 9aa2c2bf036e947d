"""A database of one test, with our schema in it and one watched table, `shop.goods`."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

import asyncpg

from daemon.demo.postgres import PostgresServer
from daemon.store.connecting import ConnectOptions
from daemon.store.migrate import watches_json

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

T = TypeVar("T")

SHOP: Final = """
CREATE SCHEMA shop;
CREATE TABLE shop.goods (sku text, pn text, brand text, quantity numeric, note text);
CREATE INDEX goods_sku ON shop.goods (sku);
"""
WATCHES: Final = [("shop.goods", "sku")]
TIMEOUT: Final = 20.0

# A copy of a database is another one to us, and a test begins with nothing read and nothing known. Emptying a small
# table by DELETE takes a twentieth of what TRUNCATE takes, which makes new files.
_EMPTY: Final = """
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY string_to_array('@tables@', ' ') LOOP
        EXECUTE CASE WHEN pg_total_relation_size(name) > 1e6 THEN 'TRUNCATE ' ELSE 'DELETE FROM ' END || name;
    END LOOP;
END $$;
"""
_TABLES: Final = "shop.goods " + " ".join(
    f"stockrelay.{name}"
    for name in (
        "exposure",
        "exposure_day",
        "exposure_log",
        "exposure_condition",
        "ledger",
        "attempt",
        "attempt_batch",
        "attempt_chain",
        "operation",
        "reading",
        "holder_trouble",
        "lease",
        "replica",
        "channel_state",
        "channel_account",
        "token",
        "notice",
        "pause",
        "sync_sku",
        "live",
        "sync_run",
        "reconcile_read",
        "reconcile_finding",
        "reconcile_chunk",
        "reconcile_run",
        "reconcile_since",
        "difference",
        "anomaly",
        "guard",
        "capture_finding",
        "read_position",
    )
)
RESET: Final = (
    "BEGIN; DROP SCHEMA IF EXISTS erp CASCADE; CREATE SCHEMA erp;"
    + _EMPTY.replace("@tables@", _TABLES)
    + 'SELECT stockrelay.set_watches(\'[{"table": "shop.goods", "sku": "sku"}]\'); COMMIT;'
    + _EMPTY.replace("@tables@", "stockrelay.change_0 stockrelay.change_1 stockrelay.bell")
    + """
SELECT setval('stockrelay.capture_word', 0);
UPDATE stockrelay.capture_health SET checked_at = '-infinity', triggers = NULL;
UPDATE stockrelay.intake AS i SET database_oid = n.database_oid, timeline = n.timeline,
    switched_at = clock_timestamp(), system_identifier = n.system_identifier FROM stockrelay.identity() AS n;
INSERT INTO stockrelay.read_position (channel) VALUES ('sekorm');
INSERT INTO stockrelay.live (channel, by, origin) VALUES ('sekorm', 'test', 'test'), ('ymatou', 'test', 'test');
"""
)

OTHER_IDS: Final = """
UPDATE stockrelay.change_0 SET xid = (xid::text::bigint + {0})::text::xid8;
UPDATE stockrelay.change_1 SET xid = (xid::text::bigint + {0})::text::xid8;
UPDATE stockrelay.read_position AS p SET read_until = format('%1$s:%1$s:', s.read_until)::pg_snapshot
FROM (SELECT channel, pg_snapshot_xmax(read_until)::text::bigint + {0} AS read_until FROM stockrelay.read_position) AS s
WHERE p.channel = s.channel
"""
"""Raises the transaction ids that are kept, as if the server had assigned this many more."""


class Place:
    """One database. Its connections are cut when the test ends."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self._open: list[Connection] = []
        self.spare: Connection | None = None
        """A session of the superuser that the first who wants one gets."""

    def dsn(self, role: str = "postgres") -> str:
        return self.server.dsn(self.name, role)

    def options(self, role: str = "postgres") -> ConnectOptions:
        return ConnectOptions(self.dsn(role), timedelta(seconds=TIMEOUT))

    async def connect(self, role: str = "postgres") -> Connection:
        """Another session."""
        if role == "postgres" and self.spare is not None:
            spare, self.spare = self.spare, None
            return spare
        connection: Connection = await asyncpg.connect(self.dsn(role), command_timeout=TIMEOUT)
        self._open.append(connection)
        return connection

    async def close(self) -> None:
        for connection in self._open:
            connection.terminate()
        self._open.clear()


async def watch(connection: Connection, *watches: tuple[str, str]) -> list[asyncpg.Record]:
    """Watch these tables instead of others."""
    rows: list[asyncpg.Record] = await connection.fetch(
        "SELECT name, sku, is_always FROM stockrelay.set_watches($1)", watches_json(watches)
    )
    return rows


async def logged(connection: Connection) -> list[str | None]:
    """The SKUs in the change log, sorted; None stands for everything. They are taken out of it."""
    rows = await connection.fetch("SELECT sku FROM stockrelay.change ORDER BY sku NULLS FIRST")
    await connection.execute("DELETE FROM stockrelay.change_0; DELETE FROM stockrelay.change_1")
    return [row["sku"] for row in rows]


async def forget_statistics(connection: Connection, *tables: str) -> None:
    """Empty the tables as if they were new: without statistics, dead rows or an ANALYZE under way. What
    an earlier test has left makes plans and their pages other ones."""
    for table in tables:
        await connection.execute(
            f"ALTER TABLE {table} SET (autovacuum_enabled = false); TRUNCATE {table};"
            f"DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass"
        )


async def is_waiting(observer: Connection, pid: int) -> None:
    """Return when that session waits for a lock of another one."""
    async with asyncio.timeout(TIMEOUT):
        # The server says it only to those who ask.
        while not await observer.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def begun(awaitable: Awaitable[T], observer: Connection, pid: int) -> asyncio.Task[T]:
    """Start something that will wait for a lock, and return once it does."""

    async def run() -> T:
        return await awaitable

    task = asyncio.create_task(run())
    waiting = asyncio.create_task(is_waiting(observer, pid))
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    assert not task.done(), f"did not wait: {task.result() if not task.exception() else task.exception()!r}"
    await waiting
    return task
