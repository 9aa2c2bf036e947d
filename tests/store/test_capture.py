"""Every way in which a watched table can change names the SKUs in the change log."""

import asyncpg
import pytest

from tests.store.place import Connection, Place, logged, watch

TABLE = "CREATE TABLE erp.stock (id integer PRIMARY KEY, sku text, q integer DEFAULT 0)"


@pytest.fixture
async def stock(sql: Connection) -> Connection:
    """`erp.stock` with three rows, watched."""
    await sql.execute(TABLE + "; INSERT INTO erp.stock VALUES (1, 'A'), (2, 'B'), (3, 'C')")
    await watch(sql, ("erp.stock", "sku"))
    return sql


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("INSERT INTO erp.stock VALUES (7, 'N'), (8, 'O')", ["N", "O"]),
        ("UPDATE erp.stock SET q = 1 WHERE sku < 'C'", ["A", "B"]),
        ("DELETE FROM erp.stock WHERE sku > 'A'", ["B", "C"]),
        ("UPDATE erp.stock SET sku = 'A2' WHERE sku = 'A'", ["A", "A2"]),
        ("UPDATE erp.stock SET sku = NULL WHERE sku = 'A'", ["A"]),
        ("INSERT INTO erp.stock VALUES (7, NULL)", []),
        ("INSERT INTO erp.stock VALUES (1, 'X') ON CONFLICT (id) DO UPDATE SET sku = 'A9'", ["A", "A9"]),
        ("INSERT INTO erp.stock VALUES (1, 'X') ON CONFLICT (id) DO NOTHING", []),
        ("TRUNCATE erp.stock", [None]),
        (
            "WITH d AS (DELETE FROM erp.stock WHERE sku = 'A') UPDATE erp.stock SET q = 2 WHERE sku = 'B'",
            ["A", "B"],
        ),
        (
            (
                "MERGE INTO erp.stock AS s USING (VALUES (1, 'm'), (9, 'NEW')) AS v (id, sku) ON s.id = v.id "
                "WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, v.sku)"
            ),
            ["A", "NEW"],
        ),
    ],
)
async def test_a_statement_names_the_skus_it_changed(
    stock: Connection, statement: str, named: list[str | None]
) -> None:
    await stock.execute(statement)
    assert await logged(stock) == named


async def test_copy_is_captured(stock: Connection) -> None:
    await stock.copy_records_to_table("stock", schema_name="erp", records=[(10, "K", 1), (11, "L", 2)])
    assert await logged(stock) == ["K", "L"]


async def test_a_statement_logs_no_more_rows_than_it_changed(stock: Connection) -> None:
    await stock.execute("INSERT INTO erp.stock SELECT i, 'A' FROM generate_series(10, 12) AS i")
    await stock.execute("UPDATE erp.stock SET q = q + 1 WHERE id >= 10")
    assert await logged(stock) == ["A"] * 6


async def test_skus_that_change_places_are_named(stock: Connection) -> None:
    await stock.execute("INSERT INTO erp.stock VALUES (10, 'A'), (11, 'B'), (12, 'C')")
    await stock.execute(
        "UPDATE erp.stock SET sku = CASE sku WHEN 'A' THEN 'B' WHEN 'B' THEN 'D' ELSE sku END WHERE id >= 10"
    )
    assert await logged(stock) == ["A", "A", "B", "B", "C", "C", "D"]


async def test_a_sku_that_changes_its_case_alone_is_named_twice_under_a_collation_that_does_not_see_it(
    stock: Connection,
) -> None:
    try:
        await stock.execute(
            "CREATE COLLATION erp.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
        )
    except asyncpg.FeatureNotSupportedError:
        pytest.skip("no ICU")
    await stock.execute("ALTER TABLE erp.stock ALTER sku TYPE text COLLATE erp.blind")
    await stock.execute("UPDATE erp.stock SET sku = 'a' WHERE id = 1")
    assert await logged(stock) == ["A", "a"]


async def test_what_a_foreign_key_cascades_is_captured(sql: Connection) -> None:
    await sql.execute(
        "CREATE TABLE erp.product (sku text PRIMARY KEY); CREATE TABLE erp.stock (sku text REFERENCES erp.product "
        "ON UPDATE CASCADE ON DELETE CASCADE); INSERT INTO erp.product VALUES ('A'), ('B');"
        "INSERT INTO erp.stock VALUES ('A'), ('B')"
    )
    await watch(sql, ("erp.stock", "sku"))
    await sql.execute("UPDATE erp.product SET sku = 'A2' WHERE sku = 'A'")
    assert await logged(sql) == ["A", "A2"]
    await sql.execute("DELETE FROM erp.product WHERE sku = 'B'")
    assert await logged(sql) == ["B"]


async def test_what_a_savepoint_takes_back_is_not_logged_and_what_it_keeps_is(stock: Connection) -> None:
    await stock.execute(
        "BEGIN; UPDATE erp.stock SET q = 1 WHERE sku = 'A'; SAVEPOINT s; UPDATE erp.stock SET q = 1 WHERE sku = 'B';"
        "ROLLBACK TO s; SAVEPOINT t; UPDATE erp.stock SET q = 1 WHERE sku = 'C'; RELEASE t; COMMIT"
    )
    xids = await stock.fetchval("SELECT count(DISTINCT xid) FROM stockrelay.change")
    assert await logged(stock) == ["A", "C"]
    assert xids == 1, "a savepoint's rows carry the transaction's own id: a reader knows no other"


async def test_a_rolled_back_transaction_logs_nothing(stock: Connection) -> None:
    await stock.execute("BEGIN; DELETE FROM erp.stock; ROLLBACK")
    assert await logged(stock) == []


async def test_a_statement_that_changes_no_row_writes_nothing_and_takes_no_transaction_id(
    stock: Connection,
) -> None:
    await stock.execute("BEGIN; UPDATE erp.stock SET q = 1 WHERE false; DELETE FROM erp.stock WHERE false")
    assert await stock.fetchval("SELECT pg_current_xact_id_if_assigned()") is None
    await stock.execute("COMMIT")
    assert await logged(stock) == []


async def test_every_way_into_a_partitioned_table_is_captured(sql: Connection) -> None:
    await sql.execute(
        "CREATE TABLE erp.stock (sku text, region text, q integer DEFAULT 0) PARTITION BY LIST (region);"
        "CREATE TABLE erp.north PARTITION OF erp.stock FOR VALUES IN ('n');"
        # Another order of columns, and a level of its own.
        "CREATE TABLE erp.south (region text, x integer, q integer DEFAULT 0, sku text) PARTITION BY RANGE (q);"
        "ALTER TABLE erp.south DROP COLUMN x; ALTER TABLE erp.stock ATTACH PARTITION erp.south FOR VALUES IN ('s');"
        "CREATE TABLE erp.south_low PARTITION OF erp.south FOR VALUES FROM (0) TO (100)"
    )
    await watch(sql, ("erp.stock", "sku"))
    for statement, named in (
        ("INSERT INTO erp.stock VALUES ('A', 'n'), ('B', 's')", ["A", "B"]),
        ("INSERT INTO erp.north VALUES ('C', 'n')", ["C"]),
        ("INSERT INTO erp.south_low (sku, region) VALUES ('D', 's')", ["D"]),
        ("UPDATE erp.south SET q = 5 WHERE sku = 'D'", ["D"]),
        ("UPDATE erp.stock SET region = 's', sku = 'A2' WHERE sku = 'A'", ["A", "A2"]),
        ("DELETE FROM erp.south_low WHERE sku = 'A2'", ["A2"]),
        ("TRUNCATE erp.south_low", [None]),
        ("DELETE FROM erp.stock", ["C"]),
    ):
        await sql.execute(statement)
        assert await logged(sql) == named, statement
    await sql.execute("TRUNCATE erp.stock")
    assert set(await logged(sql)) == {None}


async def test_a_change_says_which_watched_table_and_which_session_it_is_from(
    sql: Connection, place: Place
) -> None:
    await sql.execute(
        "CREATE TABLE erp.stock (sku text) PARTITION BY LIST (sku);"
        "CREATE TABLE erp.north PARTITION OF erp.stock FOR VALUES IN ('A')"
    )
    await watch(sql, ("erp.stock", "sku"))
    session = await place.connect()
    await session.execute("INSERT INTO erp.north VALUES ('A'); TRUNCATE erp.north")
    await sql.fetchval("SELECT stockrelay.canary()")
    rows = await sql.fetch(
        "SELECT relation = 'erp.stock'::regclass AS is_stock, backend FROM stockrelay.change ORDER BY at"
    )
    ours, theirs = (
        await sql.fetchval("SELECT pg_backend_pid()"),
        await session.fetchval("SELECT pg_backend_pid()"),
    )
    assert [tuple(row) for row in rows] == [(True, theirs), (None, theirs), (None, ours)]


async def test_inheritance_children_are_captured_by_themselves_and_through_their_parent(
    sql: Connection,
) -> None:
    await sql.execute(
        "CREATE TABLE erp.stock (sku text); CREATE TABLE erp.batch (lot text) INHERITS (erp.stock);"
        "INSERT INTO erp.batch VALUES ('A', '1'), ('B', '2')"
    )
    await watch(sql, ("erp.stock", "sku"))
    await sql.execute("UPDATE erp.batch SET lot = '3' WHERE sku = 'A'")
    assert await logged(sql) == ["A"]
    await sql.execute("DELETE FROM erp.stock WHERE sku = 'B'")
    assert await logged(sql) == ["B"]


@pytest.mark.parametrize(
    ("schema", "table", "column"),
    [
        ("Erp Sales", "Stock", "SKU"),
        ('a"b.c', 'x"; DROP TABLE y; --', 'k"ö.ü'),
        ("select", "order", "user"),
        ("仓库", "库存", "编号"),
        ("erp", "new_rows", "new_rows"),
        ("erp", "%s@sku@%I", "$1"),
    ],
)
async def test_any_name_can_be_watched(sql: Connection, schema: str, table: str, column: str) -> None:
    quoted = [
        await sql.fetchval("SELECT '\"' || replace($1, '\"', '\"\"') || '\"'", part)
        for part in (schema, table, column)
    ]
    name = f"{quoted[0]}.{quoted[1]}"
    await sql.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted[0]}; CREATE TABLE {name} ({quoted[2]} text)")
    try:
        await watch(sql, (name, quoted[2]))
        await sql.execute(f"INSERT INTO {name} VALUES ('A'); UPDATE {name} SET {quoted[2]} = 'B'")
        assert await logged(sql) == ["A", "A", "B"]
        await sql.execute(f"DELETE FROM {name}; TRUNCATE {name}")
        assert await logged(sql) == [None, "B"]
    finally:
        await sql.execute(f"DROP SCHEMA {quoted[0]} CASCADE")


@pytest.mark.parametrize(
    "column",
    [
        "slot",
        "sku",
        "xid",
        "at",
        "new_rows",
        "old_rows",
        "capture_word",
        "capture_rows",
        "tg_op",
        "c",
        "s",
        "a",
    ],
)
async def test_a_column_may_be_called_as_ours_are(sql: Connection, column: str) -> None:
    await sql.execute(f"CREATE TABLE erp.stock ({column} text, other text)")
    await watch(sql, ("erp.stock", f"coalesce({column}, 'none')"))
    await sql.execute("INSERT INTO erp.stock VALUES ('A'); DELETE FROM erp.stock")
    assert await logged(sql) == ["A", "A"]
    await watch(sql, ("erp.stock", column))
    await sql.execute("INSERT INTO erp.stock VALUES ('A'); UPDATE erp.stock SET other = 'x'")
    assert await logged(sql) == ["A", "A"]


@pytest.mark.parametrize(
    ("kind", "value", "named"),
    [
        ("integer", "42", "42"),
        ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        ("char(8)", "'AB'", "AB"),
        ("varchar(8)", "'AB '", "AB "),
        ("bigint", "9007199254740993", "9007199254740993"),
        ("erp.code", "'X'", "X"),
        ("erp.kind", "'red'", "red"),
        ('text COLLATE "C"', "'é'", "é"),
        ("text", "''", ""),
    ],
)
async def test_a_sku_of_any_type_is_logged_as_text(
    sql: Connection, kind: str, value: str, named: str
) -> None:
    await sql.execute(
        "CREATE DOMAIN erp.code AS text CHECK (value <> 'bad'); CREATE TYPE erp.kind AS ENUM ('red');"
        f"CREATE TABLE erp.stock (sku {kind})"
    )
    await watch(sql, ("erp.stock", "sku"))
    await sql.execute(f"INSERT INTO erp.stock VALUES ({value})")
    assert await logged(sql) == [named]


async def test_an_expression_over_several_columns_names_old_and_new(sql: Connection) -> None:
    await sql.execute("CREATE TABLE erp.stock (maker text, pn text, q integer)")
    await watch(sql, ("erp.stock", "maker || '/' || pn"))
    await sql.execute("INSERT INTO erp.stock VALUES ('ti', 'LM1', 1), ('st', NULL, 1)")
    assert await logged(sql) == ["ti/LM1"]
    await sql.execute(
        "UPDATE erp.stock SET maker = 'nxp' WHERE maker = 'ti'; UPDATE erp.stock SET pn = 'X' WHERE pn IS NULL"
    )
    assert await logged(sql) == ["nxp/LM1", "st/X", "ti/LM1"]


async def test_a_function_of_the_erp_may_be_called_with_its_schema(sql: Connection) -> None:
    await sql.execute(
        "CREATE FUNCTION erp.spell(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';"
        "CREATE TABLE erp.stock (sku text)"
    )
    await watch(sql, ("erp.stock", "erp.spell(sku)"))
    await sql.execute("INSERT INTO erp.stock VALUES ('a')")
    assert await logged(sql) == ["A"]


async def test_replicated_sessions_count(stock: Connection) -> None:
    await stock.execute("SET session_replication_role = replica")
    await stock.execute("UPDATE erp.stock SET q = 1 WHERE sku = 'A'")
    assert await logged(stock) == ["A"]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
async def test_writers_of_any_isolation_do_not_disturb_each_other(
    place: Place, stock: Connection, isolation: str
) -> None:
    sessions = [await place.connect(), await place.connect()]
    for session in sessions:
        await session.execute(f"BEGIN ISOLATION LEVEL {isolation}")
        await session.fetch("SELECT count(*) FROM erp.stock WHERE id = 3")
    for number, session in enumerate(sessions, 1):
        await session.execute("UPDATE erp.stock SET q = 1 WHERE id = $1", number)
    await stock.fetch("SELECT stockrelay.take_changes('sekorm', 10)")
    for session in sessions:
        await session.execute("COMMIT")
    assert await logged(stock) == ["A", "B"]


async def test_prepare_transaction_works_without_the_doorbell(stock: Connection) -> None:
    await stock.execute("SELECT stockrelay.set_doorbell(false)")
    await stock.execute("BEGIN; UPDATE erp.stock SET q = 1 WHERE sku = 'A'; PREPARE TRANSACTION 'two'")
    assert await stock.fetchval("SELECT changes FROM stockrelay.take_changes('sekorm', 10)") == 0
    await stock.execute("COMMIT PREPARED 'two'")
    assert await stock.fetchval("SELECT skus FROM stockrelay.take_changes('sekorm', 10)") == ["A"]


async def test_a_hostile_session_neither_fails_nor_fools_the_capture(place: Place, stock: Connection) -> None:
    """What the session puts before pg_catalog, and how it is set, is nothing to us."""
    await stock.execute(
        "CREATE FUNCTION erp.evil(anyelement) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';"
        "CREATE FUNCTION erp.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';"
        "CREATE FUNCTION erp.pg_backend_pid() RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';"
        "CREATE FUNCTION erp.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';"
        "CREATE FUNCTION erp.less(double precision, numeric) RETURNS boolean LANGUAGE sql AS 'SELECT false';"
        "CREATE OPERATOR erp.< (FUNCTION = erp.less, LEFTARG = double precision, RIGHTARG = numeric);"
        "CREATE FUNCTION erp.and_(integer, integer) RETURNS integer LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';"
        "CREATE OPERATOR erp.& (FUNCTION = erp.and_, LEFTARG = integer, RIGHTARG = integer)"
    )
    session = await place.connect()
    await session.execute(
        "SET search_path = erp, pg_catalog; SET standard_conforming_strings = off; SET enable_seqscan = off;"
        "SET plpgsql.extra_errors = 'all'; SET plpgsql.variable_conflict = 'error'; SET transform_null_equals = on;"
        "SET default_transaction_isolation = serializable; SET lock_timeout = '1ms'; SET DateStyle = 'German';"
        "CREATE TEMP TABLE new_rows (sku text); CREATE TEMP TABLE old_rows (sku text);"
        "CREATE TEMP TABLE change_0 (x integer);"
        "INSERT INTO new_rows VALUES ('fooled')"
    )
    await session.execute("UPDATE stock SET q = 1 WHERE sku OPERATOR(pg_catalog.=) 'A'")
    await session.execute("DELETE FROM stock WHERE sku = 'B'")
    assert await logged(stock) == ["A", "B"]


async def test_the_erps_role_needs_no_right_in_our_schema(place: Place, stock: Connection) -> None:
    await stock.execute(
        "DROP ROLE IF EXISTS clerk; CREATE ROLE clerk LOGIN; GRANT USAGE ON SCHEMA erp TO clerk;"
        "GRANT ALL ON erp.stock TO clerk; GRANT TRUNCATE ON erp.stock TO clerk"
    )
    clerk = await place.connect("clerk")
    try:
        await clerk.execute("INSERT INTO erp.stock VALUES (9, 'N'); UPDATE erp.stock SET q = 3 WHERE id = 9")
        await clerk.execute("DELETE FROM erp.stock WHERE id = 9")
        assert await logged(stock) == ["N", "N", "N"]
        await clerk.execute("TRUNCATE erp.stock")
        assert await logged(stock) == [None]
        for statement in (
            "SELECT * FROM stockrelay.change",
            "SELECT * FROM stockrelay.ledger",
            "SELECT * FROM stockrelay.token",
            "SELECT stockrelay.rotate('0')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await clerk.execute(statement)
    finally:
        await clerk.close()
        await stock.execute("DROP OWNED BY clerk; DROP ROLE clerk")


async def test_a_hundred_statements_in_a_transaction_use_no_subtransaction_ids(stock: Connection) -> None:
    """More than 64 would overflow the server's cache and slow every other session's snapshots down."""
    await watch(stock, ("erp.stock", "sku || ''"))
    await stock.execute("BEGIN; UPDATE erp.stock SET q = 0 WHERE id = 1")
    first = int(await stock.fetchval("SELECT pg_current_xact_id()::text"))
    for number in range(100):
        await stock.execute("UPDATE erp.stock SET q = $1 WHERE id = 1", number)
    await stock.execute("COMMIT; BEGIN")
    assert int(await stock.fetchval("SELECT pg_current_xact_id()::text")) - first < 20
    await stock.execute("COMMIT")
