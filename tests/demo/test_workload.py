"""The shop changes the ERP as it says, and writes down what each commit means to each marketplace."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from daemon.demo import erp
from daemon.demo.catalogue import make_catalogue
from daemon.demo.records import Holdings, StockChange
from daemon.demo.workload import NEVER_COMMITTED, Shop
from tests.channels import CHANNELS, SEKORM, YMATOU
from tests.conftest import Database

AT_ONCE = timedelta(0)


@pytest.fixture
async def connection(database18: Database) -> AsyncIterator[asyncpg.Connection]:
    connected = await asyncpg.connect(database18.dsn)
    await erp.fill(connected, make_catalogue(20, 1), 1)
    yield connected
    await connected.close()


@pytest.fixture
async def shop(connection: asyncpg.Connection) -> Shop:
    opened = Shop(connection, 1)
    await opened.open()
    return opened


async def listed(connection: asyncpg.Connection) -> Holdings:
    fresh = Shop(connection, 1)
    await fresh.open()
    return fresh.wanted()


def of(changes: list[StockChange], kind: str) -> list[StockChange]:
    return [change for change in changes if change.kind == kind]


async def test_after_a_day_the_diary_tells_what_the_erp_lists(
    shop: Shop, connection: asyncpg.Connection
) -> None:
    before = shop.wanted()
    await shop.sell(20, AT_ONCE)
    await shop.sell_out(5, AT_ONCE)
    await shop.restock(5, AT_ONCE)
    await shop.burst(10, AT_ONCE)
    await shop.import_stock(2)
    await shop.rename()
    await shop.delist()
    await shop.launch()
    await shop.roll_back()
    assert shop.wanted() == await listed(connection) != before
    replayed = before
    for change in shop.activity.changes:
        replayed[change.channel][change.key] = change.quantity
    for channel in CHANNELS:
        assert {key: n for key, n in replayed[channel].items() if n} == {
            key: n for key, n in shop.wanted()[channel].items() if n
        }


async def test_single_sales_are_single_transactions_in_the_order_of_time(shop: Shop) -> None:
    await shop.sell(15, AT_ONCE)
    assert shop.activity.transactions == 15
    times = [change.at for change in shop.activity.changes]
    assert times == sorted(times)


async def test_a_bulk_import_is_one_transaction(shop: Shop) -> None:
    assert await shop.import_stock(1) == 20
    assert shop.activity.transactions == 1
    assert len({change.at for change in of(shop.activity.changes, "import")}) == 1


async def test_a_sell_out_brings_both_marketplaces_to_zero(shop: Shop) -> None:
    await shop.sell_out(1, AT_ONCE)
    assert {(c.channel, c.quantity) for c in shop.activity.changes} == {(SEKORM, 0), (YMATOU, 0)}


async def test_a_burst_stays_with_one_sku_and_every_sale_changes_its_number(shop: Shop) -> None:
    await shop.burst(30, AT_ONCE)
    sold = [change for change in of(shop.activity.changes, "burst") if change.channel == SEKORM]
    assert len(sold) == 30
    assert len({change.key for change in sold}) == 1


async def test_a_new_part_number_takes_the_number_over_from_the_old_one(shop: Shop) -> None:
    before = shop.wanted()[SEKORM]
    await shop.rename()
    gone, new = of(shop.activity.changes, "rename")
    assert gone.quantity == 0
    assert new.key == (f"{gone.key[0]}/N", gone.key[1])
    assert new.quantity == before[gone.key]


async def test_a_delisted_product_is_wanted_at_zero_and_bought_no_more(shop: Shop) -> None:
    sku = await shop.delist()
    assert {change.quantity for change in of(shop.activity.changes, "delisting")} == {0}
    assert len(shop.wanted()[SEKORM]) == 19
    await shop.sell(60, AT_ONCE)
    assert sku not in await shop.open()


async def test_what_is_rolled_back_is_in_no_diary_and_in_no_table(
    shop: Shop, connection: asyncpg.Connection
) -> None:
    await shop.roll_back()
    assert (shop.activity.changes, shop.activity.transactions, shop.activity.rolled_back) == ([], 0, 1)
    assert await connection.fetchval("SELECT max(on_hand) FROM erp.stock") < NEVER_COMMITTED


async def test_a_closed_shop_begins_nothing_more(shop: Shop) -> None:
    shop.close()
    await shop.sell(100, timedelta(hours=1))
    assert shop.activity.transactions <= 1
