"""No setting of a role, a database or the ERP's session changes what is captured or breaks what the daemon does."""

from dataclasses import replace

import asyncpg
import pytest

from daemon.core.errors import StoreRefused
from daemon.demo.postgres import PostgresServer
from daemon.store.database import Database
from daemon.store.migrate import migrate
from daemon.store.pins import PINS
from tests.store.operations import notify, reconcile, sync, watch_capture, work
from tests.store.place import Connection, Place, logged, watch
from tests.store.roles import Roles, ready
from tests.store.shop import opened

# Each setting that a session may change, with odd values: enums each other one, booleans turned round, numbers at their
# limits, and some strings. Not those that end a session for an error that was caught, or write gigabytes of logs.
_ODD = """
SELECT s.name, v.value FROM pg_settings AS s CROSS JOIN LATERAL (
    SELECT unnest(s.enumvals) WHERE s.vartype = 'enum'
    UNION ALL SELECT CASE s.setting WHEN 'on' THEN 'off' ELSE 'on' END WHERE s.vartype = 'bool'
    UNION ALL SELECT unnest(ARRAY[s.min_val, s.max_val]) WHERE s.vartype IN ('integer', 'real')
    UNION ALL SELECT o.value FROM (VALUES ('DateStyle', 'German'), ('DateStyle', 'SQL'), ('TimeZone', 'Asia/Kathmandu'),
        ('search_path', ''), ('search_path', 'erp'), ('lc_numeric', 'C'), ('lc_monetary', 'C'), ('lc_messages', 'C'),
        ('synchronous_standby_names', ''), ('default_text_search_config', 'pg_catalog.german')) AS o (name, value)
    WHERE o.name = s.name) AS v (value)
WHERE s.context IN ('user', 'superuser') AND v.value IS DISTINCT FROM s.setting
AND s.name <> 'exit_on_error' AND s.name !~ '^(debug_|log_|trace_|client_min|post_auth|pre_auth)'
OR s.name = 'debug_parallel_query' AND v.value = 'regress'
ORDER BY 1, 2
"""
_TABLES = """
CREATE TABLE erp.stock (sku text, q integer DEFAULT 0); INSERT INTO erp.stock VALUES ('A'), ('B');
CREATE TABLE erp.days (day date, f float8, b bytea, q integer DEFAULT 0);
INSERT INTO erp.days VALUES ('2026-12-31', 0.1::float8 + 0.2, '\\x00ff');
CREATE TABLE erp.twin (LIKE erp.stock)
"""
_EXPRESSION = r"replace(concat(day, '\', f, '\', b), '\', '/')"


async def test_no_setting_of_the_erps_session_fails_its_statements_or_changes_what_is_captured(
    place: Place, sql: Connection
) -> None:
    await sql.execute(_TABLES)
    await watch(sql, ("erp.stock", "sku"), ("erp.days", _EXPRESSION))
    daemon = Database(place.options(), 1)
    await daemon.open()
    async with daemon.connection("reading a listing") as connection:
        listed = {await connection.fetchval(f"SELECT {_EXPRESSION} FROM erp.days")}
    await daemon.close()
    odd = [(row["name"], row["value"]) for row in await sql.fetch(_ODD)]
    assert {"enable_seqscan", "jit_above_cost", "bytea_output", "session_replication_role"} <= {
        n for n, _ in odd
    }
    erp = await place.connect()
    faults = []
    for name, value in odd:
        await sql.execute("DELETE FROM stockrelay.change_0")
        try:
            await erp.execute(
                "SELECT pg_catalog.set_config($1, $2, false)".replace("$1", f"'{name}'").replace(
                    "$2", f"'{value}'"
                )
            )
            await erp.execute("UPDATE erp.twin SET q = 1")
        except asyncpg.PostgresError:
            await erp.execute("RESET ALL")
            continue  # nothing can be written so
        try:
            await erp.execute("UPDATE erp.stock SET q = q + 1 WHERE sku = 'A'")
            await erp.execute("UPDATE erp.days SET q = q + 1")
        except asyncpg.PostgresError as error:
            faults.append(f"{name} = {value}: {error}")
        await erp.execute("RESET ALL")
        named = {row["sku"] for row in await sql.fetch("SELECT sku FROM stockrelay.change_0")}
        if named != {"A"} | listed:
            faults.append(f"{name} = {value}: {named}")
    assert faults == []


async def test_no_capture_is_compiled_or_scans_a_table(sql: Connection) -> None:
    """With enable_seqscan off, or a low jit_above_cost, each commit took a tenth of a second."""
    await watch(sql, ("shop.goods", "sku || note"))
    unpinned = await sql.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'stockrelay'::regnamespace "
        "AND (prorettype = 'trigger'::regtype OR proname = 'canary') "
        "AND NOT coalesce('jit=off' = ANY (proconfig), false)"
    )
    assert unpinned == []
    scanning = await sql.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'stockrelay'::regnamespace "
        "AND proname ~ '^(ring|stay_awake|try_bell|set_doorbell|capture_.*)$' AND prosrc ~ 'FROM stockrelay'"
    )
    assert scanning == []


async def test_no_setting_of_the_daemons_role_breaks_what_it_does(roles: Roles) -> None:
    await ready(roles)
    sql = await roles.place.connect()
    odd = [(row["name"], row["value"]) for row in await sql.fetch(_ODD)]
    # What bounds a session's memory and files, and what a step of a plan costs, is the operator's to set.
    bounds = ("temp_file_limit", "max_stack_depth", "work_mem", "temp_buffers", "maintenance_work_mem")
    names = [
        name
        for name in dict.fromkeys(name for name, _ in odd)
        if not name.endswith("_cost") and name not in bounds
    ]
    refused = []
    for number, name in enumerate(names):
        # Numbers by turns at their lower and their upper limit.
        value = [value for each, value in odd if each == name][-(number % 2)]
        try:
            await sql.execute(
                f"ALTER ROLE \"{roles.daemon}\" IN DATABASE {roles.place.name} SET {name} = '{value}'"
            )
        except asyncpg.PostgresError:
            refused.append(name)
    assert len(refused) < len(names) / 4, refused
    async with opened(roles.place, role=roles.daemon) as shop:
        await sync(shop)
        await work(shop)
        await notify(shop)
        await reconcile(shop)
        await watch_capture(shop)


async def test_behind_a_pooler_each_transaction_pins_its_settings(place: Place) -> None:
    database = Database(replace(place.options(), is_pooled=True), 1)
    await database.open()
    async with database.connection("setting up") as connection:
        await connection.execute(
            "SET enable_seqscan = off; SET jit_above_cost = 0; SET datestyle = 'German'; SET row_security = on"
        )
    statement = "SELECT name, setting FROM pg_settings WHERE lower(name) = ANY ($1::text[])"
    async with database.transaction("looking") as connection:
        written = await connection.fetch(statement, list(PINS))
    async with database.connection("looking") as connection, database.reading(connection):
        read = await connection.fetch(statement, list(PINS))
    await database.close()
    for rows in (written, read):
        found = {row["name"].lower(): row["setting"] for row in rows}
        for name in ("enable_seqscan", "jit", "datestyle", "row_security", "statement_timeout"):
            assert found[name] == PINS[name], name


@pytest.mark.parametrize(
    "spoil", ["SET datestyle = 'German'", "BEGIN", "SET default_transaction_read_only = on"]
)
async def test_a_session_that_is_left_otherwise_than_it_was_made_is_not_used_again(
    place: Place, spoil: str
) -> None:
    database = Database(place.options(), 1)
    await database.open()
    async with database.connection("spoiling it") as connection:
        before = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute(spoil)
    async with database.connection("using it") as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") != before
        assert await connection.fetchval("SHOW datestyle") == "ISO, MDY"
    await database.close()


async def test_a_session_that_may_not_write_is_not_used_again(place: Place) -> None:
    database = Database(place.options(), 1)
    await database.open()
    pids = []

    async def write() -> None:
        async with database.connection("writing") as connection:
            pids.append(await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("BEGIN READ ONLY; DELETE FROM stockrelay.ledger")

    for _ in range(2):
        with pytest.raises(StoreRefused):
            await write()
    await database.close()
    assert pids[0] != pids[1]


@pytest.mark.parametrize("locale", ["tr-TR", "az"])
async def test_a_database_whose_letters_have_other_capitals_is_migrated(
    server15: PostgresServer, locale: str
) -> None:
    name = f"capitals_{locale[:2]}"
    server15.run_sql(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' "
        f"LOCALE_PROVIDER icu ICU_LOCALE '{locale}'"
    )
    place = Place(server15, name)
    server15.run_sql("CREATE SCHEMA erp; CREATE TABLE erp.stock (item_id text, q integer)", name)
    try:
        await migrate(place.options(), [("erp.stock", "ITEM_ID")], has_doorbell=True)
        sql = await place.connect()
        await sql.execute(
            "INSERT INTO erp.stock VALUES ('İ'); UPDATE erp.stock SET q = 1; DELETE FROM erp.stock"
        )
        assert await logged(sql) == ["İ", "İ", "İ"]
        assert await sql.fetchval("SELECT sku_column FROM stockrelay.watch") == "item_id"
    finally:
        await place.close()
        server15.run_sql(f"DROP DATABASE {name} WITH (FORCE)")
