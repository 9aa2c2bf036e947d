"""Whatever is done to a watched table after `migrate`, its statements succeed and their changes are captured.

What is done to a table is made from the grammar of ALTER TABLE and from what a column depends on.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import asyncpg
import pytest

from tests.store.place import Connection, Place, watch

_TYPES: Final = {
    "text": "sku",
    "varchar(40)": "sku",
    "char(9)": "sku",
    "name": "sku::name",
    "bytea": "convert_to(sku, 'UTF8')",
    "smallint": "ascii(sku)",
    "bigint": "ascii(sku)",
    "numeric(9, 2)": "ascii(sku)",
    "double precision": "ascii(sku) / 3.0",
    "money": "ascii(sku)::money",
    "boolean": "sku = 'A'",
    "date": "date '2026-01-01' + ascii(sku)",
    "timestamptz": "now()",
    "interval": "make_interval(days => ascii(sku))",
    "uuid": "md5(sku)::uuid",
    "jsonb": "to_jsonb(sku)",
    "xml": "xmlcomment(sku)",
    "text[]": "ARRAY[sku]",
    "int4range": "int4range(0, ascii(sku))",
    "regtype": "'text'::regtype",
    "erp.code": "sku",
    "erp.code_of_code": "sku",
    "erp.mood": "'sad'::erp.mood",
    "erp.pair": "ROW(sku, NULL)::erp.pair",
    'text COLLATE "C"': "sku",
    "text COLLATE erp.blind": "sku",
}
_COLUMN: Final = (
    "SET DEFAULT 'x'",
    "DROP DEFAULT",
    "SET NOT NULL",
    "DROP NOT NULL",
    "SET STATISTICS 10",
    "SET (n_distinct = 5)",
    "SET STORAGE EXTERNAL",
    "SET COMPRESSION pglz",
)
_TABLE: Final = (
    "RENAME COLUMN sku TO article",
    "RENAME COLUMN sku TO article; ALTER TABLE {t} ADD COLUMN sku text DEFAULT 'other'",
    "RENAME COLUMN sku TO article; ALTER TABLE {t} RENAME COLUMN note TO sku",
    "DROP COLUMN sku CASCADE",
    "DROP COLUMN sku CASCADE, ADD COLUMN sku text DEFAULT 'new'",
    "DROP COLUMN sku CASCADE, ADD COLUMN sku integer GENERATED ALWAYS AS IDENTITY",
    "DROP COLUMN sku CASCADE, ADD COLUMN sku text GENERATED ALWAYS AS ('S' || q) STORED",
    "DROP COLUMN sku CASCADE, ADD COLUMN sku text GENERATED ALWAYS AS ('S' || note) VIRTUAL",
    (
        "DROP COLUMN sku CASCADE, ADD COLUMN sku text GENERATED ALWAYS AS ('S') STORED; "
        "ALTER TABLE {t} ALTER COLUMN sku DROP EXPRESSION"
    ),
    (
        "DROP COLUMN sku CASCADE, ADD COLUMN sku text GENERATED ALWAYS AS ('S') STORED; "
        "ALTER TABLE {t} ALTER COLUMN sku SET EXPRESSION AS ('T')"
    ),
    "RENAME TO {n}_elsewhere",
    "SET SCHEMA erp_other",
    "OWNER TO erp_other",
    "SET TABLESPACE pg_default",
    "SET UNLOGGED",
    "SET ACCESS METHOD heap",
    "SET (fillfactor = 50)",
    "REPLICA IDENTITY FULL",
    "REPLICA IDENTITY NOTHING",
    "ENABLE ROW LEVEL SECURITY",
    "ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    "ADD CONSTRAINT c CHECK (sku <> '') NOT VALID",
    "ADD CONSTRAINT c UNIQUE (sku, region, q)",
    "ADD COLUMN capture_skus text DEFAULT 'mine', ADD COLUMN capture_xid text, ADD COLUMN new_rows text",
    "DISABLE RULE ALL",
    "OF erp.stock_type",
    "INHERIT erp.above",
)
_AROUND: Final = (
    "ALTER TABLE {t} ALTER COLUMN sku TYPE erp.code; DROP DOMAIN erp.code CASCADE",
    "ALTER TABLE {t} ALTER COLUMN sku TYPE erp.mood USING 'sad'; DROP TYPE erp.mood CASCADE",
    "ALTER TABLE {t} ALTER COLUMN sku TYPE erp.mood USING 'sad'; ALTER TYPE erp.mood RENAME VALUE 'sad' TO 'glad'",
    "ALTER TABLE {t} ALTER COLUMN sku TYPE text COLLATE erp.blind; DROP COLLATION erp.blind CASCADE",
    "REVOKE ALL ON {t} FROM postgres",
    "REVOKE SELECT (sku) ON {t} FROM postgres",
    "CREATE TABLE {t}_below (extra integer) INHERITS ({t}); INSERT INTO {t}_below (sku, q) VALUES ('L', 1)",
    (
        "CREATE TABLE {t}_new (q integer DEFAULT 0, sku text, note text DEFAULT 'n', region text); "
        "ALTER TABLE {t} ATTACH PARTITION {t}_new FOR VALUES IN ('n'); "
        "INSERT INTO {t}_new (sku, region) VALUES ('N', 'n')"
    ),
    "ALTER TABLE {t} DETACH PARTITION {t}_a; INSERT INTO {t} (sku, region) VALUES ('B', 'b')",
)
_SHAPES: Final = {
    "plain": "CREATE TABLE {t} ({c})",
    "partitioned": "CREATE TABLE {t} ({c}) PARTITION BY LIST (region);"
    "CREATE TABLE {t}_a PARTITION OF {t} FOR VALUES IN ('a'); CREATE TABLE {t}_b PARTITION OF {t} DEFAULT",
    "inherited": "CREATE TABLE {t} ({c}); CREATE TABLE {t}_a (lot text) INHERITS ({t})",
}
_COLUMNS: Final = "note text DEFAULT 'n', sku text, region text DEFAULT 'a', q integer DEFAULT 0"
_SURROUNDINGS: Final = f"""
DROP SCHEMA IF EXISTS erp_other CASCADE; CREATE SCHEMA erp_other;
CREATE DOMAIN erp.code AS varchar(40); CREATE DOMAIN erp.code_of_code AS erp.code; CREATE TYPE erp.mood AS ENUM ('sad');
CREATE TYPE erp.pair AS (a text, b text); CREATE TABLE erp.above ({_COLUMNS});
CREATE TYPE erp.stock_type AS (note text, sku text, region text, q integer);
"""
_COLLATION: Final = (
    "CREATE COLLATION erp.blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
)


def _changes(shape: str) -> Iterator[str]:
    # What a type does, it does in each shape.
    for type_, using in list(_TYPES.items())[:: 1 if shape == "plain" else 4]:
        yield f"ALTER TABLE {{t}} ALTER COLUMN sku DROP DEFAULT, ALTER COLUMN sku TYPE {type_} USING {using}"
    yield from (f"ALTER TABLE {{t}} ALTER COLUMN sku {change}" for change in _COLUMN)
    yield from (f"ALTER TABLE {{t}} {change}" for change in _TABLE)
    yield from _AROUND


@dataclass(frozen=True, slots=True)
class Case:
    """One table, its SKU expression, and what is done to it."""

    table: str
    sku: str
    change: str


async def _made(sql: Connection, shape: str) -> list[Case]:
    """Watched tables with two rows each, one for each change, that is not made yet."""
    cases = []
    for number, change in enumerate(_changes(shape)):
        table = f"erp.{shape}_{number}"
        await sql.execute(_SHAPES[shape].format(t=table, c=_COLUMNS))
        await sql.execute(
            f"INSERT INTO {table if shape == 'plain' else f'{table}_a'} (sku) VALUES ('A'), ('B')"
        )
        # Every fifth by an expression over the column.
        cases.append(
            Case(table, "'' || sku" if number % 5 == 4 else "sku", change.format(t=table, n=table[4:]))
        )
    await watch(sql, *((case.table, case.sku) for case in cases))
    await sql.execute("DELETE FROM stockrelay.change_0")
    return cases


async def _is_made(sql: Connection, change: str) -> bool:
    """Whether the server makes the change to a table of this shape."""
    try:
        async with sql.transaction():
            await sql.execute(change)
    except asyncpg.PostgresError:
        return False
    return True


async def _listed(sql: Connection, case: Case, table: str, rows: str) -> set[str | None]:
    """The SKUs of these rows as a listing reads them; only None, everything, where it can't read them any more."""
    try:
        async with sql.transaction():
            found = await sql.fetch(f"SELECT DISTINCT ({case.sku})::text AS sku FROM {table} WHERE {rows}")
    except asyncpg.PostgresError:
        return {None}
    return {row["sku"] for row in found if row["sku"] is not None}


async def _fault(sql: Connection, case: Case, table: str, statement: str) -> str | None:
    """What is wrong with a statement: it fails, or a SKU that it changed is not in the change log. It is taken back."""
    changed = set() if statement.startswith("INSERT") else await _listed(sql, case, table, "true")
    savepoint = sql.transaction()
    await savepoint.start()
    try:
        await sql.execute(statement)
        if not statement.startswith("DELETE"):
            changed |= await _listed(sql, case, table, "q = 7")
        named = {row["sku"] for row in await sql.fetch("SELECT sku FROM stockrelay.change")}
    except asyncpg.PostgresError as error:
        return f"{case.change}; {statement}: {error!r}"
    finally:
        await savepoint.rollback()
    if None in named or (changed <= named and not statement.startswith("TRUNCATE")):
        return None
    return f"{case.change}; {statement}: {changed} changed, {named} captured"


async def _faults(sql: Connection, case: Case, relation: int) -> list[str]:
    """What is wrong with each kind of statement on the table, and on what was below it when it was watched."""
    tables = await sql.fetch(
        "SELECT t.id::regclass::text AS name FROM stockrelay.relation_tree($1) AS t (id) "
        "WHERE EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = t.id AND g.tgname = 'stockrelay_insert')",
        relation,
    )
    faults: list[str | None] = []
    for table in [row["name"] for row in tables]:
        columns = await sql.fetchval(
            "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute WHERE attrelid = $1::text::regclass "
            "AND attnum > 0 AND NOT attisdropped AND attgenerated = '' AND attidentity = ''",
            table,
        )
        # Not q, which is zero in each row: a row is copied under another one.
        copied = columns.replace("q", "7")
        statements = (
            f"UPDATE {table} SET q = 7",
            f"INSERT INTO {table} ({columns}) SELECT {copied} FROM {table}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
        )
        faults += [await _fault(sql, case, table, statement) for statement in statements]
    return [fault for fault in faults if fault is not None]


@pytest.mark.parametrize("is_plain", [True, False])
async def test_no_change_of_a_watched_table_fails_its_statements_or_hides_what_they_change(
    place: Place, sql: Connection, *, is_plain: bool
) -> None:
    shape = "plain" if is_plain else "partitioned" if place.server.major >= 18 else "inherited"
    await sql.execute(_SURROUNDINGS)
    await _is_made(sql, _COLLATION)
    cases = await _made(sql, shape)
    relations = [await sql.fetchval("SELECT $1::text::regclass::oid", case.table) for case in cases]
    made = [await _is_made(sql, case.change) for case in cases]
    await sql.execute("DELETE FROM stockrelay.change_0")
    faults = []
    for case, relation, is_made in zip(cases, relations, made, strict=True):
        if is_made:
            faults += await _faults(sql, case, relation)
    assert faults == []
    assert sum(made) >= 40, "the changes are those that the server makes"
