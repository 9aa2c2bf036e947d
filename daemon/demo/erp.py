"""The sample ERP: its schema, what it holds at first, and what its owner lets each marketplace see."""

import random
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

import asyncpg

from daemon.core.types import ChannelName
from daemon.demo.catalogue import Product

SEKORM: Final = ChannelName("sekorm")
YMATOU: Final = ChannelName("ymatou")
CHANNELS: Final = (SEKORM, YMATOU)

WAREHOUSES: Final = ((1, "SZX", "深圳"), (2, "PVG", "上海"), (3, "HKG", "香港"))

WATCHES: Final = (("erp.stock", "sku"), ("erp.products", "sku"))
"""What is watched: table, SKU expression."""

SEKORM_LISTING: Final = """\
SELECT p.sku, p.part_no AS pn_code, p.brand AS brand_name,
       greatest(coalesce(sum(s.on_hand - s.reserved), 0) - p.safety_stock, 0) AS quantity
  FROM erp.products p
  LEFT JOIN erp.stock s USING (product_id)
 WHERE p.is_listed
 GROUP BY p.product_id"""

YMATOU_LISTING: Final = """\
SELECT p.sku, p.ymatou_code AS outer_sku_id,
       -- retail gets two fifths of what is left after the safety stock
       greatest(coalesce(sum(s.on_hand - s.reserved), 0) - p.safety_stock, 0) * 2 / 5 AS quantity
  FROM erp.products p
  LEFT JOIN erp.stock s USING (product_id)
 WHERE p.is_listed
 GROUP BY p.product_id"""

LISTINGS: Final[dict[ChannelName, str]] = {SEKORM: SEKORM_LISTING, YMATOU: YMATOU_LISTING}


def schema_sql() -> str:
    """Return the statements that make the schema `erp`."""
    return files("daemon.demo").joinpath("erp.sql").read_text("utf-8")


async def fill(connection: asyncpg.Connection, products: Sequence[Product], seed: int) -> None:
    """Fill the empty schema with `products` and stock in every warehouse, the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311 - counts boxes
    columns = ["sku", "part_no", "brand", "name", "ymatou_code", "safety_stock"]
    async with connection.transaction():
        await connection.copy_records_to_table(
            "warehouses", schema_name="erp", records=WAREHOUSES, columns=["warehouse_id", "code", "city"]
        )
        await connection.copy_records_to_table(
            "products",
            schema_name="erp",
            records=[tuple(getattr(product, name) for name in columns) for product in products],
            columns=columns,
        )
        rows = await connection.fetch("SELECT sku, product_id FROM erp.products")
        ids: dict[str, int] = {row["sku"]: row["product_id"] for row in rows}
        await connection.copy_records_to_table(
            "stock",
            schema_name="erp",
            records=[
                (ids[product.sku], warehouse, product.sku, chance.randrange(20, 600), chance.randrange(0, 10))
                for product in products
                for warehouse, _, _ in WAREHOUSES
            ],
            columns=["product_id", "warehouse_id", "sku", "on_hand", "reserved"],
        )
    await connection.execute("ANALYZE erp.products, erp.stock")
