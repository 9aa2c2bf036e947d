"""`stockrelay uninstall`: everything of ours goes, and the ERP notices nothing."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Final

import asyncpg
import pytest

from daemon.core.errors import StoreRefused
from daemon.store import uninstall as removal
from daemon.store.migrate import migrate, migration_sql, watches_json
from daemon.store.uninstall import uninstall
from tests.store.place import Connection, Place
from tests.store.roles import WATCHES, Roles, ready

on_18 = pytest.mark.parametrize("server", ["pg18"], indirect=True)

PARTS: Final = """
CREATE TABLE shop.parts (sku text) PARTITION BY LIST (sku);
CREATE TABLE shop.parts_1 PARTITION OF shop.parts DEFAULT;
INSERT INTO shop.goods (sku) SELECT 'SKU-' || n FROM generate_series(1, 40) AS n;
"""
LEFT: Final = """
SELECT 'trigger ' || t.tgname FROM pg_trigger AS t WHERE t.tgname LIKE 'stockrelay%'
UNION ALL SELECT 'schema' FROM pg_namespace WHERE nspname = 'stockrelay'
"""
EVERYTHING: Final = [
    "the triggers on shop.goods",
    "the triggers on shop.parts",
    "the triggers on shop.parts_1",
    "the schema stockrelay",
]


@pytest.fixture
def migrated(fresh: Place) -> Place:
    """Two watched tables, one of them with a partition."""
    fresh.server.run_sql(f"{PARTS}SELECT stockrelay.set_watches('{watches_json(WATCHES)}')", fresh.name)
    return fresh


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "_TRIES", 2)
    monkeypatch.setattr(removal, "_PAUSE_S", 0.01)


async def left(session: Connection) -> list[str]:
    """What of ours is still there."""
    return [row[0] for row in await session.fetch(LEFT)]


@asynccontextmanager
async def erp_at_work(place: Place, writers: int = 6) -> AsyncIterator[list[float]]:
    """Sessions that write to both tables, in either order, in transactions of some statements. Yields the seconds that
    each statement took; one that fails ends the test."""
    took: list[float] = []
    stop = asyncio.Event()

    async def write(number: int) -> None:
        chance, session = random.Random(number), await place.connect()
        statements = [
            f"UPDATE shop.goods SET quantity = 1 WHERE sku = 'SKU-{number}'",
            f"INSERT INTO shop.parts VALUES ('P-{number}')",
            f"DELETE FROM shop.parts_1 WHERE sku = 'P-{number}'",
        ]
        while not stop.is_set():
            async with session.transaction():
                for statement in chance.choices(statements, k=4):
                    began = time.monotonic()
                    await session.execute(statement)
                    took.append(time.monotonic() - began)

    async with asyncio.TaskGroup() as group:
        for number in range(writers):
            group.create_task(write(number))
        yield took
        stop.set()


@on_18
async def test_beside_an_erp_that_writes_it_removes_everything_and_fails_no_statement(
    migrated: Place,
) -> None:
    observer, install = await migrated.connect(), migration_sql(WATCHES, has_doorbell=True)
    for attempt in range(5):
        if attempt:
            await observer.execute(install)
        async with erp_at_work(migrated) as took:
            while not await observer.fetchval("SELECT count(*) > 50 FROM stockrelay.change"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            removed = await uninstall(migrated.options(), is_forced=False)
            before = len(took)
            while len(took) < before + 50:  # noqa: ASYNC110 - the writers go on without triggers
                await asyncio.sleep(0.01)
        assert list(removed.parts) == EVERYTHING
        assert await left(observer) == []
        assert max(took) < 1.0
    assert await uninstall(migrated.options(), is_forced=False) == removal.Removed([], None)


@on_18
@pytest.mark.usefixtures("impatient")
async def test_a_table_that_stays_locked_keeps_its_triggers_and_the_ledger_until_the_next_try(
    migrated: Place,
) -> None:
    erp, observer = await migrated.connect(), await migrated.connect()
    await erp.execute("BEGIN; INSERT INTO shop.parts VALUES ('A')")
    pid = await erp.fetchval("SELECT pg_backend_pid()")
    with pytest.raises(StoreRefused, match=f"locked by process {pid}") as refused:
        await uninstall(migrated.options(), is_forced=False)
    assert "Removed so far: the triggers on shop.goods." in str(refused.value)
    await observer.execute("INSERT INTO shop.goods (sku) VALUES ('B')")
    await erp.execute("PREPARE TRANSACTION 'nightly'")
    try:
        with pytest.raises(StoreRefused, match=r"a prepared transaction \(nightly, role postgres\)"):
            await uninstall(migrated.options(), is_forced=False)
        assert "schema" in await left(observer)
    finally:
        await observer.execute("COMMIT PREPARED 'nightly'")
    assert (await uninstall(migrated.options(), is_forced=False)).parts == EVERYTHING[1:]
    assert await left(observer) == []


@pytest.mark.parametrize(("server", "is_member"), [("pg18", False), ("pg15", True)], indirect=["server"])
async def test_the_schemas_owner_removes_it_and_a_dba_the_roles_that_own_nothing_else(
    roles: Roles, is_member: bool
) -> None:
    await ready(roles, is_member=is_member)
    place = roles.place
    observer = await place.connect()
    with pytest.raises(StoreRefused, match=f"belongs to {roles.owner}: run `stockrelay uninstall` as that"):
        await uninstall(place.options(roles.daemon), is_forced=False)
    if is_member:
        await observer.execute(f'CREATE TABLE shop.own (); ALTER TABLE shop.own OWNER TO "{roles.owner}"')
    removed = await uninstall(place.options(roles.owner), is_forced=False)
    assert list(removed.parts) == EVERYTHING
    assert await left(observer) == []
    names = roles.daemon if is_member else f'"{roles.owner}", {roles.daemon}'
    assert removed.roles_sql == f"DROP OWNED BY {names}; DROP ROLE {names};"
    await observer.execute(removed.roles_sql)
    assert await observer.fetchval("SELECT count(*) FROM shop.goods") == 0


REFUSALS: Final = [
    (
        "INSERT INTO stockrelay.replica VALUES ('vm/1/ab', '{sekorm}', clock_timestamp() + interval '1 minute')",
        "DELETE FROM stockrelay.replica",
        "daemons run: vm/1/ab. Stop them first",
    ),
    ("CREATE VIEW shop.told AS SELECT sku FROM stockrelay.ledger", "DROP VIEW shop.told", "view shop.told"),
    ("CREATE TABLE shop.odd (row stockrelay.listed_row)", "DROP TABLE shop.odd", "of table shop.odd"),
    (
        "ALTER TABLE shop.goods ADD number bigint DEFAULT nextval('stockrelay.want_seq')",
        "ALTER TABLE shop.goods DROP number",
        "default value for column number",
    ),
    (
        "ALTER TABLE stockrelay.alembic_version RENAME TO version",
        "ALTER TABLE stockrelay.version RENAME TO alembic_version",
        "no version of ours",
    ),
]
"""What makes it refuse, what takes that back, and what it says."""


@on_18
async def test_it_refuses_before_it_removes_anything(migrated: Place) -> None:
    observer = await migrated.connect()
    there = await left(observer)
    for before, after, words in REFUSALS:
        await observer.execute(before)
        with pytest.raises(StoreRefused, match=words):
            await uninstall(migrated.options(), is_forced=False)
        assert await left(observer) == there
        await observer.execute(after)
    await observer.execute(REFUSALS[0][0])
    assert list((await uninstall(migrated.options(), is_forced=True)).parts) == EVERYTHING


@on_18
async def test_a_schema_that_came_without_its_rows_is_named_by_migrate_and_can_be_removed(
    migrated: Place,
) -> None:
    observer = await migrated.connect()
    await observer.execute("DELETE FROM stockrelay.alembic_version")
    with pytest.raises(StoreRefused, match=r"came here without its rows .* run `stockrelay uninstall`"):
        await migrate(migrated.options(), WATCHES, has_doorbell=True)
    await uninstall(migrated.options(), is_forced=False)
    assert await left(observer) == []


@on_18
async def test_a_step_may_take_longer_than_the_daemons_statements(migrated: Place) -> None:
    observer = await migrated.connect()
    await observer.execute("""
        CREATE FUNCTION shop.slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.8); END';
        CREATE EVENT TRIGGER slow ON ddl_command_start WHEN TAG IN ('DROP SCHEMA') EXECUTE FUNCTION shop.slow();
    """)
    options = replace(migrated.options(), statement_timeout=timedelta(seconds=0.4))
    assert (await uninstall(options, is_forced=False)).parts == EVERYTHING
    assert await left(observer) == []


@on_18
@pytest.mark.usefixtures("impatient")
async def test_a_migration_that_comes_between_is_removed_as_well(
    migrated: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    observer: asyncpg.Connection[asyncpg.Record] = await migrated.connect()
    real = removal._SQL
    made: list[str] = []

    class Between(dict[str, str]):
        def __getitem__(self, name: str) -> str:
            if name == "partitions" and not made:
                made.append(
                    migrated.server.run_sql(
                        f"SELECT stockrelay.set_watches('{watches_json(WATCHES[:1])}')", migrated.name
                    )
                )
            return real[name]

    monkeypatch.setattr(removal, "_SQL", Between())
    removed = await uninstall(migrated.options(), is_forced=False)
    assert made
    assert removed.parts[-1] == "the schema stockrelay"
    assert removed.parts.count("the triggers on shop.goods") == 2
    assert await left(observer) == []
