"""The numbers that were read of the ERP, as they are kept for `explain --at`."""

from datetime import timedelta

from daemon.core.explain.past import reconstruct
from daemon.core.types import Sku
from daemon.store.past import PastAnswers
from tests.store.shop import CHANNEL, SETTLE, Shop


async def test_each_marking_keeps_the_numbers_that_it_read(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.sells("B", 7)
    await shop.drain()
    await shop.sells("A", 4)
    await shop.drain()
    await shop.delists("B")
    await shop.drain()
    rows = await shop.sql.fetch("SELECT skus, quantities, listed_rows FROM stockrelay.reading ORDER BY at")
    assert [tuple(row) for row in rows] == [
        (["A", "B"], [5, 7], [1, 1]),
        (["A"], [4], [1]),
        (["B"], [None], [0]),
    ]


async def test_a_number_that_a_claim_finds_sent_already_is_kept(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("A", 6)
    await shop.drain()
    await shop.sells("A", 5)
    await shop.pass_time(3)
    assert (await shop.claim()).settled == ["A"]
    assert await shop.rows() == 0, "no marking sees the number that the claim has read"
    now = await shop.sql.fetchval("SELECT clock_timestamp()")
    erp = reconstruct(await PastAnswers(shop.database).history(CHANNEL, Sku("A"), now, SETTLE)).erp
    assert erp is not None
    assert (erp.quantity, erp.listed_rows) == (5, 1)


async def test_readings_are_looked_up_around_a_moment_in_large_markings(shop: Shop) -> None:
    await shop.sql.execute(
        "INSERT INTO shop.goods (sku, pn, brand, quantity) "
        "SELECT 'SKU-' || i, 'PN-' || i, 'b', i FROM generate_series(1, 2500) AS i"
    )
    await shop.resync()
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.reading") == 3, "in portions"
    first = await shop.sql.fetchval("SELECT max(at) FROM stockrelay.reading")
    await shop.sells("SKU-2400", 1)
    await shop.drain()
    past = PastAnswers(shop.database)
    known = await past.history(CHANNEL, Sku("SKU-2400"), first, SETTLE)
    assert known.reading is not None
    assert known.reading.quantity == 2400
    assert known.next_reading is not None
    assert known.next_reading.quantity == 1
    before = await past.history(CHANNEL, Sku("SKU-2400"), first - timedelta(hours=1), SETTLE)
    assert (before.reading, reconstruct(before).erp) == (None, None)


async def test_readings_go_with_the_attempts_of_their_day(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.sql.execute("UPDATE stockrelay.reading SET at = at - interval '20 days'")
    await shop.changelog.roll_attempts(timedelta(days=30))
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.reading") == 1
    await shop.changelog.roll_attempts(timedelta(days=10))
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.reading") == 0
    known = await PastAnswers(shop.database).history(
        CHANNEL, Sku("A"), await shop.sql.fetchval("SELECT now()"), SETTLE
    )
    assert reconstruct(known).erp is None
