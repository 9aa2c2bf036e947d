"""Nobody gets code run with our rights: search path, temporary tables, types and names against all that is ours."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from daemon.core.errors import StoreRefused
from daemon.core.notice import GUARD_QUESTION, Notice
from daemon.store.migrate import migrate, migration_sql
from daemon.store.outbox import Outbox
from tests.store.operations import notify, reconcile, sync, watch_capture, work
from tests.store.place import TIMEOUT, Connection, logged
from tests.store.roles import WATCHES, Roles, ready
from tests.store.shop import CHANNEL, opened
from tests.store.traps import caught, trap_sql

# What a session looks at first unless told otherwise: temporary tables and types named as the server's and ours.
TEMPORARY = """
CREATE TEMP TABLE pg_class (oid oid, relname name); CREATE TEMP TABLE pg_inherits (inhparent oid, inhrelid oid);
CREATE TEMP TABLE pg_database (oid oid, datname name); CREATE TEMP TABLE new_rows (sku text);
CREATE TEMP TABLE old_rows (sku text); CREATE TEMP TABLE change_0 (xid xid8, at timestamptz, sku text);
CREATE TEMP TABLE intake (one boolean); CREATE TEMP TABLE capture_word (last_value bigint);
CREATE DOMAIN pg_temp.text AS integer; CREATE DOMAIN pg_temp.regclass AS integer; CREATE DOMAIN pg_temp.date AS integer;
INSERT INTO new_rows VALUES ('forged'); INSERT INTO old_rows VALUES ('forged');
"""
# Whatever the session says: everything of a stranger's stands before the server's.
PATH = "SET search_path = public, pg_temp, pg_catalog"
DEFINERS = """
SELECT p.proname FROM pg_proc AS p WHERE p.pronamespace = 'stockrelay'::regnamespace AND p.prosecdef
"""

RUN_THE_OPERATORS_SQL = {"listed", "listed_whole", "resolved"}
"""As the daemon, and on its path; they look nothing else up that is not qualified."""


@pytest.fixture
async def sql(roles: Roles) -> Connection:
    """A superuser's session; all roles may create functions in public, and the clerk schemas of his own."""
    sql = await roles.place.connect()
    await sql.execute(
        "GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC; "
        f"ALTER DATABASE {roles.place.name} SET track_functions = 'all';"
        f'GRANT CREATE ON DATABASE {roles.place.name} TO "{roles.clerk}"'
    )
    return sql


@pytest.fixture
async def clerk(roles: Roles, sql: Connection) -> AsyncIterator[Connection]:
    """The stranger: he may write the watched tables, his traps are set in public, his session is full of tricks."""
    clerk = await roles.place.connect(roles.clerk)
    await clerk.execute(trap_sql())
    await clerk.execute(TEMPORARY)
    await clerk.execute(PATH)
    yield clerk
    assert await caught(sql, roles.owner, roles.daemon, "postgres") == []


async def test_the_traps_catch_who_does_not_look_out(roles: Roles, sql: Connection) -> None:
    clerk = await roles.place.connect(roles.clerk)
    await clerk.execute(trap_sql())
    await clerk.execute(
        "CREATE FUNCTION public.careless() RETURNS text LANGUAGE sql SECURITY DEFINER "
        "AS $$SELECT lower('X') || format('%s', 'y'::text) WHERE ARRAY['a'] = ARRAY['a']$$"
    )
    await sql.execute(
        f'CREATE ROLE "{roles.owner}"; ALTER FUNCTION public.careless() OWNER TO "{roles.owner}"'
    )
    daemon = await roles.place.connect()
    assert await daemon.fetchval("SELECT public.careless()") == "xy"
    assert await caught(sql, roles.owner) == [
        f"=(text[],text[]) as {roles.owner}",
        f"format(text, text) as {roles.owner}",
    ], "what fits better is called although pg_catalog is looked at first"
    await daemon.execute(PATH)
    await daemon.fetchval("SELECT public.careless()")
    assert f"lower(text) as {roles.owner}" in await caught(sql, roles.owner)


@pytest.mark.usefixtures("clerk")
async def test_a_migration_calls_nothing_of_a_strangers(roles: Roles, sql: Connection) -> None:
    await ready(roles)
    await migrate(roles.place.options(roles.owner), WATCHES[:1], has_doorbell=False)
    await sql.execute(f'ALTER ROLE "{roles.owner}" SET search_path = public, shop, pg_catalog')
    await migrate(
        roles.place.options(roles.owner), [("goods", "sku"), ("parts", "sku || ''")], has_doorbell=True
    )
    watched = await sql.fetch("SELECT name, relation::regclass::text FROM stockrelay.watch ORDER BY 1")
    assert [tuple(row) for row in watched] == [("goods", "shop.goods"), ("parts", "shop.parts")]


async def test_the_printed_migration_calls_nothing_of_a_strangers(roles: Roles, clerk: Connection) -> None:
    roles.place.server.run_sql(f"{PATH};\n{migration_sql(WATCHES, has_doorbell=True)}", roles.place.name)
    await clerk.execute("INSERT INTO shop.goods VALUES ('A')")


@pytest.mark.usefixtures("clerk")
async def test_the_daemon_calls_nothing_of_a_strangers(roles: Roles) -> None:
    await ready(roles)
    async with opened(roles.place, role=roles.daemon) as shop:
        await sync(shop)
        await work(shop)
        await notify(shop)
        await reconcile(shop)
        await watch_capture(shop)


async def test_whatever_runs_as_its_owner_calls_nothing_of_the_callers(
    roles: Roles, sql: Connection, clerk: Connection
) -> None:
    await ready(roles)
    definers = {row["proname"] for row in await sql.fetch(DEFINERS)}
    await clerk.execute("""
        INSERT INTO shop.goods VALUES ('A'), ('B'); UPDATE shop.goods SET sku = 'C' WHERE sku = 'B';
        DELETE FROM shop.goods WHERE sku = 'A'; TRUNCATE shop.goods;
        INSERT INTO shop.parts VALUES ('P'); UPDATE shop.parts SET sku = 'Q';
        DELETE FROM shop.parts; TRUNCATE shop.parts;
    """)
    assert set(await logged(sql)) == {None, "A", "B", "C", "P", "Q"}
    daemon = await roles.place.connect(roles.daemon)
    await daemon.execute("INSERT INTO stockrelay.read_position (channel) VALUES ('sekorm')")
    await clerk.execute("INSERT INTO shop.goods VALUES ('A')")
    await daemon.execute(TEMPORARY)
    await daemon.execute(PATH)
    own = await sql.fetchval("SELECT oid FROM pg_database WHERE datname = current_database()")
    assert await daemon.fetchval("SELECT database_oid FROM stockrelay.identity()") == own
    assert await daemon.fetchval("SELECT stockrelay.rotate('0')") == "switched"
    assert await daemon.fetchval("SELECT skus FROM stockrelay.take_changes('sekorm', 9)") == ["A"]
    assert await daemon.fetchval("SELECT stockrelay.rotate('0')") == "emptied"
    assert await daemon.fetchval("SELECT stockrelay.canary()") in ("asked", "awake")
    assert await daemon.fetchval("SELECT stockrelay.log_attempts('chain', '{}')") == 0
    assert await daemon.fetchval("SELECT stockrelay.roll_attempts(9, '-2 days')") == 0
    assert await daemon.fetchval("SELECT count(*) FROM stockrelay.newest_attempts()") == 0
    written = (
        "SELECT stockrelay.log_operation('ann', 'here', 'pause', 'sekorm', NULL, NULL, NULL, NULL, NULL)"
    )
    assert await daemon.fetchval(written) is not None
    assert await daemon.fetchval("SELECT stockrelay.trim_operations('-2 days')") == 0
    assert await daemon.fetchval("SELECT stockrelay.adopt()") is not None
    for session in (clerk, daemon):
        await session.close()
    async with asyncio.timeout(TIMEOUT):
        # A session tells what it called when it ends.
        while definers - (called := await _called(sql)):  # noqa: ASYNC110 - the server says it only to those who ask
            await asyncio.sleep(0.05)
    assert definers <= called
    assert len(definers) == 11 + 2 * 4, (
        "the captures of two tables, ring, canary, identity, is_asked, rotate, adopt, log_attempts, "
        "newest_attempts, roll_attempts, log_operation, trim_operations"
    )


async def _called(sql: Connection) -> set[str]:
    rows = await sql.fetch("SELECT funcname FROM pg_stat_user_functions WHERE schemaname = 'stockrelay'")
    return {row["funcname"] for row in rows}


async def test_no_function_of_ours_can_be_called_by_everybody_or_looks_at_the_callers_path(
    roles: Roles, sql: Connection
) -> None:
    await ready(roles)
    rows = await sql.fetch("""
        SELECT p.proname AS name, p.prosecdef AS is_definer, p.proconfig AS config,
               p.prosqlbody IS NOT NULL AS is_bound, pg_get_userbyid(p.proowner) AS owner, p.proacl IS NULL OR EXISTS (
                   SELECT FROM aclexplode(p.proacl) AS a WHERE a.grantee = 0) AS is_public,
               EXISTS (SELECT FROM aclexplode(p.proacl) AS a WHERE a.grantee <> p.proowner
                       AND a.grantee <> $1::text::regrole) AS is_others
        FROM pg_proc AS p WHERE p.pronamespace = 'stockrelay'::regnamespace
    """, f'"{roles.daemon}"')  # fmt: skip
    assert len(rows) > 30
    for row in rows:
        assert (row["owner"], row["is_public"], row["is_others"]) == (roles.owner, False, False), row
        is_pinned = "search_path=pg_catalog, pg_temp" in (row["config"] or ())
        # A body that is bound when it is created looks nothing up when it is called.
        is_harmless = row["is_bound"] or row["name"] in RUN_THE_OPERATORS_SQL
        assert is_pinned or (is_harmless and not row["is_definer"]) or row["name"] == "set_watches", row


async def test_a_type_of_the_tables_owner_does_not_become_a_text_by_his_function(
    roles: Roles, sql: Connection, clerk: Connection
) -> None:
    await sql.execute("CREATE TABLE shop.boxes (a text, b text)")
    await sql.execute(
        f'ALTER TABLE shop.boxes OWNER TO "{roles.erp}"; GRANT ALL ON shop.boxes TO "{roles.clerk}"'
    )
    watches = [*WATCHES, ("shop.boxes", "lower(a) || '-' || b")]
    roles.grant(is_member=True)
    await migrate(roles.place.options(roles.owner), watches, has_doorbell=True)
    await clerk.execute("INSERT INTO shop.goods VALUES ('A'); INSERT INTO shop.boxes VALUES ('X', 'Y')")
    assert await logged(sql) == ["A", "x-Y"]
    erp = await roles.place.connect(roles.erp)
    await erp.execute("""
        CREATE TYPE shop.evil AS (t text);
        CREATE FUNCTION shop.evil_text(shop.evil) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
        BEGIN PERFORM mallory.note('roles'); RETURN 'evil'; END $$;
        CREATE CAST (shop.evil AS text) WITH FUNCTION shop.evil_text(shop.evil) AS IMPLICIT;
        DROP INDEX shop.goods_sku;
        ALTER TABLE shop.goods ALTER sku TYPE shop.evil USING ROW(sku)::shop.evil;
        ALTER TABLE shop.boxes ALTER b TYPE shop.evil USING ROW(b)::shop.evil;
    """)
    await clerk.execute("UPDATE shop.goods SET note = 'x'; UPDATE shop.boxes SET a = 'Z'")
    assert await logged(sql) == [None, None], "still captured, as everything"
    assert await erp.fetchval("SELECT sku::text FROM shop.goods") == "evil", (
        "the roles is used by everybody else"
    )
    assert await caught(sql, roles.erp) != []


async def test_a_sku_expression_over_a_type_of_somebodys_is_refused(roles: Roles, sql: Connection) -> None:
    await sql.execute("""
        CREATE TYPE shop.kind AS ENUM ('a', 'b'); CREATE DOMAIN shop.code AS char(5);
        CREATE TABLE shop.boxes (kind shop.kind, code shop.code, is_set boolean, number integer);
        GRANT SELECT, TRIGGER ON shop.boxes TO PUBLIC
    """)  # fmt: skip
    roles.grant(is_member=False)
    options = roles.place.options(roles.owner)
    with pytest.raises(
        StoreRefused, match=r"reads kind, whose type shop\.kind is not one of the server's own"
    ):
        await migrate(options, [("shop.boxes", "kind || '-' || number")], has_doorbell=True)
    for expression in ("new_rows::text", "old_rows::text"):
        with pytest.raises(StoreRefused, match="does not exist"):
            await migrate(options, [("shop.boxes", expression)], has_doorbell=True)
    for expression, sku in (("kind", "a"), ("code", "c"), ("is_set", "true"), ("code || number", "c7")):
        await migrate(options, [("shop.boxes", expression)], has_doorbell=True)
        await sql.execute("INSERT INTO shop.boxes VALUES ('a', 'c', true, 7)")
        assert await logged(sql) == [sku]


NAMES = (
    '"; DROP SCHEMA stockrelay CASCADE; --',
    "'; DROP SCHEMA stockrelay CASCADE; --",
    "$source$",
    "$outer$",
    "%I",
    "new_rows",
    "capture_word",
    "c",
)


@pytest.mark.parametrize("column", NAMES)
async def test_a_name_is_a_name_whatever_stands_in_it(roles: Roles, sql: Connection, column: str) -> None:
    table, quoted = (await sql.fetchrow("SELECT quote_ident($1 || ' t'), quote_ident($1)", column)) or (
        "",
        "",
    )
    await sql.execute(f"CREATE TABLE shop.{table} ({quoted} text)")
    await sql.execute(f"GRANT SELECT, TRIGGER, INSERT ON shop.{table} TO PUBLIC")
    roles.grant(is_member=False)
    await migrate(roles.place.options(roles.owner), [(f"shop.{table}", quoted)], has_doorbell=True)
    clerk = await roles.place.connect(roles.clerk)
    await clerk.execute(f"INSERT INTO shop.{table} VALUES ($1)", "'); DROP SCHEMA stockrelay CASCADE; --")
    assert await logged(sql) == ["'); DROP SCHEMA stockrelay CASCADE; --"]


async def test_a_schema_that_somebody_else_made_for_us_is_not_used(roles: Roles, sql: Connection) -> None:
    clerk = await roles.place.connect(roles.clerk)
    await clerk.execute("CREATE SCHEMA stockrelay; GRANT ALL ON SCHEMA stockrelay TO PUBLIC")
    await sql.execute(f'CREATE ROLE "{roles.owner}" LOGIN')
    with pytest.raises(StoreRefused, match=f"the schema belongs to {roles.clerk}.*Migrate as its owner"):
        await migrate(roles.place.options(roles.owner), WATCHES, has_doorbell=True)
    await sql.execute(f'DROP SCHEMA stockrelay; GRANT "{roles.clerk}" TO "{roles.owner}"')
    await clerk.execute("CREATE SCHEMA stockrelay")
    with pytest.raises(StoreRefused, match="permission denied for table"):
        await migrate(roles.place.options(roles.owner), WATCHES, has_doorbell=True)


async def test_who_may_only_connect_delays_nothing_but_the_bell(roles: Roles, sql: Connection) -> None:
    await ready(roles)
    clerk = await roles.place.connect(roles.clerk)
    await clerk.execute(
        "SELECT pg_advisory_lock(7830361, n), pg_advisory_lock(n), pg_advisory_lock(7830361) "
        "FROM generate_series(0, 9) AS n"
    )
    await clerk.execute("NOTIFY stockrelay, 'x'; NOTIFY stockrelay, 'resync'; LISTEN stockrelay")
    for statement in (
        "BEGIN; LOCK TABLE stockrelay.ledger IN ACCESS SHARE MODE",
        "ROLLBACK; BEGIN; LOCK TABLE stockrelay.alembic_version IN ACCESS SHARE MODE",
        "ROLLBACK; SELECT FROM stockrelay.mutex FOR SHARE",
        "SELECT FROM stockrelay.mutex FOR UPDATE",
        "SELECT stockrelay.log_attempts('chain', NULL)",
        "CREATE TABLE stockrelay.mine ()",
        "CREATE FUNCTION stockrelay.mine() RETURNS integer RETURN 1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await clerk.execute(statement)
    async with asyncio.timeout(2 * TIMEOUT):
        await clerk.execute("INSERT INTO shop.goods VALUES ('A')")
        assert await logged(sql) == ["A"]
        await migrate(roles.place.options(roles.owner), WATCHES, has_doorbell=True)
        async with opened(roles.place, role=roles.daemon) as shop:
            assert await shop.changelog.roll_attempts(timedelta(days=30)) == 0
            outbox = Outbox(shop.database)
            await outbox.post(Notice(GUARD_QUESTION, "q", CHANNEL, {}))
            assert len(await outbox.take(timedelta(seconds=30), timedelta(0), 10, ())) == 1
