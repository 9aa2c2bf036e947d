"""`migrate --grant-to ROLE` gives a role the rights that deploy/roles.sql lists."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.core.errors import SchemaMismatch, StoreRefused
from daemon.store.migrate import migrate, migration_sql
from tests.store.place import WATCHES, Connection, Place

ROLES = Path(__file__).parents[2] / "deploy" / "roles.sql"
RIGHTS = """
SELECT kind, name, privilege_type
  FROM (SELECT 'relation', oid::regclass::text, relacl FROM pg_class WHERE relnamespace = 'stockrelay'::regnamespace
        UNION ALL
        SELECT 'function', oid::regprocedure::text, proacl FROM pg_proc WHERE pronamespace = 'stockrelay'::regnamespace
        UNION ALL
        SELECT 'schema', nspname, nspacl FROM pg_namespace WHERE nspname = 'stockrelay') AS o (kind, name, acl),
       aclexplode(acl) AS a
 WHERE a.grantee = quote_ident($1)::regrole
 ORDER BY 1, 2, 3
"""


@pytest.fixture
def roles(empty: Place) -> Iterator[tuple[str, str]]:
    """Two roles without rights; one has a name that has to be quoted."""
    names = f'{empty.name} "Relay"', f"{empty.name}_relay"
    quoted = [f'"{empty.name} ""Relay"""', names[1]]
    empty.server.run_sql("".join(f"CREATE ROLE {name};" for name in quoted), empty.name)
    yield names
    empty.server.run_sql("".join(f"DROP OWNED BY {name}; DROP ROLE {name};" for name in quoted), empty.name)


async def rights(connection: Connection, role: str) -> list[tuple[str, ...]]:
    """What `role` may do with our objects."""
    return [tuple(row) for row in await connection.fetch(RIGHTS, role)]


async def test_migrating_grants_what_the_script_grants(empty: Place, roles: tuple[str, str]) -> None:
    lines = await migrate(empty.options(), WATCHES, has_doorbell=True, grant_to=roles[0])
    assert lines[-1] == f"{roles[0]} may do what the daemon does"
    script = f"\\set owner postgres\n\\set daemon {roles[1]}\n{ROLES.read_text('utf-8')}"
    empty.server.run_sql(script, empty.name)
    sql = await empty.connect()
    granted = await rights(sql, roles[1])
    assert ("schema", "stockrelay", "USAGE") in granted
    assert ("relation", "stockrelay.ledger", "UPDATE") in granted
    assert await rights(sql, roles[0]) == granted


async def test_printed_sql_grants_the_same(empty: Place, roles: tuple[str, str]) -> None:
    empty.server.run_sql(migration_sql(WATCHES, has_doorbell=True, grant_to=roles[0]), empty.name)
    sql = await empty.connect()
    printed = await rights(sql, roles[0])
    await migrate(empty.options(), WATCHES, has_doorbell=True, grant_to=roles[0])
    assert printed == await rights(sql, roles[0]) != []


async def test_a_role_that_is_not_there_is_named(empty: Place) -> None:
    with pytest.raises(StoreRefused, match="nobody_here"):
        await migrate(empty.options(), WATCHES, has_doorbell=True, grant_to="nobody_here")


async def test_a_schema_of_a_newer_program_is_left_alone(empty: Place) -> None:
    await migrate(empty.options(), WATCHES, has_doorbell=True)
    sql = await empty.connect()
    await sql.execute("UPDATE stockrelay.alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match=r"9999.*upgrade"):
        await migrate(empty.options(), WATCHES, has_doorbell=True)
    assert await sql.fetchval("SELECT version_num FROM stockrelay.alembic_version") == "9999"
