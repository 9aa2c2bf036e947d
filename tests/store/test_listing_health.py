"""The running daemon names what a listing reads unseen, and tables whose changes come under SKUs that nobody lists."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from daemon.core.capture import Check
from daemon.core.finding import Finding
from daemon.core.types import ChannelName
from daemon.services.capture_health import Listings, listing_findings
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.dependencies import Dependencies
from daemon.store.listing import ChannelListing
from tests.channels import CHANNELS
from tests.store.place import Place, watch
from tests.store.shop import LISTING, Shop, opened

CHANNEL = CHANNELS[0]


class Health:
    """What one look finds, and keeps."""

    def __init__(self, shop: Shop, listing: str = LISTING, compared_only: Sequence[str] = ()) -> None:
        self.shop = shop
        self.store = CaptureHealthStore(shop.database)
        listings = (ChannelListing(CHANNEL, listing, ("pn_code", "brand_name")),)
        self.listings = Listings(Dependencies(shop.database.transaction, compared_only), listings, 3600)

    async def look(self) -> list[Finding]:
        findings = await listing_findings(self.listings, self.store.capturing, await self.store.open())
        await self.store.keep("", [Check.LISTINGS, Check.SPELLING, Check.REPLICATION], findings)
        return findings


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    async with opened(place) as made:
        yield made


async def test_nothing_is_found_where_all_is_watched_and_listed(shop: Shop) -> None:
    await shop.sells("A", 1)
    await shop.drain()
    assert await Health(shop).look() == []


async def test_what_a_listing_reads_unwatched_is_named_until_it_is_accepted(shop: Shop) -> None:
    await shop.sql.execute("CREATE TABLE erp.brand (brand text)")
    listing = f"{LISTING} WHERE brand NOT IN (SELECT b.brand FROM erp.brand AS b)"
    (finding,) = await Health(shop, listing).look()
    assert (finding.check, finding.subject) == (Check.LISTINGS, f"listing {CHANNEL}")
    assert "it reads erp.brand, which is not watched" in finding.found
    assert not finding.is_error
    assert await Health(shop, listing, ["erp.brand"]).look() == []
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.notice") == 2, "found, and over"


async def test_what_no_statement_trigger_sees_is_named(shop: Shop) -> None:
    await shop.sql.execute(
        "CREATE MATERIALIZED VIEW erp.avail AS SELECT g.sku, g.quantity FROM shop.goods AS g;"
        "SET synchronous_commit = off;"
        "CREATE SUBSCRIPTION feeds_shop CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p "
        "WITH (connect = false, enabled = false, slot_name = NONE, create_slot = false)"
    )
    try:
        await shop.sql.execute(
            "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
            "SELECT s.oid, 'shop.goods'::regclass, 'r' FROM pg_subscription AS s WHERE s.subname = 'feeds_shop'"
        )
        listing = f"{LISTING} WHERE sku IN (SELECT a.sku FROM erp.avail AS a)"
        health = Health(shop, listing)
        found = {finding.subject: finding for finding in await health.look()}
        assert found.keys() == {f"listing {CHANNEL}", "shop.goods"}
        view, subscribed = found[f"listing {CHANNEL}"], found["shop.goods"]
        assert "it reads erp.avail, a materialized view: its REFRESH fires no trigger" in view.found
        assert subscribed.check is Check.REPLICATION
        assert "rows come from a subscription, whose worker fires no statement triggers" in subscribed.found
        assert "found up to 3600 s late" in subscribed.found
        accepted = Health(shop, listing, ["erp.avail", "shop.goods"])
        assert await accepted.look() == []
    finally:
        await shop.sql.execute("DROP SUBSCRIPTION feeds_shop")


async def test_a_listing_that_fails_leaves_what_was_found_as_it_was(shop: Shop) -> None:
    await shop.sql.execute("CREATE TABLE erp.brand (brand text)")
    listing = f"{LISTING} WHERE brand NOT IN (SELECT b.brand FROM erp.brand AS b)"
    found = await Health(shop, listing).look()
    await shop.sql.execute("ALTER TABLE erp.brand RENAME TO mark")
    assert await Health(shop, listing).look() == found


async def test_what_a_listing_reads_is_found_out_beside_a_row_that_fails(shop: Shop) -> None:
    await shop.sql.execute("CREATE TABLE erp.brand (brand text)")
    listing = (
        "SELECT sku, pn AS pn_code, brand AS brand_name, quantity / (quantity - 3) AS quantity FROM shop.goods "
        "WHERE brand NOT IN (SELECT b.brand FROM erp.brand AS b)"
    )
    await shop.sells("A bad one", 3)
    await shop.drain()
    (unlooked,) = await Health(shop, listing).look()
    assert "could not be looked at" in unlooked.found
    assert "division by zero" in unlooked.found
    await shop.sells("B", 1)
    await shop.drain()
    await shop.sql.execute(
        "UPDATE stockrelay.ledger SET parked_at = clock_timestamp() WHERE sku = 'A bad one'"
    )
    await shop.sql.execute("DELETE FROM stockrelay.capture_finding")
    (found,) = await Health(shop, listing).look()
    assert "it reads erp.brand, which is not watched" in found.found


@pytest.mark.parametrize(
    ("listed", "changed", "is_named"),
    [
        ("00110", "110", True),
        ("110", "00110", True),
        ("AB-110", "ab-110", True),
        ("110", "110 ", True),
        ("110 ", "110", True),
        ("110", "220", False),
    ],
)
async def test_changes_of_a_sku_that_is_spelled_almost_like_a_listed_one_are_named(
    shop: Shop, listed: str, changed: str, is_named: bool
) -> None:
    await shop.sells(listed, 1)
    await shop.drain()
    await shop.sql.execute("CREATE TABLE erp.stock (sku text)")
    await watch(shop.sql, ("shop.goods", "sku"), ("erp.stock", "sku"))
    await shop.sql.execute("INSERT INTO erp.stock VALUES ($1)", changed)
    findings = await Health(shop).look()
    assert [finding.subject for finding in findings] == ["erp.stock"] * is_named
    if is_named:
        assert f'calls a SKU "{changed}" that the listing calls "{listed}"' in findings[0].found


async def test_a_table_whose_skus_are_all_unknown_is_named_until_some_are_known(shop: Shop) -> None:
    await shop.sells("A", 1)
    await shop.drain()
    await shop.sql.execute("CREATE TABLE erp.stock (sku text)")
    await watch(shop.sql, ("shop.goods", "sku"), ("erp.stock", "sku"))
    health = Health(shop)
    await shop.sql.execute("INSERT INTO erp.stock SELECT 'x' || i FROM generate_series(1, 9) AS i")
    assert await health.look() == [], "not everything is on sale"
    await shop.sql.execute("INSERT INTO erp.stock VALUES ('x10')")
    (found,) = await health.look()
    assert 'none of its SKUs is known to a listing, such as "x1"' in found.found
    assert found.is_lossy, "everything is compared at once"
    await shop.sql.execute("DELETE FROM stockrelay.change_0; DELETE FROM stockrelay.change_1")
    assert await health.look() == [found], "that nothing changes proves nothing"
    await shop.sql.execute("INSERT INTO erp.stock VALUES ('A')")
    assert await health.look() == []


async def test_each_listing_that_reads_a_table_is_judged_by_itself(shop: Shop) -> None:
    """The second channel's listing has the SKUs in quotes; then only one of them, as they are."""
    health = Health(shop)
    whole = health.listings.listings[0]
    quoted = replace(whole, channel=CHANNELS[1], sql=LISTING.replace("sku", "to_json(sku) AS sku", 1))
    health.listings = replace(health.listings, listings=(whole, quoted))

    async def is_read_by(channel: ChannelName, skus: str) -> None:
        await shop.sql.execute(
            "INSERT INTO stockrelay.ledger (channel, sku, want_seq, acked_seq, listed_rows) "
            f"SELECT $1, {skus}, 1, 1, 1 FROM shop.goods ON CONFLICT DO NOTHING",
            channel,
        )

    await shop.sql.execute("INSERT INTO shop.goods (sku) SELECT 'x' || i FROM generate_series(1, 12) AS i")
    await is_read_by(CHANNELS[0], "sku")
    await is_read_by(CHANNELS[1], "to_json(sku)::text")
    (found,) = await health.look()
    assert found.subject == f"shop.goods, listing {CHANNELS[1]}"
    assert f'none of its SKUs is known to the listing of {CHANNELS[1]}, such as "x1"' in found.found
    assert await health.look() == [found]

    await shop.sql.execute("DELETE FROM stockrelay.ledger WHERE channel = $1", CHANNELS[1])
    await shop.sql.execute(
        "ALTER TABLE shop.goods DISABLE TRIGGER ALL; INSERT INTO shop.goods (sku) VALUES ('y')"
    )
    await is_read_by(CHANNELS[1], "'y'")
    assert await health.look() == [], "a part of the catalogue, of which nothing has changed"


async def test_nothing_is_said_of_skus_before_any_is_known(shop: Shop) -> None:
    await shop.sql.execute("INSERT INTO shop.goods (sku) SELECT 'x' || i FROM generate_series(1, 20) AS i")
    assert await Health(shop).look() == []
