"""Two roles with the least they need: the owner migrates, the daemon does all the rest (docs/database-roles.md)."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from daemon.core.errors import StoreRefused
from daemon.core.guard import GuardRule
from daemon.store.guard import Guard
from daemon.store.inspect_connecting import inspecting
from daemon.store.migrate import check_version, migrate
from daemon.store.tokens import Tokens
from tests.channels import SEKORM
from tests.store.operations import guard, notify, reconcile, sync, watch_capture, work
from tests.store.place import logged
from tests.store.roles import WATCHES, Roles, ready
from tests.store.shop import CHANNEL, opened

HOUR = timedelta(hours=1)


async def test_the_daemon_does_all_its_work_with_its_rights(roles: Roles) -> None:
    assert not any("replicated" in line for line in await ready(roles))
    await check_version(roles.place.options(roles.daemon))
    async with inspecting(roles.place.options(roles.daemon), timedelta(seconds=10)) as inspector:
        assert await inspector.missing_rights() == ([], [])
        assert (await inspector.capturing.bell()).fault is None
    async with opened(roles.place, role=roles.daemon) as shop:
        await sync(shop)
        await work(shop)
        await Guard(shop.database).tidy(CHANNEL, GuardRule(0.1, 1, 0.5, HOUR))
        tokens = Tokens(shop.database, SEKORM, None)
        assert await tokens.begin_refresh(0, HOUR)
        await tokens.fail_refresh(timedelta(0))
        await tokens.save("secret", HOUR)
        assert await tokens.load() is not None
        await tokens.invalidate(1)
        await notify(shop)
        await reconcile(shop)
        await watch_capture(shop)
    async with opened(roles.place, role=roles.daemon, guard=GuardRule(0.1, 1, 0.5, HOUR)) as shop:
        await guard(shop)


async def test_the_erps_roles_write_and_see_nothing_of_ours(roles: Roles) -> None:
    await ready(roles)
    sql = await roles.place.connect()
    clerk = await roles.place.connect(roles.clerk)
    await clerk.execute("INSERT INTO shop.goods VALUES ('A'); UPDATE shop.goods SET note = 'x'")
    await clerk.execute("INSERT INTO shop.parts VALUES ('P'); DELETE FROM shop.goods")
    assert await logged(sql) == ["A", "A", "A", "P"]
    for statement in (
        "SELECT * FROM stockrelay.ledger",
        "SELECT * FROM stockrelay.change",
        "SELECT * FROM stockrelay.token",
        "INSERT INTO stockrelay.change_0 VALUES (NULL)",
        "SELECT stockrelay.rotate('0')",
        "SELECT stockrelay.identity()",
        "CREATE TABLE stockrelay.mine ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await clerk.execute(statement)


async def test_the_daemon_may_do_no_more_than_its_work(roles: Roles) -> None:
    await ready(roles)
    daemon = await roles.place.connect(roles.daemon)
    function = await daemon.fetchval("SELECT proname FROM pg_proc WHERE proname ~ '^capture_[0-9]' LIMIT 1")
    for statement in (
        "UPDATE shop.goods SET quantity = 0",
        "INSERT INTO shop.goods VALUES ('A')",
        "DELETE FROM shop.goods",
        "SELECT * FROM shop.parts",
        "INSERT INTO stockrelay.change_0 VALUES (NULL)",
        "TRUNCATE stockrelay.change_0",
        "SELECT stockrelay.set_doorbell(false)",
        "UPDATE stockrelay.attempt SET reason = 'x'",
        "DELETE FROM stockrelay.attempt",
        "INSERT INTO stockrelay.attempt (sku) VALUES ('A')",
        "TRUNCATE stockrelay.attempt",
        "DELETE FROM stockrelay.attempt_batch",
        "UPDATE stockrelay.attempt_chain SET number = 0",
        "INSERT INTO stockrelay.operation (action) VALUES ('release')",
        "UPDATE stockrelay.operation SET operator = 'another'",
        "DELETE FROM stockrelay.operation",
        "TRUNCATE stockrelay.operation",
        "DELETE FROM stockrelay.intake",
        "DELETE FROM stockrelay.read_position",
        "UPDATE stockrelay.alembic_version SET version_num = 'x'",
        "SELECT stockrelay.set_watches('[]')",
        "CREATE TABLE stockrelay.mine ()",
        f"CREATE TEMP TABLE t (); CREATE TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION stockrelay.{function}()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await daemon.execute(statement)


async def test_with_the_trigger_right_alone_it_works_but_for_replicated_sessions(roles: Roles) -> None:
    lines = await ready(roles, is_member=False)
    assert len([line for line in lines if "do not fire in replicated sessions" in line]) == 2
    sql = await roles.place.connect()
    clerk = await roles.place.connect(roles.clerk)
    await clerk.execute("INSERT INTO shop.goods VALUES ('A')")
    assert await logged(sql) == ["A"]
    await migrate(roles.place.options(roles.owner), WATCHES, has_doorbell=True)
    with pytest.raises(StoreRefused, match="Run as the owner of the table: DROP TRIGGER stockrelay_"):
        await migrate(roles.place.options(roles.owner), WATCHES[:1], has_doorbell=True)
    await clerk.execute("INSERT INTO shop.parts VALUES ('P')")
    assert await logged(sql) == ["P"], "nothing was changed"


async def test_an_owner_that_may_not_read_a_watched_table_is_told(roles: Roles) -> None:
    roles.grant(is_member=False)
    sql = await roles.place.connect()
    await sql.execute(f'REVOKE SELECT ON shop.parts FROM "{roles.owner}"')
    with pytest.raises(StoreRefused, match="permission denied for table parts"):
        await migrate(roles.place.options(roles.owner), WATCHES, has_doorbell=True)


async def test_a_daemon_without_rights_is_told_which(roles: Roles) -> None:
    await migrate_by_dba(roles)
    async with inspecting(roles.place.options(roles.daemon), timedelta(seconds=10)) as inspector:
        assert await inspector.is_schema_open() is False
    sql = await roles.place.connect()
    await sql.execute(f'GRANT USAGE ON SCHEMA stockrelay TO "{roles.daemon}"')
    async with inspecting(roles.place.options(roles.daemon), timedelta(seconds=10)) as inspector:
        grants, missing = await inspector.missing_rights()
    assert missing == []
    await sql.execute("".join(grants))
    async with opened(roles.place, role=roles.daemon) as shop:
        await sql.execute(
            f'GRANT USAGE ON SCHEMA shop TO "{roles.daemon}"; GRANT SELECT ON shop.goods TO "{roles.daemon}"'
        )
        await work(shop)


async def migrate_by_dba(roles: Roles) -> None:
    """The schema belongs to a superuser, and the daemon's role has nothing."""
    sql = await roles.place.connect()
    await sql.execute(f'CREATE ROLE "{roles.daemon}" LOGIN; CREATE ROLE "{roles.owner}" LOGIN')
    await asyncio.wait_for(migrate(roles.place.options(), WATCHES, has_doorbell=True), 20)


_RELATIONS = "SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER"
_RIGHTS = f"""
SELECT r.rolname AS role, format('%I.%I', n.nspname, c.relname) AS name
FROM pg_roles AS r, pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE r.rolname = ANY ($1) AND n.nspname = $2 AND CASE
    WHEN c.relkind = 'S' THEN has_sequence_privilege(r.oid, c.oid, 'USAGE, SELECT, UPDATE')
    WHEN c.relkind IN ('r', 'v', 'm', 'p', 'f') THEN has_table_privilege(r.oid, c.oid, '{_RELATIONS}')
        OR has_any_column_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES') ELSE false END
UNION ALL
SELECT r.rolname, p.oid::regprocedure::text FROM pg_roles AS r, pg_proc AS p
WHERE r.rolname = ANY ($1) AND p.pronamespace = $2::regnamespace AND has_function_privilege(r.oid, p.oid, 'EXECUTE')
UNION ALL
SELECT r.rolname, n.nspname FROM pg_roles AS r, pg_namespace AS n
WHERE r.rolname = ANY ($1) AND n.nspname = $2 AND has_schema_privilege(r.oid, n.oid, 'USAGE, CREATE')
"""


async def test_the_erps_roles_have_no_right_on_anything_in_our_schema(roles: Roles) -> None:
    await ready(roles)
    sql = await roles.place.connect()
    many = await sql.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'stockrelay'::regnamespace")
    assert many > 50
    assert await sql.fetch(_RIGHTS, [roles.erp, roles.clerk], "stockrelay") == []
    assert await sql.fetch(_RIGHTS, [roles.daemon], "stockrelay") != []


async def test_the_daemon_reads_what_is_listed_and_writes_nothing_outside_our_schema(roles: Roles) -> None:
    await ready(roles)
    sql = await roles.place.connect()
    await sql.execute("CREATE TABLE shop.salaries (amount numeric)")
    rows = await sql.fetch(_RIGHTS, [roles.daemon], "shop")
    assert sorted(row["name"] for row in rows) == ["shop", "shop.goods"]
    writable = await sql.fetch(
        """
        SELECT c.oid::regclass::text FROM pg_class AS c
        WHERE c.relkind IN ('r', 'v', 'p', 'f') AND c.relnamespace <> 'stockrelay'::regnamespace
        AND (has_table_privilege($1, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
             OR has_any_column_privilege($1, c.oid, 'INSERT, UPDATE'))
        AND c.relname <> 'pg_settings'
        """,
        roles.daemon,
    )
    assert [row[0] for row in writable] == []
    creatable = await sql.fetch(
        "SELECT nspname FROM pg_namespace WHERE has_schema_privilege($1, oid, 'CREATE') AND nspname !~ '^pg_'",
        roles.daemon,
    )
    assert [row[0] for row in creatable] == []
