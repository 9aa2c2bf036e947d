"""`stockrelay migrate`: the schema and the triggers, as often as one likes and by whomever."""

import asyncio
import re
from typing import Any

import asyncpg
import pytest
from alembic.script import ScriptDirectory

from daemon.core.errors import SchemaMismatch, StoreRefused
from daemon.store import migrate as migrations
from daemon.store.migrate import check_version, migrate, migration_sql
from tests.store.place import WATCHES, Connection, Place, logged, watch

# Everything of ours that a database can hold, but for what is named after an object's number.
SCHEMA = """
SELECT 'column', c.relname::text || '.' || a.attname, format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull::text
       || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'stockrelay'::regnamespace
UNION ALL SELECT 'relation', c.relname::text, c.relkind::text || coalesce(array_to_string(c.reloptions, ','), '')
FROM pg_class AS c WHERE c.relnamespace = 'stockrelay'::regnamespace
UNION ALL SELECT 'index', indexname::text, indexdef FROM pg_indexes WHERE schemaname = 'stockrelay'
UNION ALL SELECT 'constraint', conname::text, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'stockrelay'::regnamespace
UNION ALL SELECT 'function', regexp_replace(proname, '[0-9]+', 'N'),
    regexp_replace(pg_get_functiondef(oid), 'capture_[0-9]+', '', 'g')
FROM pg_proc WHERE pronamespace = 'stockrelay'::regnamespace
UNION ALL SELECT 'rights', regexp_replace(proname, '[0-9]+', 'N'), coalesce(proacl::text, '') FROM pg_proc
WHERE pronamespace = 'stockrelay'::regnamespace
UNION ALL SELECT 'trigger', t.tgrelid::regclass::text,
    regexp_replace(pg_get_triggerdef(t.oid), 'capture_[0-9]+', '') || t.tgenabled::text
FROM pg_trigger AS t WHERE NOT t.tgisinternal
UNION ALL SELECT 'version', version_num, '' FROM stockrelay.alembic_version
UNION ALL SELECT 'watch', name, sku || is_always::text FROM stockrelay.watch
UNION ALL SELECT 'doorbell', last_value::text, NULL FROM stockrelay.capture_word
ORDER BY 1, 2, 3
"""


async def described(connection: Connection) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await connection.fetch(SCHEMA)]


async def triggers(connection: Connection) -> set[str]:
    """The tables that have a trigger of ours."""
    rows = await connection.fetch(
        "SELECT DISTINCT t.tgrelid::regclass::text AS name FROM pg_trigger AS t "
        "WHERE t.tgname LIKE 'stockrelay%' AND t.tgname <> 'stockrelay_ring'"
    )
    return {row["name"] for row in rows}


async def test_it_can_be_run_again_and_changes_nothing(empty: Place) -> None:
    first = await migrate(empty.options(), WATCHES, has_doorbell=True)
    sql = await empty.connect()
    before = await described(sql)
    oids = await sql.fetch("SELECT oid, xmin FROM pg_trigger ORDER BY oid")
    again = await migrate(empty.options(), WATCHES, has_doorbell=True)
    assert await described(sql) == before
    assert await sql.fetch("SELECT oid, xmin FROM pg_trigger ORDER BY oid") == oids
    assert first[0] == f"schema stockrelay: version {migrations.head()}"
    assert again[0].endswith("(unchanged)")
    assert first[1:] == again[1:]
    assert first[1] == "watching shop.goods (sku: sku)"
    assert "(max_prepared_transactions = 10): one that is prepared does not ring" in first[2]
    await check_version(empty.options())


async def test_several_replicas_may_migrate_at_once(empty: Place) -> None:
    await asyncio.gather(*(migrate(empty.options(), WATCHES, has_doorbell=False) for _ in range(3)))
    sql = await empty.connect()
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.alembic_version") == 1
    assert await sql.fetchval("SELECT last_value FROM stockrelay.capture_word") == 2**62
    await sql.execute("INSERT INTO shop.goods VALUES ('A')")
    assert await logged(sql) == ["A"]


async def test_the_printed_sql_makes_the_same_schema(empty: Place) -> None:
    name = f"{empty.name}_printed"
    watches = [*WATCHES, ('shop."it\'s"', "k || '''' || 1")]
    empty.server.run_sql('CREATE TABLE shop."it\'s" (k text)', empty.name)
    empty.server.run_sql(f"CREATE DATABASE {name} TEMPLATE {empty.name}")
    empty.server.run_sql(migration_sql(watches, has_doorbell=False), name)
    await migrate(empty.options(), watches, has_doorbell=False)
    printed = Place(empty.server, name)
    try:
        assert await described(await printed.connect()) == await described(await empty.connect())
        # And the program takes it for its own.
        assert (await migrate(printed.options(), watches, has_doorbell=False))[0].endswith("(unchanged)")
    finally:
        await printed.close()
        empty.server.run_sql(f"DROP DATABASE {name} WITH (FORCE)")


async def test_tables_no_longer_watched_lose_their_triggers(sql: Connection) -> None:
    await sql.execute(
        "CREATE TABLE erp.a (sku text) PARTITION BY LIST (sku); CREATE TABLE erp.a1 PARTITION OF erp.a DEFAULT;"
        "CREATE TABLE erp.b (sku text)"
    )
    await watch(sql, ("erp.a", "sku"), ("erp.b", "sku"))
    assert await triggers(sql) == {"erp.a", "erp.a1", "erp.b"}
    await watch(sql, ("erp.b", "sku"))
    assert await triggers(sql) == {"erp.b"}
    assert await sql.fetchval("SELECT count(*) FROM pg_proc WHERE proname ~ '^capture_[0-9]+_'") == 4
    await watch(sql)
    assert await triggers(sql) == set()
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.watch") == 0


async def test_a_watched_table_that_was_dropped_and_made_anew_is_watched_again(sql: Connection) -> None:
    await sql.execute("CREATE TABLE erp.a (sku text)")
    await watch(sql, ("erp.a", "sku"))
    await sql.execute("DROP TABLE erp.a; CREATE TABLE erp.a (sku text)")
    await watch(sql, ("erp.a", "sku"))
    await sql.execute("INSERT INTO erp.a VALUES ('A')")
    assert await logged(sql) == ["A"]
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.watch") == 1


async def test_another_expression_takes_the_place_of_the_old_one(place: Place, sql: Connection) -> None:
    await sql.execute("CREATE TABLE erp.a (sku text, other text)")
    await watch(sql, ("erp.a", "sku"))
    writer = await place.connect()
    await writer.execute("INSERT INTO erp.a VALUES ('A', 'B')")
    await watch(sql, ("erp.a", "other"))
    await writer.execute("INSERT INTO erp.a VALUES ('A', 'B')")
    assert await logged(sql) == ["A", "B"]


async def test_a_partition_made_later_is_found_the_next_time(sql: Connection) -> None:
    await sql.execute("CREATE TABLE erp.a (sku text, q int) PARTITION BY RANGE (q)")
    await watch(sql, ("erp.a", "sku"))
    await sql.execute(
        "CREATE TABLE erp.a1 PARTITION OF erp.a DEFAULT; INSERT INTO erp.a VALUES ('through', 1)"
    )
    await watch(sql, ("erp.a", "sku"))
    await sql.execute("INSERT INTO erp.a1 VALUES ('direct', 1)")
    assert await logged(sql) == ["direct", "through"]


async def test_a_disabled_or_foreign_trigger_is_put_right(sql: Connection) -> None:
    await sql.execute("CREATE TABLE erp.a (sku text)")
    await watch(sql, ("erp.a", "sku"))
    await sql.execute(
        "ALTER TABLE erp.a DISABLE TRIGGER stockrelay_insert; DROP TRIGGER stockrelay_delete ON erp.a"
    )
    await watch(sql, ("erp.a", "sku"))
    await sql.execute("INSERT INTO erp.a VALUES ('A'); DELETE FROM erp.a")
    assert await logged(sql) == ["A", "A"]


@pytest.mark.parametrize(
    ("table", "sku", "words"),
    [
        ("erp.nothing", "sku", 'relation "erp.nothing" does not exist; correct watch.table: with its schema'),
        ("nowhere.a", "sku", 'schema "nowhere" does not exist; correct watch.table'),
        ("erp.v", "sku", "erp.v is not a table; Watch the tables below a view"),
        ("erp.m", "sku", "erp.m is not a table"),
        (
            "erp.a",
            "nothing",
            'the SKU expression "nothing" does not work on erp.a: column "nothing" does not exist',
        ),
        ("erp.a", "sku ||", "does not work on erp.a: syntax error"),
        ("erp.a", "sku; DROP TABLE erp.a", "syntax error"),
        ("erp.a", "max(sku)", "aggregate functions are not allowed"),
        ("erp.a", "row_number() OVER ()::text", "window functions are not allowed"),
        ("erp.a", "regexp_split_to_table(sku, ',')", "set-returning functions are not allowed"),
        ("erp.a", "a.sku", "its columns without the table's name"),
        ("erp.a", "spell(sku)", "functions outside pg_catalog are written with their schema"),
        ("erp.a", "(SELECT min(b.sku) FROM erp.b)", "reads another table"),
        (
            "erp.a",
            "user",
            '"user" is a word of SQL and a column of erp.a; Write the column in double quotes: "user"',
        ),
        ("erp.p", "sku", "is a foreign table"),
        ("erp.g", "made", "reads made, a virtual generated column; A trigger cannot read one"),
        ("erp.g", "upper(made)", "reads made, a virtual generated column"),
    ],
)
async def test_what_cannot_be_watched_is_refused_in_words(
    place: Place, sql: Connection, table: str, sku: str, words: str
) -> None:
    if table == "erp.g":
        if place.server.major < 18:
            pytest.skip("no virtual columns")
        await sql.execute("CREATE TABLE erp.g (sku text, made text GENERATED ALWAYS AS (sku || '/') VIRTUAL)")
    await sql.execute(
        """
        CREATE TABLE erp.a (sku text, "user" text); CREATE TABLE erp.b (sku text);
        CREATE VIEW erp.v AS SELECT * FROM erp.a; CREATE MATERIALIZED VIEW erp.m AS SELECT * FROM erp.a;
        CREATE OR REPLACE FUNCTION public.spell(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT $1';
        DROP FOREIGN DATA WRAPPER IF EXISTS nothing CASCADE; CREATE FOREIGN DATA WRAPPER nothing;
        CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
        CREATE TABLE erp.p (sku text) PARTITION BY LIST (sku);
        CREATE FOREIGN TABLE erp.far PARTITION OF erp.p DEFAULT SERVER nowhere;
        """
    )
    with pytest.raises(StoreRefused) as refused:
        await migrate(place.options(), [("erp.b", "sku"), (table, sku)], has_doorbell=True)
    assert words in str(refused.value)
    assert await triggers(sql) == {"shop.goods"}, "all of the triggers are set, or none"


@pytest.mark.parametrize(
    "watches",
    [
        [("erp.a", "sku"), ("erp.A", "other")],
        [("erp.a", "sku"), ('"erp"."a"', "sku")],
        [("erp.p", "sku"), ("erp.p1", "other")],
        [("erp.p1", "other"), ("erp.p", "sku")],
    ],
)
async def test_a_table_is_watched_once(sql: Connection, watches: list[tuple[str, str]]) -> None:
    await sql.execute(
        "CREATE TABLE erp.a (sku text, other text); CREATE TABLE erp.p (sku text, other text) PARTITION BY LIST (sku);"
        "CREATE TABLE erp.p1 PARTITION OF erp.p DEFAULT"
    )
    with pytest.raises(asyncpg.RaiseError, match="watched already"):
        await watch(sql, *watches)


async def test_a_busy_table_is_waited_for_without_a_queue_behind_us(place: Place, sql: Connection) -> None:
    await sql.execute("CREATE TABLE erp.a (sku text)")
    writer, other = await place.connect(), await place.connect()
    await writer.execute("BEGIN; INSERT INTO erp.a VALUES ('A')")
    await other.execute("SET lock_timeout = '2s'")
    guard = asyncio.create_task(migrate(place.options(), [*WATCHES, ("erp.a", "sku")], has_doorbell=True))
    for number in range(20):
        await other.execute("INSERT INTO erp.a VALUES ($1)", f"B{number}")
        assert not guard.done()
        await asyncio.sleep(0.02)
    await writer.execute("COMMIT")
    await guard
    assert "erp.a" in await triggers(sql)


async def test_two_migrations_wait_for_each_other(place: Place, sql: Connection) -> None:
    await sql.execute("BEGIN; LOCK TABLE stockrelay.alembic_version IN SHARE UPDATE EXCLUSIVE MODE")
    task = asyncio.create_task(migrate(place.options(), WATCHES, has_doorbell=True))
    observer = await place.connect()
    waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'stockrelay.alembic_version'::regclass AND NOT granted"
    while not await observer.fetchval(waiting):  # noqa: ASYNC110 - another session is waited for
        await asyncio.sleep(0.01)
    assert not task.done()
    await check_version(place.options())
    await sql.execute("COMMIT")
    await task


async def test_a_lock_that_keeps_a_migration_out_is_named(
    place: Place, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = {**migrations._SQL, "wait_long_for_locks": "SET LOCAL lock_timeout = '50ms'"}
    monkeypatch.setattr(migrations, "_SQL", patience)
    await sql.execute("SET application_name = 'psql'; BEGIN; LOCK TABLE stockrelay.alembic_version")
    pid = await sql.fetchval("SELECT pg_backend_pid()")
    with pytest.raises(
        StoreRefused, match=rf"alembic_version is locked by process {pid} \(psql, role postgres"
    ):
        await migrate(place.options(), WATCHES, has_doorbell=True)


async def test_two_first_migrations_at_once_are_both_done(empty: Place) -> None:
    both = (migrate(empty.options(), WATCHES, has_doorbell=True) for _ in range(2))
    first, second = await asyncio.gather(*both)
    assert {first[0], second[0]} == {
        f"schema stockrelay: version {migrations.head()}{end}" for end in ("", " (unchanged)")
    }


async def test_a_schema_that_is_missing_or_of_another_version_is_told_apart(empty: Place) -> None:
    with pytest.raises(SchemaMismatch, match="is missing; run `stockrelay migrate`"):
        await check_version(empty.options())
    await migrate(empty.options(), WATCHES, has_doorbell=True)
    sql = await empty.connect()
    await sql.execute("UPDATE stockrelay.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="this program is older: upgrade it"):
        await check_version(empty.options())


async def test_dropping_the_schema_frees_the_erps_tables(empty: Place) -> None:
    await migrate(empty.options(), WATCHES, has_doorbell=True)
    sql = await empty.connect()
    await sql.execute("DROP SCHEMA stockrelay CASCADE; INSERT INTO shop.goods VALUES ('A')")
    assert await triggers(sql) == set()
    await migrate(empty.options(), WATCHES, has_doorbell=True)
    await sql.execute("INSERT INTO shop.goods VALUES ('B')")
    assert await logged(sql) == ["B"]


_LEFT = """
SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'stockrelay')
     + (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'stockrelay%')
"""
_FAIL_AT = """
CREATE OR REPLACE FUNCTION public.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands() AS c WHERE c.object_identity ~ '{point}') THEN
        RAISE 'refused at {point}';
    END IF;
END $$;
"""


async def test_a_migration_that_fails_leaves_nothing_behind_wherever_it_fails(empty: Place) -> None:
    sql = await empty.connect()
    for watches, grant_to in (([("shop.nothing", "sku")], None), (WATCHES, "nobody_here")):
        with pytest.raises(StoreRefused):
            await migrate(empty.options(), watches, has_doorbell=True, grant_to=grant_to)
        assert await sql.fetchval(_LEFT) == 0
    await sql.execute(
        _FAIL_AT.format(point="none") + "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION refuse()"
    )
    for point in (
        "alembic_version",
        "stockrelay.ledger",
        "stockrelay.notice",
        "capture_finding",
        "stockrelay_.* on shop",
    ):
        await sql.execute(_FAIL_AT.format(point=point))
        with pytest.raises(StoreRefused, match=f"refused at {re.escape(point)}"):
            await migrate(empty.options(), WATCHES, has_doorbell=True)
        assert await sql.fetchval(_LEFT) == 0, point
    await sql.execute("DROP EVENT TRIGGER t")
    await migrate(empty.options(), WATCHES, has_doorbell=True)
    await sql.execute("CREATE TABLE shop.more (sku text)")
    with pytest.raises(StoreRefused):
        await migrate(empty.options(), [("shop.more", "sku"), ("shop.nothing", "sku")], has_doorbell=False)
    await sql.execute("INSERT INTO shop.more VALUES ('M'); INSERT INTO shop.goods VALUES ('A')")
    assert await logged(sql) == ["A"], "what was watched before still is"


def test_the_names_of_the_migrations_are_the_versions_that_alembic_walks() -> None:
    script = ScriptDirectory(str(migrations.scripts()))
    assert migrations.versions() == sorted(revision.revision for revision in script.walk_revisions())
    assert migrations.head() == script.get_current_head()
