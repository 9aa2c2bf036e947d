"""A row that stands for many SKUs: captured by what its query reads, resolved by the intake, old and new rows alike."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from daemon.services.capture_health import Listings, listing_findings
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.dependencies import Dependencies
from daemon.store.intake import MANY
from daemon.store.listing import ChannelListing
from daemon.store.migrate import FanOut
from tests.channels import CHANNELS
from tests.store.place import Place, logged, watch
from tests.store.shop import LISTING, Shop, opened

BY_BRAND = "SELECT g.sku FROM shop.goods AS g WHERE g.brand = changed.brand"
TOLD = (
    "UPDATE stockrelay.ledger SET acked_seq = want_seq, acked_quantity = listed_quantity, "
    "identifiers = listed_identifiers, due_at = NULL, first_dirty_at = NULL"
)
ERP = """
CREATE TABLE erp.margin (id integer, brand varchar(5), factor numeric, note text);
INSERT INTO erp.margin VALUES (1, 'A"é', 1, 'x'), (2, 'B', 1, 'y');
INSERT INTO shop.goods (sku, pn, brand, quantity)
SELECT b || i, 'PN' || b || i, b, 1 FROM generate_series(1, 3) AS i, (VALUES ('A"é'), ('B')) AS v (b);
"""


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    async with opened(place) as made:
        await made.sql.execute(ERP)
        await watch(made.sql, ("shop.goods", "sku"), FanOut("erp.margin", BY_BRAND))
        await made.resync()
        await made.sql.execute(TOLD)
        yield made


async def marked(shop: Shop) -> list[str]:
    """The SKUs that a reading has marked."""
    await shop.drain()
    rows = await shop.sql.fetch(f"{TOLD} WHERE want_seq > acked_seq RETURNING sku")
    return sorted(row["sku"] for row in rows)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("UPDATE erp.margin SET factor = 2 WHERE id = 2", ["B1", "B2", "B3"]),
        ("UPDATE erp.margin SET factor = 2", ['A"é1', 'A"é2', 'A"é3', "B1", "B2", "B3"]),
        ("UPDATE erp.margin SET brand = 'B' WHERE id = 1", ['A"é1', 'A"é2', 'A"é3', "B1", "B2", "B3"]),
        ("DELETE FROM erp.margin WHERE id = 2", ["B1", "B2", "B3"]),
        ("INSERT INTO erp.margin VALUES (3, 'B', 1, 'z')", ["B1", "B2", "B3"]),
        ("INSERT INTO erp.margin VALUES (3, 'C', 1, 'z'), (4, NULL, 1, 'z')", []),
    ],
)
async def test_a_changed_row_marks_the_skus_that_it_stands_for(
    shop: Shop, sql: str, expected: list[str]
) -> None:
    # What the marking finds unchanged it does not mark: the numbers have changed as well.
    await shop.sql.execute("ALTER TABLE shop.goods DISABLE TRIGGER USER; UPDATE shop.goods SET quantity = 9")
    await shop.sql.execute(sql)
    assert await marked(shop) == expected


async def test_only_what_the_query_reads_is_captured(shop: Shop) -> None:
    await logged(shop.sql)
    await shop.sql.execute("UPDATE erp.margin SET factor = 2 WHERE id = 2")
    relation = await shop.sql.fetchval("SELECT 'erp.margin'::regclass::oid")
    assert await logged(shop.sql) == [f'\x02{relation} {{"brand" : "B"}}']


@pytest.mark.parametrize(
    "sku",
    ["\x02", "\x02abc", "\x02=", "\x02=\x02abc", "\x021 {}", "\x02{margin} {{}}", "\x01stockrelay canary"],
)
async def test_a_sku_spelled_as_a_fan_out_or_a_canary_is_a_sku(shop: Shop, sku: str) -> None:
    margin = await shop.sql.fetchval("SELECT 'erp.margin'::regclass::oid")
    name = sku.format(margin=margin) if "margin" in sku else sku
    await shop.sells(name, 5)
    await shop.sells("B1", 6)
    assert await marked(shop) == sorted([name, "B1"])
    await shop.sells(name, 4)
    assert await marked(shop) == [name]


@pytest.mark.parametrize(
    "row",
    [
        "",
        "x",
        "{margin}",
        "{margin} ",
        "{margin} x",
        "{margin} []",
        "{margin} " + "[" * 9999,
        "9" * 99 + " {{}}",
    ],
)
async def test_what_is_no_fan_out_where_one_is_expected_has_everything_compared(shop: Shop, row: str) -> None:
    margin = await shop.sql.fetchval("SELECT 'erp.margin'::regclass::oid")
    await shop.sql.execute(
        "INSERT INTO stockrelay.change_0 (xid, at, relation, backend, sku) "
        "VALUES (pg_current_xact_id(), clock_timestamp(), $1, 1, $2)",
        margin,
        "\x02" + row.replace("{margin}", str(margin)),
    )
    assert (await shop.drain()).is_everything
    await shop.sells("B1", 6)
    assert await marked(shop) == ["B1"], "reading goes on"


async def test_a_row_that_stands_for_very_many_has_everything_compared(shop: Shop) -> None:
    await shop.sql.execute(
        "ALTER TABLE shop.goods DISABLE TRIGGER USER;"
        f"INSERT INTO shop.goods SELECT 'C' || i, 'PNC' || i, 'C', 1 FROM generate_series(1, {MANY + 1}) AS i;"
        "INSERT INTO erp.margin VALUES (3, 'C', 1, 'z')"
    )
    drained = await shop.drain()
    assert (drained.is_everything, drained.is_compared, drained.fan_outs_failed) == (True, True, {})
    assert drained.marked.rows == MANY + 1


async def test_a_query_that_fails_has_everything_compared_and_is_named(shop: Shop) -> None:
    await watch(
        shop.sql,
        ("shop.goods", "sku"),
        FanOut("erp.margin", "SELECT g.sku FROM shop.goods AS g WHERE 1 / changed.id > 0"),
    )
    await shop.sql.execute("ALTER TABLE shop.goods DISABLE TRIGGER USER; UPDATE shop.goods SET quantity = 9")
    await shop.sql.execute("UPDATE erp.margin SET id = 0 WHERE id = 2")
    drained = await shop.drain()
    assert "division by zero" in drained.fan_outs_failed["erp.margin"]
    assert (drained.is_compared, drained.marked.rows) == (True, 6)


async def test_rows_that_were_captured_for_another_query_have_everything_compared(shop: Shop) -> None:
    await shop.sql.execute("UPDATE erp.margin SET factor = 2 WHERE id = 2")
    by_id = "SELECT g.sku FROM shop.goods AS g WHERE g.brand = 'B' AND changed.id = 2"
    await watch(shop.sql, ("shop.goods", "sku"), FanOut("erp.margin", by_id))
    assert (await shop.drain()).is_compared
    await shop.sql.execute("UPDATE erp.margin SET factor = 3 WHERE id = 2")
    assert not (await shop.drain()).is_everything


async def test_a_query_that_stops_working_is_found_by_capture_health(shop: Shop) -> None:
    store = CaptureHealthStore(shop.database)
    listings = (ChannelListing(CHANNELS[0], LISTING, ("pn_code", "brand_name")),)
    of = Listings(Dependencies(shop.database.transaction), listings, 3600)
    assert await listing_findings(of, store.capturing, []) == []
    await shop.sql.execute("ALTER TABLE shop.goods RENAME COLUMN brand TO maker")
    findings = await listing_findings(of, store.capturing, [])
    assert any("its query skus does not work any more" in each.found for each in findings)
    await shop.sql.execute("ALTER TABLE shop.goods RENAME COLUMN maker TO brand")


@pytest.mark.parametrize(
    ("skus", "problem"),
    [
        ("SELECT g.sku, g.brand FROM shop.goods AS g", "has 2 columns"),
        ("SELECT g.sku FROM shop.nowhere AS g", "does not exist"),
        ("SELECT g.sku FROM shop.goods AS g WHERE g.brand = changed.maker", "does not work"),
        ("DELETE FROM shop.goods RETURNING sku", "does not work"),
    ],
)
async def test_a_query_that_gives_no_skus_is_refused(shop: Shop, skus: str, problem: str) -> None:
    with pytest.raises(asyncpg.RaiseError, match=problem):
        await watch(shop.sql, FanOut("erp.margin", skus))


async def test_whoever_refreshes_a_materialized_view_writes_to_a_table_that_stands_for_its_skus(
    shop: Shop,
) -> None:
    await shop.sql.execute(
        "CREATE MATERIALIZED VIEW erp.avail AS SELECT g.sku, g.quantity FROM shop.goods AS g;"
        "CREATE TABLE erp.avail_refreshed (at timestamptz)"
    )
    listing = LISTING.replace(
        "quantity FROM shop.goods", "a.quantity FROM shop.goods JOIN erp.avail AS a USING (sku)"
    )
    of = Dependencies(shop.database.transaction)
    its_listing = ChannelListing(CHANNELS[0], listing, ("pn_code", "brand_name"))
    assert [each.name for each in (await of.reads(its_listing)).relations if each.unseen] == ["erp.avail"]
    await watch(
        shop.sql, ("shop.goods", "sku"), FanOut("erp.avail_refreshed", "SELECT a.sku FROM erp.avail AS a")
    )
    assert [each.name for each in (await of.reads(its_listing)).relations if each.unseen] == []
    async with opened(shop.place, listing) as other:
        await other.resync()
        await other.sql.execute(TOLD)
        await other.sql.execute("UPDATE shop.goods SET quantity = 9 WHERE sku = 'B1'")
        assert await marked(other) == [], "the view has the old number"
        await other.sql.execute(
            "REFRESH MATERIALIZED VIEW erp.avail; INSERT INTO erp.avail_refreshed VALUES (now())"
        )
        assert await marked(other) == ["B1"]
