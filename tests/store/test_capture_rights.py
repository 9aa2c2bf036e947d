"""A hardening sweep that takes EXECUTE on built-in functions from PUBLIC fails none of the ERP's statements."""

import pytest

from daemon.core.capture import judge_owners
from daemon.core.errors import StoreRefused
from daemon.store.capture_health import Capturing
from daemon.store.database import Database
from tests.store.place import Connection
from tests.store.roles import Roles, ready

# Those that are called by name in what captures, and those of its operators and casts.
CALLED = r"""
WITH source AS (
    SELECT string_agg(p.prosrc, ' ') AS text FROM pg_proc AS p WHERE p.pronamespace = 'stockrelay'::regnamespace
    AND (p.proname ~ '^capture_([0-9]|everything)' OR p.proname IN ('ring', 'try_bell', 'stay_awake'))
), types (id) AS (
    SELECT unnest('{int8,int4,float8,bool,text,timestamptz,numeric,anyarray}'::regtype[])
)
SELECT p.oid::regprocedure::text AS signature FROM pg_proc AS p, source AS s
WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND (
    s.text ~ ('\m' || p.proname || '\(')
    OR p.oid IN (SELECT o.oprcode FROM pg_operator AS o
                 WHERE o.oprname IN ('&', '|', '~', '<', '>', '=', '<>', '*', '+', '||')
                 AND o.oprright IN (SELECT id FROM types) AND (o.oprleft = 0 OR o.oprleft IN (SELECT id FROM types)))
    OR p.oid IN (SELECT k.castfunc FROM pg_cast AS k
                 WHERE k.castsource IN (SELECT id FROM types) AND k.casttarget IN (SELECT id FROM types)))
ORDER BY 1
"""


@pytest.fixture
async def clerk(roles: Roles) -> Connection:
    """The ERP's session: neither its role nor that of the triggers is a superuser."""
    await ready(roles)
    return await roles.place.connect(roles.clerk)


async def test_a_built_in_that_is_revoked_fails_no_statement_and_is_named(
    roles: Roles, clerk: Connection
) -> None:
    sql = await roles.place.connect()
    daemon = Database(roles.place.options(roles.daemon), 1)
    await daemon.open()
    signatures = [row["signature"] for row in await sql.fetch(CALLED)]
    assert {"pg_notify(text,text)", "pg_current_xact_id()", "int8and(bigint,bigint)"} <= set(signatures)
    unnamed, failed = [], []
    try:
        for signature in signatures:
            await sql.execute("SELECT setval('stockrelay.capture_word', 0); TRUNCATE stockrelay.change_0")
            await sql.execute(f"REVOKE EXECUTE ON FUNCTION pg_catalog.{signature} FROM PUBLIC")
            try:
                # Each statement with its own commit, at which the bell rings; the last one names several SKUs.
                await clerk.execute("INSERT INTO shop.goods VALUES ('A')")
                await clerk.execute("UPDATE shop.goods SET sku = 'B'")
                await clerk.execute("INSERT INTO shop.goods VALUES ('C'), ('D')")
            except Exception as error:  # noqa: BLE001 - all of them are told at the end
                failed.append(f"{signature}: {error}")
            logged = {row["sku"] for row in await sql.fetch("SELECT sku FROM stockrelay.change_0")}
            try:
                lacking = judge_owners(await Capturing(daemon.transaction).owners())
                found = " ".join(each.found for each in lacking)
            except StoreRefused as error:
                found = str(error)
            if signature.partition("(")[0] not in found:
                unnamed.append(f"{signature}: {logged}")
            await sql.execute(
                f"GRANT EXECUTE ON FUNCTION pg_catalog.{signature} TO PUBLIC; DELETE FROM shop.goods"
            )
            if not (logged >= {"A", "B", "C", "D"} or None in logged or signature == "pg_current_xact_id()"):
                failed.append(f"{signature}: {logged}")
    finally:
        await daemon.close()
    assert failed == []
    assert unnamed == []
