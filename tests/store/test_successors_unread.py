"""A SKU that is renamed while its listing can't be read."""

from datetime import timedelta

from daemon.store import queries
from daemon.store.ledger import Debounce
from tests.store.shop import CHANNEL, Shop

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)


async def test_a_sku_that_was_renamed_and_marked_without_looking_takes_its_identifiers_over(
    shop: Shop,
) -> None:
    await shop.take()
    await shop.deliver("OLD", 5, ("PN", "brand"))
    await shop.delists("OLD")
    await shop.sells("NEW", 7, ("PN", "brand"))
    blind = queries.load("intake")["mark_blind"]
    await shop.sql.execute(blind, CHANNEL, ["OLD", "NEW"], timedelta(0))
    first, second = await shop.claim(), await shop.claim()
    assert first.attempts == [], "which of them has the identifiers is noted first"
    assert [(a.push.sku, a.push.quantity) for a in second.attempts] == [("NEW", 7)]
    await shop.complete(second.attempts[0], "applied")
    assert second.forgotten == ["OLD"]
    row = await shop.row("NEW")
    assert (row["acked_quantity"], row["twins"], row["parked_at"], row["due_at"]) == (7, None, None, None)
