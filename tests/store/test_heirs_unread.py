"""A SKU that is renamed while its listing can't be read."""

from datetime import timedelta

from daemon.store import queries
from daemon.store.ledger import Debounce
from tests.store.shop import CHANNEL, Shop

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)


async def test_an_heir_that_was_marked_without_looking_is_confirmed_after_the_farewell(shop: Shop) -> None:
    await shop.take()
    await shop.deliver("OLD", 5, ("PN", "brand"))
    await shop.delists("OLD")
    await shop.sells("NEW", 7, ("PN", "brand"))
    blind = queries.load("intake")["mark_blind"]
    await shop.sql.execute(blind, CHANNEL, ["OLD", "NEW"], timedelta(0))
    claim = await shop.claim()
    # Both are on their way to the same identifiers, and nobody knows which lands last.
    assert {(a.push.sku, a.push.quantity) for a in claim.attempts} == {("OLD", 0), ("NEW", 7)}
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    assert (await shop.claim()).forgotten == ["OLD"]
    assert (await shop.row("NEW"))["doubt_at"] is not None
