"""A sync's turns: what has one, what answers it, and what an interruption leaves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.errors import StockrelayError
from daemon.core.plan import Listed
from daemon.core.sync_filter import WHOLE_LISTING, SyncFilter
from daemon.core.types import Sku
from daemon.store.ledger import Debounce, Due
from tests.store.place import Place, forget_statistics
from tests.store.shop import DEBOUNCE, EVERY_SLOT, SETTLE, Shop, opened

NO_QUIET = Debounce(timedelta(0), timedelta(0), 3)


async def turns(shop: Shop) -> list[str]:
    """The SKUs whose turn is to come."""
    rows = await shop.sql.fetch("SELECT sku FROM stockrelay.ledger WHERE sync_at IS NOT NULL ORDER BY sku")
    return [row["sku"] for row in rows]


async def test_every_listed_sku_has_a_turn_and_is_sent_whatever_was_acknowledged(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("B", 0)
    run, marked = await shop.sync()
    assert (run.is_new, run.is_marked, marked) == (True, False, 2)
    assert (await shop.claim()).captured == 0, "a turn is not a change"
    claim = await shop.claim_turn()
    assert {attempt.push.sku: attempt.push.quantity for attempt in claim.attempts} == {"A": 5, "B": 0}
    assert not any(attempt.is_urgent for attempt in claim.attempts)
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    assert await turns(shop) == []
    assert await shop.ledger.next_due(EVERY_SLOT) == Due()
    assert await shop.ledger.end_sync() == (run.number, False)
    summary = await shop.syncs.summary(run)
    assert (summary.is_finished, summary.total, summary.accepted, summary.left) == (True, 2, 2, 0)
    again = await shop.syncs.begin()
    assert again.is_new
    assert again.number != run.number


async def test_a_sync_waits_behind_changes_which_answer_it_as_well(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.deliver("B", 5)
    await shop.sync()
    await shop.sells("A", 6)
    await shop.drain(NO_QUIET)
    due = await shop.ledger.next_due(EVERY_SLOT)
    assert due.change is not None
    (turn,) = (await shop.claim_turn()).attempts
    assert turn.push.sku == "B", "a row that is due goes the way of changes"
    change = await shop.claim_one()
    assert change.push.quantity == 6
    await shop.complete(change, "applied")
    assert await turns(shop) == ["B"]
    assert (await shop.row("A"))["acked_quantity"] == 6


async def test_a_change_during_a_turns_attempt_goes_out_by_itself_and_the_newest_number_stays(
    shop: Shop,
) -> None:
    await shop.deliver("A", 5)
    await shop.sync()
    (turn,) = (await shop.claim_turn()).attempts
    await shop.sells("A", 7)
    await shop.drain(NO_QUIET)
    assert await shop.complete(turn, "unknown")
    row = await shop.row("A")
    assert row["due_at"] is not None, "the change does not wait for a turn"
    await shop.pass_time(2)
    change = await shop.claim_one()
    await shop.complete(change, "applied")
    row = await shop.row("A")
    assert (row["acked_quantity"], row["sync_at"]) == (7, None)
    assert row["due_at"] == row["doubt_until"], "and is confirmed when the turn's request can't land any more"


@pytest.mark.parametrize("quantity", [0, 5])
async def test_an_unknown_end_of_a_turn_is_tried_again_in_turn_and_confirmed_in_turn(
    shop: Shop, quantity: int
) -> None:
    await shop.sells("A", quantity)
    run, _ = await shop.sync()
    (turn,) = (await shop.claim_turn()).attempts
    await shop.complete(turn, "unknown", wait_s=5)
    row = await shop.row("A")
    assert (row["due_at"], row["urgent"], row["failures"]) == (None, False, 1), "not even a zero is urgent"
    assert (await shop.claim_turn()).captured == 0
    await shop.pass_time(6)
    (turn,) = (await shop.claim_turn()).attempts
    assert turn.failures == 1
    await shop.complete(turn, "applied")
    row = await shop.row("A")
    assert row["sync_at"] == row["doubt_until"]
    assert (await shop.syncs.progress(run)).confirming == 1
    assert await shop.ledger.end_sync() == (None, True)
    await shop.pass_time(61)
    (turn,) = (await shop.claim_turn()).attempts
    await shop.complete(turn, "applied")
    row = await shop.row("A")
    assert (row["sync_at"], row["doubt_at"], row["due_at"]) == (None, None, None)
    assert (await shop.ledger.end_sync())[0] == run.number


@pytest.mark.parametrize("outcome", ["not_sent", "trouble"])
async def test_what_was_not_sent_keeps_its_turn(shop: Shop, outcome: str) -> None:
    await shop.sells("A", 0)
    await shop.sync()
    (turn,) = (await shop.claim_turn()).attempts
    await shop.complete(turn, outcome)
    row = await shop.row("A")
    assert (row["due_at"], row["urgent"], row["failures"]) == (None, False, 0)
    assert len((await shop.claim_turn()).attempts) == 1


async def test_the_turn_of_an_owner_that_died_is_sent_once_more_when_it_cannot_land_any_more(
    shop: Shop,
) -> None:
    for sku in ("A", "B"):
        await shop.sells(sku, 5)
    await shop.sync()
    (turn,) = (await shop.claim_turn(limit=1)).attempts
    await shop.take("two")
    assert await shop.ledger.rescue(shop.owner, [], SETTLE) == 1
    (other,) = (await shop.claim_turn()).attempts
    assert other.push.sku != turn.push.sku
    assert (await shop.claim()).captured == 0
    await shop.pass_time(61)
    (again,) = (await shop.claim_turn()).attempts
    await shop.complete(again, "applied")
    row = await shop.row(turn.push.sku)
    assert (row["doubt_at"], row["sync_at"], row["due_at"]) == (None, None, None)


async def test_marking_again_after_an_interruption_gives_no_second_turn(shop: Shop) -> None:
    for sku in ("A", "B", "C", "D"):
        await shop.sells(sku, 5)
    run = await shop.syncs.begin()
    portion = [(Sku(sku), Listed(1, (f"PN-{sku}", "brand"), 5)) for sku in ("A", "B", "C")]
    assert await shop.syncs.mark(run, portion) == 3
    sent, open_one, _ = (await shop.claim_turn()).attempts
    await shop.complete(sent, "applied")
    # The command was killed here, and is run again.
    again, marked = await shop.sync()
    assert (again.number, again.is_new, again.is_marked) == (run.number, False, False)
    assert marked == 1, "D alone"
    assert open_one.push.sku in await turns(shop)
    progress = await shop.syncs.progress(run)
    assert (progress.total, progress.waiting) == (4, 3)


async def test_parked_skus_have_no_turn_and_those_that_cannot_be_sent_are_parked_by_theirs(
    shop: Shop,
) -> None:
    await shop.sells("refused", 5)
    await shop.drain(NO_QUIET)
    await shop.complete(await shop.claim_one(), "refused")
    await shop.sells("long", 5, ("X" * 51, "brand"))
    await shop.sells("null", None)
    run, marked = await shop.sync()
    assert marked == 2
    claim = await shop.claim_turn()
    assert claim.parked.keys() == {"long", "null"}
    assert await shop.ledger.end_sync() == (run.number, False)
    summary = await shop.syncs.summary(run)
    assert (summary.accepted, summary.refused, summary.parked_before) == (0, 2, 1)
    assert {refused.sku for refused in summary.reasons} == {"long", "null"}


async def test_a_new_channels_rows_leave_the_way_of_changes_but_no_stock_out_does(shop: Shop) -> None:
    await shop.deliver("sold", 5)
    await shop.sells("new", 5)
    await shop.sells("sold", 0)
    await shop.drain(DEBOUNCE)
    await shop.sync()
    new, sold = await shop.row("new"), await shop.row("sold")
    assert (new["due_at"], new["sync_at"] is not None) == (None, True)
    assert (sold["due_at"] is not None, sold["urgent"]) == (True, True)
    await shop.resync()
    assert (await shop.row("new"))["due_at"] is None, "a resync has nothing to add"
    await shop.sells("other", 1)
    await shop.resync()
    assert (await shop.row("new"))["due_at"] is None, "not even one that stands for changes"
    await shop.sells("new", 6)
    await shop.drain()
    assert (await shop.row("new"))["due_at"] is not None, "a change of its own does not wait for a turn"


async def test_a_sku_that_leaves_the_listing_before_its_turn_is_taken_off_sale(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sync()
    await shop.delists("A")
    (turn,) = (await shop.claim_turn()).attempts
    assert (turn.push.quantity, turn.is_delisting) == (0, True)
    await shop.complete(turn, "applied")
    assert await turns(shop) == []


async def test_a_paused_channel_has_no_turns(shop: Shop) -> None:
    await shop.sells("A", 5)
    run, _ = await shop.sync()
    await shop.sql.execute(
        "INSERT INTO stockrelay.pause (channel, paused_by, reason) SELECT channel, 'me', '' FROM stockrelay.ledger"
    )
    assert (await shop.claim_turn()).captured == 0
    assert await shop.ledger.next_due(EVERY_SLOT) == Due()
    assert (await shop.syncs.progress(run)).trouble == "paused by an operator"


async def test_claiming_a_turn_looks_at_no_more_than_it_takes(shop: Shop) -> None:
    await forget_statistics(shop.sql, "stockrelay.ledger")
    await shop.sql.execute(
        "INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', 1 FROM generate_series(1, 20000) AS i"
    )
    run = await shop.syncs.begin()
    async for portion in shop.syncs.portions(5_000):
        assert await shop.syncs.mark(run, portion) == 5_000
    for statistics in ("SELECT 1", "ANALYZE stockrelay.ledger, shop.goods"):
        await shop.sql.execute(statistics)
        due = "SELECT * FROM stockrelay.due_sync('sekorm', ARRAY[0, 3, 4, 15]::smallint[], 50)"
        explain = f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {due}"
        # The first one in a session also reads the catalogs.
        await shop.sql.fetch(explain)
        plan = await shop.sql.fetch(explain)
        looked_at = sum(
            int(part.split("=")[1]) for part in plan[1][0].split() if part.startswith(("hit=", "read="))
        )
        assert 0 < looked_at < 400, plan
    assert len((await shop.claim_turn(limit=50)).attempts) == 50
    is_above = [await shop.ledger.is_backlog_above(rows, EVERY_SLOT) for rows in (0, 10)]
    assert is_above == [False, False], "turns are no backlog"


@pytest.mark.parametrize(("rows", "is_above"), [(2, True), (3, False)])
async def test_a_backlog_is_what_is_due_and_in_nobodys_hand(shop: Shop, rows: int, is_above: bool) -> None:
    for sku in ("A", "B", "C", "D"):
        await shop.sells(sku, 5)
    await shop.drain(NO_QUIET)
    await shop.claim(limit=1)
    await shop.sells("E", 5)
    await shop.drain(DEBOUNCE)
    assert await shop.ledger.is_backlog_above(rows, EVERY_SLOT) is is_above


async def test_skus_that_differ_only_by_blanks_or_capitals_are_found(shop: Shop) -> None:
    for sku in ("Ab-1", "aB-1 ", "ab-2"):
        await shop.sells(sku, 1)
    assert await shop.syncs.alike(10) == [("Ab-1", "aB-1 ")]


# A part of the listing

ON_18 = pytest.mark.parametrize("server", ["pg18"], indirect=True)


async def sent_of(shop: Shop, wanted: SyncFilter) -> set[str]:
    """Carry out a sync for these SKUs; return those that were sent. It counts no others."""
    chosen = await shop.syncs.chosen(wanted)
    run, _ = await shop.sync(wanted)
    claim = await shop.claim_turn()
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    await shop.ledger.end_sync()
    summary = await shop.syncs.summary(run)
    assert (summary.is_finished, summary.total, summary.accepted) == (
        True,
        len(claim.attempts),
        len(claim.attempts),
    )
    rows = [row async for portion in shop.syncs.rows(run, 2) for row in portion]
    assert [(row.sku, row.result) for row in rows] == [(one, "accepted") for one in sorted(chosen)]
    return {attempt.push.sku for attempt in claim.attempts}


@ON_18
async def test_a_filter_chooses_by_name_condition_and_time_together(shop: Shop) -> None:
    for sku, quantity in (("A", 5), ("B", 6), ("C", 7), ("D", 8)):
        await shop.deliver(sku, quantity)
    await shop.sql.execute("UPDATE stockrelay.attempt SET at = at - interval '2 h'")
    await shop.sql.execute("UPDATE stockrelay.reading SET at = at - interval '2 h'")
    await shop.deliver("B", 9)
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    named = frozenset({"A", "B", "unknown"})
    assert await sent_of(shop, SyncFilter(named)) == {"A", "B"}
    await shop.sql.execute("UPDATE stockrelay.attempt SET at = at - interval '2 h' WHERE sku <> 'B'")
    assert await sent_of(shop, SyncFilter(where="quantity > 6 -- a comment")) == {"B", "C", "D"}
    await shop.sql.execute("UPDATE stockrelay.attempt SET at = at - interval '2 h' WHERE sku <> 'B'")
    assert await sent_of(shop, SyncFilter(since=hour_ago)) == {"B"}
    assert await sent_of(shop, SyncFilter(named, "quantity > 5", hour_ago)) == {"B"}
    run = await shop.syncs.begin(SyncFilter(named, "quantity > 5"))
    assert await shop.syncs.missing(run) == ["unknown"], (
        "A is listed, though the condition does not choose it"
    )
    shop.send_only("A", "D")
    assert await shop.syncs.chosen(SyncFilter(where="quantity > 5")) == {"D"}, (
        "what `only` leaves out stays out"
    )


@ON_18
async def test_an_interrupted_filter_goes_on_with_its_own_skus_and_no_other_sync_takes_its_place(
    shop: Shop,
) -> None:
    for sku in "ABC":
        await shop.deliver(sku, 5)
    wanted = SyncFilter(frozenset({"A", "unknown"}), "quantity = 5")
    run = await shop.syncs.begin(wanted)
    await shop.sells("A", 6)
    for other in (WHOLE_LISTING, SyncFilter(frozenset({"B"}))):
        with pytest.raises(
            StockrelayError, match=r"for --sku A --sku unknown --where 'quantity = 5': .*--resume"
        ):
            await shop.syncs.begin(other)
    assert replace(await shop.syncs.open(), is_new=True) == run
    again, marked = await shop.sync(wanted)
    assert (again.number, again.is_new, marked) == (run.number, False, 1), "chosen when it began"
    assert await shop.syncs.missing(run) == ["unknown"]
    assert await shop.syncs.not_listed([Sku("B"), Sku("unknown")]) == ["unknown"]
    assert await turns(shop) == ["A"]


@ON_18
async def test_a_filter_for_one_of_several_skus_that_are_sold_as_one_sends_their_sum(place: Place) -> None:
    async with opened(place, duplicates="sum") as shop:
        await shop.take()
        for sku in "AB":
            await shop.sells(sku, 5, ("PN", "brand"))
        await shop.drain(NO_QUIET)
        while (claim := await shop.claim()).captured:
            for attempt in claim.attempts:
                await shop.complete(attempt, "applied")
        await shop.sync(SyncFilter(frozenset({"B"})))
        (turn,) = (await shop.claim_turn()).attempts
        assert (turn.push.sku, turn.push.quantity) == ("A", 10)
