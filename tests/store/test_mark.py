"""What is marked, when it is due, and what is left alone."""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon.core.types import Sku
from daemon.services.intake.service import IntakeService
from daemon.store.ledger import Debounce
from daemon.store.refused import RefusedSku, RefusedSkus
from tests.store.place import Place
from tests.store.shop import CHANNEL, Shop, opened

NOW = pytest.approx(0, abs=1)
NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)


def after(seconds: float) -> object:
    """About `seconds` from now."""
    return pytest.approx(seconds, abs=1)


async def test_a_new_sku_is_due_after_the_quiet_time(shop: Shop) -> None:
    await shop.sells("A", 5)
    assert await shop.rows() == 1
    row = await shop.row("A")
    assert row["due_s"] == after(2)
    assert (row["is_wanted"], row["urgent"]) == (True, False)


async def test_an_equal_number_is_not_marked_and_a_different_one_is(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("A", 5)
    assert await shop.rows() == 0
    await shop.sells("A", 6)
    assert await shop.rows() == 1
    await shop.sells("A", 5)
    assert await shop.rows() == 1, "it is waiting already: the claim finds out that nothing is to be done"
    await shop.pass_time(3)
    claim = await shop.claim()
    assert (claim.attempts, claim.settled) == ([], ["A"])
    assert not (await shop.row("A"))["is_wanted"]


async def test_an_equal_number_in_doubt_is_marked(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("A", 6)
    await shop.drain()
    await shop.pass_time(3)
    await shop.complete(await shop.claim_one(), "unknown")
    await shop.sells("A", 5)
    assert await shop.rows() == 1
    await shop.pass_time(3)
    attempt = await shop.claim_one()
    assert attempt.push.quantity == 5, "the marketplace may hold the 6, which was not acknowledged"


async def test_a_number_equal_to_the_one_in_flight_is_not_marked_and_another_is(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(3)
    await shop.claim_one()
    await shop.sells("A", 5)
    assert await shop.rows() == 0
    await shop.sells("A", 4)
    assert await shop.rows() == 1


async def test_every_change_puts_a_row_off_until_it_has_waited_long_enough(shop: Shop) -> None:
    for quantity in (50, 49, 48, 47, 46):
        await shop.sells("A", quantity)
        await shop.drain()
        await shop.pass_time(1.8)
    assert (await shop.row("A"))["due_s"] == after(0.2)
    await shop.sells("A", 45)
    await shop.drain()
    assert (await shop.row("A"))["due_s"] == after(1), "nine seconds have passed, ten are the most"
    await shop.pass_time(5)
    await shop.sells("A", 44)
    await shop.drain()
    assert (await shop.row("A"))["due_s"] < 0


async def test_without_a_quiet_time_a_change_is_due_at_once(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain(Debounce(timedelta(0), timedelta(0), 0))
    assert (await shop.row("A"))["due_s"] == NOW


@pytest.mark.parametrize(
    ("before", "now", "is_urgent"),
    [
        (9, 0, True),
        (9, 2, True),
        (9, 3, False),
        (9, 12, False),
        (2, 1, True),
        (1, 2, False),
        (0, 2, False),
        (0, 0, False),
        (None, 0, False),
        (None, 2, False),
    ],
)
async def test_a_fall_to_zero_or_below_the_threshold_goes_ahead(
    shop: Shop, before: int | None, now: int, is_urgent: bool
) -> None:
    if before is not None:
        await shop.deliver("A", before)
    await shop.sells("A", now)
    if await shop.rows():
        row = await shop.row("A")
        assert row["urgent"] is is_urgent
        assert row["due_s"] == (NOW if is_urgent else after(2))
    else:
        assert now == before


async def test_urgency_is_measured_against_the_highest_number_the_marketplace_may_hold(shop: Shop) -> None:
    await shop.deliver("A", 1)
    await shop.sells("A", 9)
    await shop.drain()
    await shop.pass_time(3)
    attempt = await shop.claim_one()
    await shop.sells("A", 2)
    await shop.drain()
    assert (await shop.row("A"))["urgent"], "nine is in flight"
    await shop.complete(attempt, "unknown")
    await shop.sells("A", 1)
    await shop.drain()
    assert (await shop.row("A"))["urgent"], "nine is in doubt"


async def test_a_busy_sku_does_not_get_round_its_back_off(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("A", 4)
    await shop.drain()
    await shop.pass_time(3)
    await shop.complete(await shop.claim_one(), "unknown", wait_s=30)
    for quantity in (3, 0):
        await shop.sells("A", quantity)
        assert await shop.rows() == 1
        assert (await shop.row("A"))["due_s"] == after(30)


@pytest.mark.parametrize("how", ["refused", "parked"])
async def test_a_parked_row_stays_parked_for_other_numbers(shop: Shop, how: str) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(3)
    await shop.complete(await shop.claim_one(), how)
    for quantity in (4, 0, 7):
        await shop.sells("A", quantity)
        await shop.drain()
        row = await shop.row("A")
        assert (row["due_at"], row["parked_reason"]) == (None, f"because {how}")
        assert row["is_wanted"]
    await shop.pass_time(1000)
    assert (await shop.claim()).captured == 0


async def test_a_parked_row_is_released_when_its_identifiers_change(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(3)
    await shop.complete(await shop.claim_one(), "refused")
    await shop.sells("A", 5, ("PN-other", "brand"))
    await shop.drain()
    row = await shop.row("A")
    assert (row["parked_at"], row["parked_reason"]) == (None, None)
    assert row["due_s"] < 3


async def test_a_parked_row_is_released_when_its_quantity_can_be_read_again(shop: Shop) -> None:
    await shop.sells("A", None)
    await shop.drain()
    await shop.pass_time(3)
    assert "NULL" in (await shop.claim()).parked[Sku("A")]
    await shop.sells("A", 3)
    await shop.drain()
    assert (await shop.row("A"))["parked_at"] is None


@pytest.mark.parametrize(
    ("quantity", "sent"),
    [
        ("3.9", 3),
        ("-2", 0),
        ("-0.5", 0),
        ("100000000.9", 100_000_000),
        ("0.4", 0),
        ("7", 7),
    ],
)
async def test_a_number_is_made_what_may_be_sent(shop: Shop, quantity: str, sent: int) -> None:
    await shop.sells("A", quantity)
    await shop.drain()
    await shop.pass_time(3)
    assert (await shop.claim_one()).push.quantity == sent


UNSENDABLE = {
    None: "quantity is NULL",
    "NaN": "quantity is NaN",
    "Infinity": "quantity is Infinity",
    "-Infinity": "quantity is -Infinity",
    "100000001": "100000001, which is more than the channel's max_quantity",
    "2147483648": "2147483648, which is more",
    "9223372036854775808": "9223372036854775808, which is more",
    "1e400": f"1{'0' * 23}..., which is more",
}


@pytest.mark.parametrize("was_acknowledged", [False, True])
async def test_a_quantity_that_cannot_be_sent_is_parked_with_its_reason_and_released_when_mended(
    shop: Shop, was_acknowledged: bool
) -> None:
    skus = dict(zip(map(str, UNSENDABLE), UNSENDABLE, strict=True))
    for sku in skus if was_acknowledged else ():
        await shop.deliver(sku, 5)
    for sku, quantity in skus.items():
        await shop.sells(sku, quantity)
    drained = await shop.drain()
    assert (drained.failed, drained.marked.rows) == (None, len(skus))
    await shop.pass_time(3)
    claim = await shop.claim()
    assert not claim.attempts
    for sku, quantity in skus.items():
        assert UNSENDABLE[quantity] in claim.parked[Sku(sku)]
        await shop.sells(sku, 6)
    await shop.drain()
    await shop.pass_time(3)
    assert {(one.push.sku, one.push.quantity) for one in (await shop.claim()).attempts} == {
        (sku, 6) for sku in skus
    }


async def test_a_quantity_is_read_exactly_whatever_its_type(place: Place) -> None:
    sql = await place.connect()
    await sql.execute("CREATE DOMAIN erp.measure AS real")
    types = ("real", "float8", "numeric", "bigint", "integer", "money", "text", "varchar(20)", "erp.measure")
    for type_ in types:
        await sql.execute(
            f"DROP TABLE IF EXISTS erp.t; CREATE TABLE erp.t AS SELECT x AS sku, x::text::{type_} AS q "
            "FROM unnest(ARRAY[16000001, 1234567, 7, 0, -3]) AS x"
        )
        async with opened(
            place, "SELECT sku, sku AS pn_code, 'AMS' AS brand_name, q AS quantity FROM erp.t"
        ) as shop:
            await shop.take()
            await shop.resync()
            await shop.pass_time(3)
            sent = {one.push.sku: one.push.quantity for one in (await shop.claim()).attempts}
            await sql.execute("DELETE FROM stockrelay.ledger")
        assert sent == {"16000001": 16000001, "1234567": 1234567, "7": 7, "0": 0, "-3": 0}, type_


@pytest.mark.parametrize("was_acknowledged", [False, True])
async def test_a_sku_listed_twice_is_parked_and_released_when_mended(
    shop: Shop, was_acknowledged: bool
) -> None:
    if was_acknowledged:
        await shop.deliver("A", 5)
    await shop.sells("A", 4)
    await shop.sql.execute("INSERT INTO shop.goods VALUES ('A', 'PN-A', 'brand', 9)")
    assert (await shop.drain()).failed is None
    await shop.pass_time(3)
    assert "2 rows" in (await shop.claim()).parked["A"]  # type: ignore[index]
    await shop.sells("A", 4)
    await shop.drain()
    await shop.pass_time(3)
    assert (await shop.claim_one()).push.quantity == 4


async def test_unknown_skus_are_ignored(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.delists("A")
    assert await shop.rows() == 0
    assert await shop.find("A") is None


async def test_leaving_the_listing_is_falling_to_zero(shop: Shop) -> None:
    await shop.deliver("A", 9)
    await shop.delists("A")
    assert await shop.rows() == 1
    row = await shop.row("A")
    assert (row["urgent"], row["listed_rows"]) == (True, 0)
    assert row["due_s"] == NOW


async def test_a_resync_marks_what_differs_and_leaves_what_waits(shop: Shop) -> None:
    await shop.deliver("same", 5)
    await shop.deliver("other", 5)
    await shop.deliver("gone", 5)
    await shop.sells("waits", 1)
    await shop.drain()
    waiting = (await shop.row("waits"))["want_seq"]
    await shop.sells("other", 6)
    await shop.sells("new", 7)
    await shop.delists("gone")
    await shop.sql.execute("TRUNCATE stockrelay.change_0")
    drained = await shop.resync()
    assert drained.marked.rows == 3
    assert not (await shop.row("same"))["is_wanted"]
    assert (await shop.row("waits"))["want_seq"] == waiting
    assert await shop.sql.fetchval("SELECT resynced_at FROM stockrelay.read_position") is not None
    assert (await shop.resync()).marked.rows == 0


async def test_more_than_five_thousand_changes_are_compared_in_the_server(shop: Shop) -> None:
    await shop.sql.execute(
        "INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', i FROM generate_series(1, 5001) AS i"
    )
    drained = await shop.drain()
    assert drained.is_everything
    assert drained.marked.rows == 5001
    await shop.sql.execute("UPDATE shop.goods SET quantity = quantity + 1")
    drained = await shop.drain()
    assert (drained.is_everything, drained.marked.rows) == (True, 5001), "changes put off what waits"


async def test_a_truncated_table_takes_everything_off_sale(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sql.execute("TRUNCATE shop.goods")
    assert await shop.rows() == 1
    attempt = await shop.claim_one()
    assert (attempt.push.quantity, attempt.is_delisting) == (0, True)


async def test_a_listing_that_fails_loses_no_change(shop: Shop) -> None:
    await shop.deliver("A", 5)
    async with opened(
        shop.place, "SELECT sku, pn AS pn_code, brand AS brand_name, 1 / 0 AS quantity FROM shop.goods"
    ) as broken:
        await broken.sells("A", 4)
        drained = await broken.drain()
        assert "division by zero" in (drained.failed or "")
    row = await shop.row("A")
    assert row["is_wanted"]
    await shop.pass_time(3)
    await shop.take()
    assert (await shop.claim_one()).push.quantity == 4


async def test_a_sku_longer_than_an_index_takes_is_named_and_stops_nobody(shop: Shop) -> None:
    long = "x" * 1001
    await shop.sells(long, 1)
    await shop.sells("A", 1)
    drained = await shop.drain()
    named = [RefusedSku("x" * 60 + "…", "longer than 1000 bytes")]
    assert drained.refused == named
    assert drained.marked.rows == 1
    assert (await shop.resync()).refused == named, "also where nothing has changed"
    assert await shop.syncs.refused() == RefusedSkus(1, named)
    assert (await shop.changelog.states([CHANNEL]))[CHANNEL].refused == 1
    await shop.delists(long)
    await shop.resync()
    assert (await shop.changelog.states([CHANNEL]))[CHANNEL].refused == 0


async def lines_of_an_intake(shop: Shop, *, until_compared: bool) -> list[tuple[str, str, object]]:
    """What an intake logs until its first reading, or comparison, is over."""
    stop = asyncio.Event()
    intake = IntakeService(
        shop.reader(NO_QUIET),
        shop.changelog.stay_awake,
        timedelta(seconds=5),
        timedelta(hours=1),
        lambda drained: stop.set() if drained.is_compared or not until_compared else None,
        lambda: True,
    )
    with capture_logs() as lines:
        await intake.run(stop)
    return [(line["event"], line["reason"], line.get("skus")) for line in lines if "reason" in line]


async def test_a_comparison_that_a_change_asks_for_logs_its_start_and_its_end(shop: Shop) -> None:
    await shop.sells("A", 1)
    await shop.drain()
    await shop.sql.execute("TRUNCATE shop.goods")
    told = await lines_of_an_intake(shop, until_compared=True)
    assert told == [
        ("intake.resync_started", "bulk change", None),
        ("intake.resync_finished", "bulk change", None),
    ]


async def test_many_skus_that_cannot_be_followed_are_one_line_and_counted(shop: Shop) -> None:
    await shop.sql.execute(
        "INSERT INTO shop.goods (sku, pn, brand, quantity) "
        "SELECT i || repeat('x', 1000), 'P' || i, 'b', 1 FROM generate_series(1, 30) AS i"
    )
    (line,) = await lines_of_an_intake(shop, until_compared=False)
    assert line == ("intake.skus_refused", "longer than 1000 bytes: it is not sent", 30)
    found = await shop.syncs.refused()
    assert (found.many, len(found.some)) == (30, 20)


async def test_a_comparison_counts_all_skus_that_cannot_be_followed_and_names_one(shop: Shop) -> None:
    await shop.drain()
    await shop.sql.execute(
        "TRUNCATE shop.goods; INSERT INTO shop.goods (sku, pn, brand, quantity) "
        "SELECT i || repeat('x', 1000), 'P' || i, 'b', 1 FROM generate_series(1, 30) AS i"
    )
    await shop.sql.execute(
        "DELETE FROM stockrelay.change_0; DELETE FROM stockrelay.change_1;"
        "UPDATE stockrelay.read_position SET resynced_at = NULL"
    )
    lines = await lines_of_an_intake(shop, until_compared=True)
    assert ("intake.skus_refused", "longer than 1000 bytes: it is not sent", 30) in lines


async def test_two_channels_are_marked_each_by_its_own_listing(shop: Shop) -> None:
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.ledger") == 0
    await shop.sells("A", 5)
    await shop.sql.execute(
        "INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows) VALUES ('other', 'A', 1, 1)"
    )
    assert await shop.rows() == 1
    assert await shop.sql.fetchval("SELECT want_seq FROM stockrelay.ledger WHERE channel = 'other'") == 1
