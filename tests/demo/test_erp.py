"""The sample ERP's listings stay quick with many products, whole and for a few."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from daemon.demo import erp
from daemon.demo.catalogue import make_catalogue
from tests.conftest import Database

MANY = """
INSERT INTO erp.warehouses VALUES (1, 'SZX', '深圳'), (2, 'PVG', '上海'), (3, 'HKG', '香港');
INSERT INTO erp.products (sku, part_no, brand, name, ymatou_code)
SELECT 'P' || i, 'RC' || i, 'YAGEO', 'Resistor', i FROM generate_series(1, 50000) i;
INSERT INTO erp.stock (product_id, warehouse_id, sku, on_hand)
SELECT product_id, w, sku, 5 FROM erp.products, generate_series(1, 3) w;
ANALYZE erp.products, erp.stock;
"""


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[asyncpg.Connection]:
    connected = await asyncpg.connect(database.dsn)
    yield connected
    await connected.close()


async def test_a_few_skus_of_many_are_found_by_index(
    database: Database, connection: asyncpg.Connection
) -> None:
    database.run_sql(MANY)
    for listing in erp.LISTINGS.values():
        query = f"EXPLAIN SELECT * FROM ({listing}) l WHERE l.sku = ANY ($1)"
        rows = await connection.fetch(query, [f"P{i * 97}" for i in range(1, 101)])
        plan = "\n".join(row[0] for row in rows)
        assert "Seq Scan" not in plan, plan
        assert plan.count("Index Scan") == 2, plan


async def test_both_channels_list_every_product_with_its_own_names_and_share(
    connection: asyncpg.Connection,
) -> None:
    products = make_catalogue(30, 1)
    await erp.fill(connection, products, 1)
    sekorm, ymatou = [{row["sku"]: row for row in await connection.fetch(q)} for q in erp.LISTINGS.values()]
    assert set(sekorm) == set(ymatou) == {product.sku for product in products}
    for product in products:
        assert (sekorm[product.sku]["pn_code"], sekorm[product.sku]["brand_name"]) == (
            product.part_no,
            product.brand,
        )
        assert ymatou[product.sku]["outer_sku_id"] == product.ymatou_code
        assert ymatou[product.sku]["quantity"] == sekorm[product.sku]["quantity"] * 2 // 5


async def test_what_is_reserved_or_kept_back_is_not_for_sale(
    database: Database, connection: asyncpg.Connection
) -> None:
    await erp.fill(connection, make_catalogue(1, 1), 1)
    database.run_sql(
        "UPDATE erp.stock SET on_hand = 10, reserved = 4; UPDATE erp.products SET safety_stock = 6"
    )
    quantity = f"SELECT quantity FROM ({erp.SEKORM_LISTING}) l"
    assert await connection.fetchval(quantity) == 3 * 6 - 6
    database.run_sql("UPDATE erp.products SET safety_stock = 100")
    assert await connection.fetchval(quantity) == 0
