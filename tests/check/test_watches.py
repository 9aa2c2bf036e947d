"""What `check` says of the watched tables and their triggers."""

import pytest

from daemon.app.administration import migrate
from daemon.core.finding import Verdict
from daemon.settings import Settings
from tests.check.conftest import Office


async def test_a_table_that_is_not_there_is_named(office18: Office) -> None:
    settings = office18.settings(watch=[{"table": "erp.stocks", "sku": "sku"}])
    answers = await office18.check(settings)
    assert "no such table" in answers.failed("watch erp.stocks").found
    assert answers.of("triggers erp.stocks").verdict is Verdict.SKIPPED


async def test_a_column_that_is_not_there_is_named_with_those_that_are(office18: Office) -> None:
    settings = office18.settings(watch=[{"table": "erp.stock", "sku": "skuu"}])
    failed = (await office18.check(settings)).failed("watch erp.stock")
    assert 'column "skuu" does not exist' in failed.found
    assert "product_id, warehouse_id, sku, on_hand, reserved" in failed.advice


async def test_a_function_outside_the_triggers_path_is_found(office18: Office) -> None:
    office18.database.run_sql(
        "CREATE FUNCTION public.shout(text) RETURNS text LANGUAGE sql AS 'SELECT upper($1)'"
    )
    settings = office18.settings(watch=[{"table": "erp.stock", "sku": "shout(sku)"}])
    failed = (await office18.check(settings)).failed("watch erp.stock")
    assert "function shout(text) does not exist" in failed.found
    assert "with their schema" in failed.advice


async def test_a_view_is_no_table_to_watch(office18: Office) -> None:
    office18.database.run_sql("CREATE VIEW erp.shelf AS SELECT * FROM erp.stock")
    settings = office18.settings(watch=[{"table": "erp.shelf", "sku": "sku"}])
    assert "below a view" in (await office18.check(settings)).failed("watch erp.shelf").advice


async def test_a_table_that_was_added_to_the_configuration_needs_a_migration(office18: Office) -> None:
    watch = [{"table": "erp.orders", "sku": "sku"}, {"table": "erp.stock", "sku": "sku"}]
    answers = await office18.check(office18.settings(watch=watch))
    assert "no triggers have been made" in answers.failed("triggers erp.orders").found
    assert "not in the configuration any more" in answers.warned("triggers erp.products").found


async def test_a_sku_that_was_changed_in_the_configuration_needs_a_migration(office18: Office) -> None:
    watch = [{"table": "erp.stock", "sku": "upper(sku)"}, {"table": "erp.products", "sku": "sku"}]
    failed = (await office18.check(office18.settings(watch=watch))).failed("triggers erp.stock")
    assert "take the SKU from sku, the configuration from upper(sku)" in failed.found
    assert "stockrelay migrate" in failed.advice


@pytest.mark.parametrize("state", ["DISABLE TRIGGER", "ENABLE REPLICA TRIGGER"])
async def test_a_trigger_that_does_not_fire_fails_with_the_command_that_enables_it(
    office18: Office, state: str
) -> None:
    office18.database.run_sql(f"ALTER TABLE erp.stock {state} stockrelay_update")
    failed = (await office18.check()).failed("triggers erp.stock")
    assert "stockrelay_update on erp.stock" in failed.found
    office18.database.run_sql(failed.advice.partition(": ")[2])
    assert (await office18.check()).bad() == {}


async def test_a_trigger_that_is_missing_fails(office: Office) -> None:
    office.database.run_sql("DROP TRIGGER stockrelay_delete ON erp.stock")
    failed = (await office.check()).failed("triggers erp.stock")
    assert "stockrelay_delete on erp.stock: missing" in failed.found
    assert "stockrelay migrate" in failed.advice


async def test_a_trigger_that_does_not_fire_in_replicated_sessions_is_a_warning(office18: Office) -> None:
    office18.database.run_sql("ALTER TABLE erp.stock ENABLE TRIGGER stockrelay_insert")
    warned = (await office18.check()).warned("triggers erp.stock")
    assert warned.found.endswith("is not captured: stockrelay_insert")
    office18.database.run_sql(warned.advice.partition(": ")[2])
    assert (await office18.check()).bad() == {}


async def test_a_partition_that_was_made_after_the_migration_fails(office: Office) -> None:
    office.database.run_sql("""
        DROP TABLE erp.stock;
        CREATE TABLE erp.stock (product_id bigint, warehouse_id integer, sku text, on_hand integer, reserved integer)
            PARTITION BY LIST (warehouse_id);
        CREATE TABLE erp.stock_1 PARTITION OF erp.stock FOR VALUES IN (1);
        SELECT stockrelay.set_watches(
            '[{"table": "erp.stock", "sku": "sku"}, {"table": "erp.products", "sku": "sku"}]');
    """)
    assert "triggers erp.stock" not in (await office.check()).bad()
    office.database.run_sql("CREATE TABLE erp.stock_2 PARTITION OF erp.stock FOR VALUES IN (2)")
    failed = (await office.check()).failed("triggers erp.stock")
    assert "partition erp.stock_2: missing" in failed.found
    assert "stockrelay migrate" in failed.advice


@pytest.mark.parametrize(
    ("listing_sku", "watch_sku", "found"),
    [
        ("'00' || sku", "sku", 'calls a SKU "SKU'),
        ("lower(sku)", "sku", 'that the listing of ymatou calls "p'),
        ("sku || ' '", "sku", ' "'),
        ("sku", "'x' || sku", "none of its SKUs is known to the listing of ymatou"),
    ],
)
async def test_a_watched_table_that_spells_skus_otherwise_than_the_listing_is_named(
    office18: Office, listing_sku: str, watch_sku: str, found: str
) -> None:
    settings = office18.listing(
        f"SELECT {listing_sku} AS sku, ymatou_code AS outer_sku_id, 7 AS quantity FROM erp.products",
        watch=[{"table": "erp.stock", "sku": watch_sku}],
        run={"compared_only": ["erp.products"]},
    )
    if listing_sku.startswith("'00'"):
        office18.database.run_sql("UPDATE erp.products SET sku = '7' || product_id")
        found = 'calls a SKU "71" that the listing of ymatou calls "0071"'
    warned = (await office18.check(settings)).warned("skus erp.stock")
    assert found in warned.found
    assert "watch.sku" in warned.advice


async def test_each_listing_that_reads_a_table_has_to_know_its_skus(office18: Office) -> None:
    def listing(sku: str, table: str = "erp.stock", where: str = "true") -> dict[str, object]:
        quantity = f"(SELECT sum(s.on_hand) FROM {table} AS s WHERE s.sku = p.sku) AS quantity"
        columns = f"{sku} AS sku, p.ymatou_code AS outer_sku_id, {quantity}"
        return {"ymatou": {"listing": f"SELECT {columns} FROM erp.products AS p WHERE {where}"}}

    def settings(channels: dict[str, object]) -> Settings:
        return office18.settings(channels=channels)

    quoted = await office18.check(settings(listing("to_json(p.sku)::text")))
    for table in ("erp.stock", "erp.products"):
        found = quoted.warned(f"skus {table}").found
        assert "none of its SKUs is known to the listing of ymatou" in found
        assert "sekorm" not in found
    office18.database.run_sql("""
        ALTER TABLE erp.stock DROP CONSTRAINT stock_pkey, DROP CONSTRAINT stock_sku_fkey;
        INSERT INTO erp.stock (product_id, warehouse_id, sku, on_hand, reserved)
            SELECT s.product_id, s.warehouse_id, 'A' || i, 1, 0
            FROM (SELECT * FROM erp.stock ORDER BY sku LIMIT 1) AS s, generate_series(1, 2000) AS i;
        CREATE TABLE erp.other AS SELECT * FROM erp.stock;
        ANALYZE erp.stock;
    """)
    last = "p.sku = (SELECT max(o.sku) FROM erp.products AS o)"
    part = await office18.check(settings(listing("p.sku", where=last)))
    assert part.of("skus erp.stock").verdict is Verdict.PASSED, "one SKU that is beyond the sample"
    other = await office18.check(settings(listing("to_json(p.sku)::text", "erp.other")))
    assert other.of("skus erp.stock").verdict is Verdict.PASSED, "this listing does not read the table"


async def test_a_query_for_skus_is_tried_and_run_for_some_rows(office18: Office) -> None:
    office18.make_role()
    office18.database.run_sql("""
        CREATE TABLE erp.bins AS
        SELECT i AS id, (SELECT min(p.sku) FROM erp.products AS p) AS sku FROM generate_series(1, 50000) AS i;
        ANALYZE erp.bins;
    """)
    stock = {"table": "erp.stock", "sku": "sku"}
    skus = "SELECT s.sku FROM erp.stock AS s WHERE s.warehouse_id = changed.warehouse_id"
    bins = {"table": "erp.bins", "skus": "SELECT changed.sku"}
    settings = office18.settings(watch=[stock, {"table": "erp.warehouses", "skus": skus}, bins])
    await migrate(settings, None)
    answers = await office18.check(settings)
    assert answers.of("watch erp.warehouses").verdict is Verdict.PASSED
    assert answers.of("triggers erp.warehouses").verdict is Verdict.PASSED
    assert answers.of("skus erp.warehouses").found.endswith("SKUs that were looked at are listed")
    assert answers.of("skus erp.bins").found == "1 of the 1 SKUs that were looked at are listed"
    broken = office18.settings(
        watch=[stock, {"table": "erp.warehouses", "skus": skus.replace("erp.stock", "erp.gone")}]
    )
    assert (
        'relation "erp.gone" does not exist'
        in (await office18.check(broken)).failed("watch erp.warehouses").found
    )
