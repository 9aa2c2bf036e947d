"""`only` and `only_where`: a part of the listing is sent, and what happens to the rest sends nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.core.guard import GuardRule
from daemon.core.reconcile import Difference
from daemon.core.types import Sku
from daemon.store.answers import Answers
from daemon.store.database import Database
from daemon.store.dependencies import Dependencies
from daemon.store.ledger import Debounce
from daemon.store.listing import ChannelListing, Only
from tests.channels import YMATOU
from tests.store.place import Place
from tests.store.shop import CHANNEL, LISTING, Shop, opened
from tests.store.test_answers import KEPT
from tests.store.test_reconcile import READ_LISTING, Night
from tests.store.test_reconcile import sku as read_sku
from tests.store.test_twins import settle

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)
NAME = ("PN", "brand")
ON_18 = pytest.mark.parametrize("server", ["pg18"], indirect=True)


async def known(shop: Shop) -> set[str]:
    """The SKUs of the ledger."""
    return {row["sku"] for row in await shop.sql.fetch("SELECT sku FROM stockrelay.ledger")}


@pytest.mark.parametrize("whole", [False, True])
@ON_18
async def test_what_is_not_chosen_is_neither_marked_nor_sent(shop: Shop, whole: bool) -> None:
    shop.send_only("A", "B", where="quantity > 3")
    for sku, quantity in (("A", 5), ("B", 3), ("C", 7)):
        await shop.sells(sku, quantity)
    assert await settle(shop, whole=whole) == [("A", "PN-A", 5)]
    assert await known(shop) == {"A"}
    await shop.sells("C", 0)
    await shop.sells("B", 0)
    assert await settle(shop, whole=whole) == []
    assert await known(shop) == {"A"}


@pytest.mark.parametrize("whole", [False, True])
async def test_a_sku_that_stops_being_chosen_is_forgotten_and_one_that_leaves_the_listing_is_zeroed(
    shop: Shop, whole: bool
) -> None:
    shop.send_only(where="brand_name = 'X'")
    for sku in "ABC":
        await shop.sells(sku, 5, (f"PN-{sku}", "X"))
    assert len(await settle(shop, whole=whole)) == 3
    await shop.sells("A", 0, ("PN-A", "Y"))
    await shop.delists("B")
    assert await settle(shop, whole=whole) == [("B", "PN-B", 0)]
    await settle(shop)
    assert await known(shop) == {"C"}
    await shop.sells("A", 9, ("PN-A", "X"))
    assert await settle(shop, whole=whole) == [("A", "PN-A", 9)], "it is new to the ledger again"


@ON_18
async def test_a_condition_that_is_null_leaves_a_sku_out(shop: Shop) -> None:
    shop.send_only(where="nullif(quantity, 5) > 0 -- a comment")
    await shop.sells("A", 5)
    await shop.sells("B", 6)
    assert await settle(shop, whole=True) == [("B", "PN-B", 6)]


@pytest.mark.parametrize("name", ['it\'s "B" \\', "$query$", "{x,y}", "β"])
@ON_18
async def test_a_chosen_sku_may_have_any_name(shop: Shop, name: str) -> None:
    shop.send_only(name)
    await shop.sells(name, 5, ("PN", "brand"))
    await shop.sells("other", 5)
    assert await settle(shop, whole=True) == [(name, "PN", 5)]


@ON_18
async def test_another_choice_forgets_what_was_parked_held_queued_or_due(shop: Shop) -> None:
    for sku in "ABCD":
        await shop.sells(sku, 5)
    await settle(shop)
    await shop.sells("B", 5, ("", "brand"))
    await settle(shop)
    await shop.sells("C", 0)
    await shop.drain()
    await shop.sql.execute("UPDATE stockrelay.ledger SET held_at = now(), due_at = NULL WHERE sku = 'C'")
    await shop.sql.execute("UPDATE stockrelay.ledger SET sync_at = now() WHERE sku = 'D'")
    shop.send_only("A")
    assert await settle(shop, whole=True) == []
    assert await known(shop) == {"A"}


@ON_18
async def test_a_claim_sends_nothing_for_a_sku_that_was_due_when_the_choice_changed(shop: Shop) -> None:
    for sku in "AB":
        await shop.sells(sku, 5)
    await shop.drain(NO_QUIET)
    shop.send_only("A")
    claim = await shop.claim()
    assert [attempt.push.sku for attempt in claim.attempts] == ["A"]
    assert claim.forgotten == ["B"]


@pytest.mark.parametrize("outcome", ["applied", "unknown", "refused", "not_sent"])
@ON_18
async def test_an_attempt_in_flight_ends_in_the_log_and_its_row_waits_for_the_end_of_a_doubt(
    shop: Shop, outcome: str
) -> None:
    await shop.sells("B", 5)
    await shop.drain(NO_QUIET)
    attempt = await shop.claim_one()
    shop.send_only("A")
    await shop.resync(NO_QUIET)
    assert await known(shop) == {"B"}, "the attempt is open"
    await shop.complete(attempt, outcome)
    assert [one["outcome"] for one in await shop.attempts()] == [outcome]
    await shop.pass_time(1)
    claim = await shop.claim()
    assert claim.attempts == []
    if outcome == "unknown":
        assert claim.waiting == ["B"]
        await shop.resync(NO_QUIET)
        assert await known(shop) == {"B"}, "an older number may still land: it must not begin anew"
        await shop.pass_time(100)
        claim = await shop.claim()
    assert claim.forgotten == ["B"]
    assert await known(shop) == set()


@ON_18
async def test_a_sku_that_is_chosen_again_before_its_doubt_ends_is_confirmed_after_it(shop: Shop) -> None:
    await shop.sells("B", 5)
    await shop.drain(NO_QUIET)
    await shop.complete(await shop.claim_one(), "unknown")
    shop.send_only("A")
    await shop.resync(NO_QUIET)
    shop.send_only()
    await shop.sells("B", 6)
    await shop.resync(NO_QUIET)
    await shop.complete(await shop.claim_one(), "applied")
    assert (await shop.row("B"))["doubt_at"] is not None
    await shop.pass_time(100)
    assert await settle(shop) == [("B", "PN-B", 6)]


async def test_others_that_are_not_chosen_are_no_twins_and_not_in_the_sum(place: Place) -> None:
    async with opened(place) as shop:
        shop.send_only("A")
        await shop.sells("A", 5, NAME)
        await shop.sells("B", 70, NAME)
        await shop.take()
        assert await settle(shop, whole=True) == [("A", "PN", 5)]
        shop.send_only("A", "B")
        assert await settle(shop, whole=True) == []
        assert (await shop.row("A"))["parked_at"] is not None
        shop.send_only(where="sku <> 'B'")
        assert await settle(shop, whole=True) == [("A", "PN", 5)]
        await shop.sql.execute("DELETE FROM stockrelay.ledger")
    async with opened(place, duplicates="sum") as shop:
        shop.send_only(where="quantity < 100 AND quantity <> 6")
        await shop.take()
        await shop.sells("C", 700, NAME)
        assert await settle(shop, whole=True) == [("A", "PN", 75)]
        await shop.sells("C", 7, NAME)
        assert await settle(shop) == [("A", "PN", 82)]
        await shop.sells("A", 6, NAME)
        assert await settle(shop) == [("B", "PN", 77)], (
            "the SKU with the sum left: the sum of the others is sent"
        )


@ON_18
async def test_leaving_out_nine_of_ten_is_no_bulk_zero_and_hides_none(place: Place) -> None:
    rule = GuardRule(0.1, 10, 0.1, timedelta(minutes=10), 10.0, 0.3, 0.2, timedelta(hours=24))
    async with opened(place, guard=rule) as shop:
        await shop.sql.execute(
            "INSERT INTO shop.goods (sku, pn, brand, quantity) "
            "SELECT 'S' || i, 'PN' || i, CASE WHEN i <= 50 THEN 'X' ELSE 'Y' END, 9 FROM generate_series(1, 500) AS i"
        )
        await shop.take()
        assert len(await settle(shop, whole=True)) > 0
        while await settle(shop):
            pass
        shop.send_only(where="brand_name = 'X'")
        reading = await shop.resync(NO_QUIET)
        assert (reading.marked.rows, reading.marked.held) == (0, 0)
        assert len(await known(shop)) == 50
        await shop.sql.execute("UPDATE shop.goods SET quantity = 0 WHERE sku = 'S1'")
        await shop.delists("S2")
        assert sorted(await settle(shop, whole=True)) == [("S1", "PN1", 0), ("S2", "PN2", 0)]
        await shop.sql.execute("UPDATE shop.goods SET quantity = 0")
        await shop.drain(NO_QUIET)
        assert len(await shop.held()) > 40, "of the chosen ones, too many fall to zero"
        shop.send_only("S1")
        await shop.resync(NO_QUIET)
        assert await shop.held() == set()


@ON_18
async def test_explain_says_that_a_sku_is_not_chosen_and_shows_its_row(shop: Shop) -> None:
    await shop.sells("A", 5)
    for skus, where in (([], "quantity > 5"), (["B"], None)):
        shop.send_only(*skus, where=where)
        facts = await Answers(shop.database).facts(shop.listing, Sku("A"), KEPT, 5)
        assert facts.is_left_out
        assert [row["quantity"] for row in facts.listing] == [5]


@ON_18
async def test_a_listing_that_fails_for_some_rows_still_leaves_out_and_finds_out(place: Place) -> None:
    listing = LISTING.replace("quantity", "10 / (quantity - 7) AS quantity")
    async with opened(place, listing) as shop:
        shop.send_only(where="brand_name = 'X'")
        await shop.take()
        await shop.sells("A", 8, ("PN-A", "X"))
        await shop.sells("B", 7, ("PN-B", "X"))
        await shop.sells("C", 7, ("PN-C", "Y"))
        await shop.sells("D", 8, ("PN-D", "Y"))
        await shop.resync(NO_QUIET)
        while (claim := await shop.claim()).captured:
            for attempt in claim.attempts:
                await shop.complete(attempt, "applied")
        assert await known(shop) == {"A", "B"}
        assert (await shop.row("B"))["parked_at"] is not None


@ON_18
async def test_the_tables_that_a_condition_reads_are_known(shop: Shop) -> None:
    await shop.sql.execute("CREATE TABLE IF NOT EXISTS shop.canary (sku text)")
    shop.send_only(where="sku IN (SELECT c.sku FROM shop.canary AS c)")
    reads = await Dependencies(shop.database.transaction).reads(shop.listing)
    assert "shop.canary" in {relation.name for relation in reads.relations}
    assert reads.channel == CHANNEL


@pytest.mark.parametrize("only", [Only(frozenset({"same", "other"})), Only(where="quantity > 4")])
@ON_18
async def test_the_night_compares_what_is_chosen_and_reports_nothing_of_the_rest(
    place: Place, only: Only
) -> None:
    database = Database(place.options(), 4)
    await database.open()
    try:
        night = Night(database, await place.connect())
        await night.holds("same", "other")
        await night.holds("left out", quantity=3)
        await night.sql.execute("DELETE FROM stockrelay.ledger WHERE sku = 'left out'")
        await night.knows(Difference.MISSING_IN_LISTING, "stranger")
        night.reading.use(replace(ChannelListing(YMATOU, READ_LISTING, ("outer_sku_id",)), only=only))
        run = await night.begun(is_reading=True)
        pages = (read_sku("same"), read_sku("other", 9), read_sku("left out", 70), read_sku("stranger", 2))
        await night.reads(run, 1, *pages)
        judged = await night.judges(run)
        assert await night.found(run) == {("marketplace_differs", "other", True)}
        assert (judged.checked, judged.unsettled) == (2, 0)
    finally:
        await database.close()
