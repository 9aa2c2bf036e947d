"""What `check` says of relations that a listing reads and whose changes no trigger sees."""

import pytest

from daemon.store.migrate import watches_json
from tests.check.conftest import Office

LISTING = "SELECT p.sku, p.ymatou_code AS outer_sku_id, {quantity} AS quantity FROM erp.products AS p"


@pytest.mark.parametrize(
    ("sql", "quantity", "relation", "words"),
    [
        (
            "",
            "(SELECT count(*) FROM erp.orders AS o WHERE o.sku = p.sku)",
            "erp.orders",
            "which is not watched",
        ),
        (
            "CREATE VIEW erp.sold AS SELECT o.sku, o.quantity FROM erp.orders AS o",
            "(SELECT count(*) FROM erp.sold AS o WHERE o.sku = p.sku)",
            "erp.orders",
            "which is not watched",
        ),
        (
            """CREATE FUNCTION erp.sold(text) RETURNS bigint LANGUAGE plpgsql STABLE
            AS 'BEGIN RETURN (SELECT count(*) FROM erp.orders AS o WHERE o.sku = $1); END'""",
            "erp.sold(p.sku)",
            "erp.orders",
            "which is not watched",
        ),
        (
            "CREATE MATERIALIZED VIEW erp.avail AS SELECT s.sku, s.on_hand FROM erp.stock AS s",
            "(SELECT sum(a.on_hand) FROM erp.avail AS a WHERE a.sku = p.sku)",
            "erp.avail",
            "a materialized view",
        ),
    ],
    ids=["a table", "below a view", "inside a function", "a materialized view"],
)
async def test_what_no_trigger_sees_is_named(
    office18: Office, sql: str, quantity: str, relation: str, words: str
) -> None:
    if sql:
        office18.database.run_sql(sql)
    await _names_unless_accepted(office18, LISTING.format(quantity=quantity), relation, words)


@pytest.mark.parametrize("server", ["pg15"], indirect=True)
async def test_a_foreign_table_is_named(office: Office) -> None:
    office.database.run_sql("""
        CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE erp.far (sku text, n text) SERVER files OPTIONS (filename '/dev/null');
    """)
    sql = LISTING.format(quantity="(SELECT count(*) FROM erp.far AS f WHERE f.sku = p.sku)")
    await _names_unless_accepted(office, sql, "erp.far", "a foreign table")


async def _names_unless_accepted(office: Office, sql: str, relation: str, words: str) -> None:
    warned = (await office.check(office.listing(sql))).warned("reads ymatou")
    assert f"it reads {relation}, {words}" in warned.found
    assert "up to 3600 s late" in warned.found
    accepted = office.listing(sql, run={"compared_only": [relation]})
    assert "reads ymatou" not in (await office.check(accepted)).bad()


async def test_partitions_and_parents_of_watched_tables_count_as_captured(office18: Office) -> None:
    office18.database.run_sql("""
        CREATE TABLE erp.shelf (sku text, n integer) PARTITION BY HASH (sku);
        CREATE TABLE erp.shelf_0 PARTITION OF erp.shelf FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE erp.shelf_1 PARTITION OF erp.shelf FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    """)
    quantity = "(SELECT count(*) FROM erp.shelf AS s WHERE s.sku = p.sku)"
    settings = office18.listing(LISTING.format(quantity=quantity))
    warned = (await office18.check(settings)).warned("reads ymatou")
    assert "it reads erp.shelf, which is not watched: such" in warned.found, "not each partition once more"
    watches = watches_json([("erp.products", "sku"), ("erp.shelf", "sku")])
    office18.database.run_sql(f"SELECT stockrelay.set_watches('{watches}')")
    assert "reads ymatou" not in (await office18.check(settings)).bad()


async def test_a_watched_table_that_a_subscription_feeds_is_named(office: Office) -> None:
    office.database.run_sql(
        """
        SET synchronous_commit = off;
        CREATE SUBSCRIPTION fed_@ CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p
            WITH (connect = false, enabled = false, slot_name = NONE, create_slot = false);
        INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
        SELECT s.oid, 'erp.stock'::regclass, 'r' FROM pg_subscription AS s WHERE s.subname = 'fed_@';
    """.replace("@", office.database.name)
    )
    try:
        warned = (await office.check()).warned("replicated sessions")
        assert "erp.stock: rows come from a subscription" in warned.found
    finally:
        office.database.run_sql(f"DROP SUBSCRIPTION fed_{office.database.name}")
