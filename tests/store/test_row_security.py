"""Policies for row-level security: an error where they could hide a row, and never a false stock-out."""

from dataclasses import replace

import pytest

from daemon.core.errors import ConfigError, StoreRefused
from daemon.store.database import Database
from tests.store.place import Connection
from tests.store.roles import Roles, ready
from tests.store.shop import LISTING, Shop, opened

POLICY = (
    "ALTER TABLE shop.goods ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON shop.goods USING (sku = 'A')"
)
VIEW = LISTING.replace("shop.goods", "shop.sold")


@pytest.fixture
async def sql(roles: Roles) -> Connection:
    """A superuser's session over a schema that is ready, with two products."""
    await ready(roles)
    sql = await roles.place.connect()
    await sql.execute("INSERT INTO shop.goods VALUES ('A', 'PN-A', 'brand', 5), ('B', 'PN-B', 'brand', 7)")
    return sql


async def refusal(shop: Shop) -> str:
    """Why the listing cannot be read; nothing is sent as sold out, and nothing is parked."""
    await shop.take()
    failed = [(await shop.drain()).failed, (await shop.resync()).failed]
    await shop.pass_time(100)
    if await shop.sql.fetchval("SELECT count(*) FROM stockrelay.ledger WHERE due_at <= clock_timestamp()"):
        with pytest.raises(StoreRefused, match="row-level security policy"):
            await shop.claim()
    rows = await shop.sql.fetch("SELECT acked_quantity, parked_at FROM stockrelay.ledger")
    assert {(row["acked_quantity"], row["parked_at"]) for row in rows} <= {(5, None), (7, None)}
    return next(words for words in failed if words)


async def quantities(shop: Shop) -> dict[str, int]:
    await shop.take()
    await shop.resync()
    await shop.pass_time(100)
    return {attempt.push.sku: attempt.push.quantity for attempt in (await shop.claim()).attempts}


async def test_a_policy_that_appears_fails_the_listing_and_hides_no_row(
    roles: Roles, sql: Connection
) -> None:
    async with opened(roles.place, role=roles.daemon) as shop:
        await shop.take()
        await shop.resync()
        await shop.pass_time(100)
        for attempt in (await shop.claim()).attempts:
            await shop.complete(attempt, "applied")
        await sql.execute(POLICY)
        await sql.execute("UPDATE shop.goods SET quantity = quantity")
        words = await refusal(shop)
        assert 'row-level security policy for table "goods"' in words
        assert "let the listing read a view whose owner" in words
        await sql.execute(
            "ALTER TABLE shop.goods DISABLE ROW LEVEL SECURITY; UPDATE shop.goods SET quantity = 9"
        )
        assert await quantities(shop) == {"A": 9, "B": 9}


@pytest.mark.parametrize(
    ("owner", "options", "is_forced", "is_read"),
    [
        ("erp", "", False, True),
        ("erp", "WITH (security_invoker = true)", False, False),
        ("erp", "", True, False),
        ("clerk", "", False, False),
    ],
)
async def test_a_view_is_read_where_no_policy_applies_to_its_owner(
    roles: Roles, sql: Connection, owner: str, options: str, is_forced: bool, is_read: bool
) -> None:
    await sql.execute(f"{POLICY}; CREATE VIEW shop.sold {options} AS SELECT * FROM shop.goods")
    await sql.execute(
        f'GRANT CREATE ON SCHEMA shop TO "{roles.clerk}"; ALTER VIEW shop.sold OWNER TO "{getattr(roles, owner)}";'
        f'GRANT SELECT ON shop.sold TO "{roles.daemon}"'
    )
    if is_forced:
        await sql.execute("ALTER TABLE shop.goods FORCE ROW LEVEL SECURITY")
    async with opened(roles.place, VIEW, roles.daemon) as shop:
        if is_read:
            assert await quantities(shop) == {"A": 5, "B": 7}
        else:
            assert "row-level security policy" in await refusal(shop)


async def test_behind_a_pooler_a_view_hides_no_row_from_a_role_that_no_policy_is_for(
    roles: Roles, sql: Connection
) -> None:
    await sql.execute(
        "CREATE VIEW shop.sold AS SELECT * FROM shop.goods;"
        f'GRANT CREATE ON SCHEMA shop TO "{roles.clerk}"; ALTER VIEW shop.sold OWNER TO "{roles.clerk}";'
        f'GRANT SELECT ON shop.goods TO "{roles.clerk}"'
    )
    async with opened(roles.place, VIEW, is_pooled=True) as shop:
        await shop.take()
        await shop.resync()
        await shop.pass_time(100)
        for attempt in (await shop.claim()).attempts:
            await shop.complete(attempt, "applied")
        # Marked before the policy is there, so that the claims read the listing.
        await sql.execute("UPDATE shop.goods SET quantity = 9")
        await shop.drain()
        await sql.execute(POLICY)
        assert "row-level security policy" in await refusal(shop)


async def test_a_daemon_that_owns_the_table_reads_all_of_it(roles: Roles, sql: Connection) -> None:
    await sql.execute(f'{POLICY}; GRANT CREATE ON SCHEMA shop TO "{roles.daemon}"')
    await sql.execute(f'ALTER TABLE shop.goods OWNER TO "{roles.daemon}"')
    async with opened(roles.place, role=roles.daemon) as shop:
        assert await quantities(shop) == {"A": 5, "B": 7}


async def test_the_script_sets_it_for_every_session_of_the_daemons_role_and_a_pooler_needs_that(
    roles: Roles, sql: Connection
) -> None:
    daemon = await roles.place.connect(roles.daemon)
    assert await daemon.fetchval("SHOW row_security") == "off"
    pooled = replace(roles.place.options(roles.daemon), is_pooled=True)
    database = Database(pooled, 1)
    await database.open()
    await database.close()
    await sql.execute(f'ALTER ROLE "{roles.daemon}" IN DATABASE {roles.place.name} RESET row_security')
    with pytest.raises(ConfigError, match=r"ALTER ROLE .* SET row_security = off"):
        await Database(pooled, 1).open()
