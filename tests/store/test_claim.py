"""Claims: in order, fenced, committed before anything is sent."""

import asyncio
from datetime import timedelta

import pytest

from daemon.core.types import Epoch, Sku
from daemon.store.ledger import Debounce, Owner
from daemon.store.parked import Parked
from tests.store.place import Connection
from tests.store.shop import DEBOUNCE, EVERY_SLOT, SETTLE, Shop, opened

NO_QUIET = Debounce(timedelta(0), timedelta(0), 3)


async def test_a_claim_is_written_before_it_returns(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    attempt = await shop.claim_one()
    row = await shop.row("A")
    assert (row["attempt_id"], row["attempt_epoch"]) == (attempt.attempt_id, shop.owner.epochs[attempt.slot])
    assert (row["attempt_seq"], row["attempt_quantity"], row["attempt_settles"]) == (row["want_seq"], 5, True)
    assert (row["due_at"], row["first_dirty_at"]) == (None, None)
    assert (attempt.push.identifiers, attempt.push.quantity) == (("PN-A", "brand"), 5)


async def test_the_number_is_read_when_it_is_claimed(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await shop.sells("A", 3)
    assert (await shop.claim_one()).push.quantity == 3


async def test_urgent_rows_come_first_then_the_oldest_and_no_more_than_asked_for(shop: Shop) -> None:
    for sku in ("old", "older", "empty", "emptier"):
        await shop.deliver(sku, 9)
    for sku, quantity in (("older", 8), ("old", 8), ("emptier", 0), ("empty", 0)):
        await shop.sells(sku, quantity)
        await shop.drain(DEBOUNCE)
        await shop.pass_time(5)
    order = []
    while claimed := (await shop.claim(limit=1)).attempts:
        assert len(claimed) == 1
        order += [attempt.push.sku for attempt in claimed]
    assert order == ["emptier", "empty", "older", "old"]


async def test_what_is_not_due_is_not_claimed(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    assert (await shop.claim()).captured == 0
    due = (await shop.ledger.next_due(EVERY_SLOT)).change
    assert due is not None
    assert due.total_seconds() == pytest.approx(2, abs=1)
    await shop.pass_time(3)
    assert (await shop.claim()).captured == 1
    assert (await shop.ledger.next_due(EVERY_SLOT)).change is None


async def test_a_row_in_flight_is_not_claimed_again_nor_waited_for(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await shop.claim_one()
    await shop.sells("A", 4)
    await shop.drain(NO_QUIET)
    assert (await shop.claim()).captured == 0
    assert (await shop.ledger.next_due(EVERY_SLOT)).change is None


@pytest.mark.parametrize("wrong", ["epoch", "holder", "slot"])
async def test_only_the_owner_claims(shop: Shop, wrong: str) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    owner = shop.owner
    impostor = {
        "epoch": Owner(owner.holder, {slot: Epoch(epoch - 1) for slot, epoch in owner.epochs.items()}),
        "holder": Owner("another", owner.epochs),
        "slot": owner.of([slot for slot in owner.epochs if slot != await shop.slot("A")]),
    }[wrong]
    assert (await shop.claim(owner=impostor)).captured == 0
    assert (await shop.row("A"))["attempt_id"] is None
    assert len((await shop.claim()).attempts) == 1


async def test_rows_that_another_session_holds_are_skipped(shop: Shop, sql: Connection) -> None:
    for sku in ("A", "B"):
        await shop.sells(sku, 5)
    await shop.drain(NO_QUIET)
    await sql.execute("BEGIN; SELECT * FROM stockrelay.ledger WHERE sku = 'A' FOR UPDATE")
    assert [attempt.push.sku for attempt in (await shop.claim()).attempts] == ["B"]
    await sql.execute("COMMIT")
    assert [attempt.push.sku for attempt in (await shop.claim()).attempts] == ["A"]


async def test_claims_at_the_same_time_share_the_rows(shop: Shop) -> None:
    for number in range(40):
        await shop.sells(f"S{number}", 5)
    await shop.drain(NO_QUIET)
    claims = await asyncio.gather(*(shop.claim(limit=10) for _ in range(4)))
    skus = [attempt.push.sku for claim in claims for attempt in claim.attempts]
    assert len(skus) == len(set(skus))
    assert len({attempt.attempt_id for claim in claims for attempt in claim.attempts}) == len(skus)


async def test_identifiers_that_can_never_be_sent_park_and_let_the_others_pass(shop: Shop) -> None:
    await shop.sells("long", 5, ("P" * 51, "brand"))
    await shop.sells("none", 5, (None, "brand"))
    await shop.sells("good", 5)
    await shop.drain(NO_QUIET)
    claim = await shop.claim()
    assert claim.parked == {"long": "pn_code is too long", "none": "pn_code is missing"}
    assert [attempt.push.sku for attempt in claim.attempts] == ["good"]
    parked = await Parked(shop.database, shop.ledger.channel).all(10, with_discarded=True)
    assert {one.sku: one.reason for one in parked} == claim.parked
    await shop.resync()
    assert (await shop.claim()).captured == 0, "the same listing does not release them"


async def test_a_row_on_which_the_listing_fails_is_parked_and_the_others_flow(shop: Shop) -> None:
    listing = "SELECT sku, pn AS pn_code, brand AS brand_name, 10 / quantity AS quantity FROM shop.goods"
    async with opened(shop.place, listing) as other:
        await shop.sells("good", 2)
        await shop.sells("bad", 0)
        await other.drain(NO_QUIET)
        await shop.pass_time(5)
        other.owner = shop.owner
        claim = await other.claim()
        assert "division by zero" in claim.parked[Sku("bad")]
        assert [attempt.push.quantity for attempt in claim.attempts] == [5]
        await shop.sells("bad", 5)
        await other.drain(NO_QUIET)
        assert (await other.claim_one()).push.quantity == 2


# Leaving the listing, and other identifiers


async def test_a_sku_that_left_is_pushed_as_zero_and_forgotten(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.delists("A")
    await shop.drain()
    attempt = await shop.claim_one()
    assert (attempt.push.identifiers, attempt.push.quantity, attempt.is_delisting) == (
        ("PN-A", "brand"),
        0,
        True,
    )
    assert await shop.complete(attempt, "applied"), "due again: to be forgotten"
    claim = await shop.claim()
    assert (claim.forgotten, claim.attempts) == (["A"], [])
    assert await shop.find("A") is None


@pytest.mark.parametrize("outcome", ["unknown", "not_sent", "trouble"])
async def test_a_delisting_is_repeated_until_it_is_acknowledged(shop: Shop, outcome: str) -> None:
    await shop.deliver("A", 5)
    await shop.delists("A")
    await shop.drain()
    await shop.complete(await shop.claim_one(), outcome)
    await shop.pass_time(61)
    attempt = await shop.claim_one()
    assert (attempt.push.quantity, attempt.is_delisting) == (0, True)
    await shop.complete(attempt, "applied")
    assert (await shop.claim()).forgotten == ["A"]


async def test_a_delisting_in_doubt_is_confirmed_before_the_sku_is_forgotten(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.delists("A")
    await shop.drain()
    await shop.complete(await shop.claim_one(), "unknown")
    await shop.complete(await shop.claim_one(), "applied")
    assert (await shop.claim()).attempts == [], (
        "the first may still land, with the same zero; wait for its end"
    )
    assert (await shop.row("A"))["doubt_at"] is not None
    await shop.pass_time(61)
    await shop.complete(await shop.claim_one(), "applied")
    assert (await shop.claim()).forgotten == ["A"]


async def test_a_delisting_that_is_refused_is_the_end_of_it(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.delists("A")
    await shop.drain()
    await shop.complete(await shop.claim_one(), "gone")
    assert (await shop.claim()).forgotten == ["A"]


async def test_a_sku_that_comes_back_during_its_delisting_is_sent_again(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.delists("A")
    await shop.drain()
    delisting = await shop.claim_one()
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await shop.complete(delisting, "applied")
    assert (await shop.claim_one()).push.quantity == 5


async def test_a_sku_that_was_never_sent_is_forgotten_without_a_word(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await shop.delists("A")
    await shop.drain(NO_QUIET)
    claim = await shop.claim()
    assert (claim.forgotten, claim.attempts) == (["A"], [])


async def test_other_identifiers_take_the_old_ones_off_sale_first(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("A", 5, ("PN-new", "brand"))
    await shop.drain(NO_QUIET)
    delisting = await shop.claim_one()
    assert (delisting.push.identifiers, delisting.push.quantity) == (("PN-A", "brand"), 0)
    await shop.complete(delisting, "applied")
    attempt = await shop.claim_one()
    assert (attempt.push.identifiers, attempt.push.quantity, attempt.is_delisting) == (
        ("PN-new", "brand"),
        5,
        False,
    )
    await shop.complete(attempt, "applied")
    row = await shop.row("A")
    assert (row["is_wanted"], row["acked_quantity"], row["due_at"]) == (False, 5, None)


async def test_identifiers_that_cannot_be_sent_still_take_the_old_ones_off_sale(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("A", 5, ("P" * 51, "brand"))
    await shop.drain(NO_QUIET)
    await shop.complete(await shop.claim_one(), "applied")
    assert (await shop.claim()).parked == {"A": "pn_code is too long"}


async def test_a_renamed_sku_with_the_same_identifiers_is_not_zeroed(shop: Shop) -> None:
    await shop.deliver("old", 5, ("PN", "brand"))
    await shop.sql.execute("UPDATE shop.goods SET sku = 'new'")
    await shop.drain(NO_QUIET)
    claim = await shop.claim()
    assert [(attempt.push.sku, attempt.push.quantity) for attempt in claim.attempts] == [("new", 5)]
    assert claim.forgotten == ["old"]
    await shop.complete(claim.attempts[0], "applied")
    row = await shop.row("new")
    assert (row["due_at"], row["doubt_at"]) == (None, None), "nothing of the old name is under way"
    assert await shop.find("old") is None


async def test_a_successor_of_a_doubt_is_confirmed_when_nothing_old_can_land(shop: Shop) -> None:
    await shop.sells("old", 5, ("PN", "brand"))
    await shop.drain(NO_QUIET)
    await shop.complete(await shop.claim_one(), "unknown")
    await shop.sql.execute("UPDATE shop.goods SET sku = 'new'")
    await shop.drain(NO_QUIET)
    claim = await shop.claim()
    assert [(attempt.push.sku, attempt.push.quantity) for attempt in claim.attempts] == [("new", 5)]
    await shop.complete(claim.attempts[0], "applied")
    assert (await shop.row("new"))["due_s"] == pytest.approx(60, abs=2)


async def test_a_successor_in_flight_is_confirmed_too(shop: Shop) -> None:
    """What was sent for the old name may land after the successor's request: its acknowledgement ends no doubt."""
    await shop.sells("old", 5, ("PN", "brand"))
    await shop.drain(NO_QUIET)
    old = await shop.claim_one()
    await shop.sql.execute("UPDATE shop.goods SET sku = 'new', quantity = 4")
    await shop.drain(NO_QUIET)
    new = await shop.claim_one()
    assert new.push.sku == "new"
    await shop.complete(old, "unknown")
    assert (await shop.claim()).forgotten == ["old"]
    await shop.complete(new, "applied")
    row = await shop.row("new")
    assert row["doubt_at"] is not None
    assert row["due_s"] == pytest.approx(60, abs=2)
    await shop.pass_time(61)
    attempt = await shop.claim_one()
    assert attempt.push.quantity == 4
    await shop.complete(attempt, "applied")
    assert (await shop.row("new"))["doubt_at"] is None


async def test_two_skus_that_swap_identifiers_go_by_zero(shop: Shop) -> None:
    """Neither answers for the other's identifiers while it still has its own to take off sale."""
    await shop.deliver("A", 5, ("X", "b"))
    await shop.deliver("B", 7, ("Y", "b"))
    await shop.sells("A", 5, ("Y", "b"))
    await shop.sells("B", 7, ("X", "b"))
    await shop.drain(NO_QUIET)
    marketplace = []
    for _ in range(2):
        claim = await shop.claim()
        marketplace.append({(a.push.identifiers[0], a.push.quantity) for a in claim.attempts})
        for attempt in claim.attempts:
            await shop.complete(attempt, "applied")
    assert marketplace == [{("X", 0), ("Y", 0)}, {("Y", 5), ("X", 7)}]
    await shop.pass_time(61)
    assert (await shop.claim()).captured == 0


async def test_a_successor_that_moves_on_before_it_was_sent_leaves_nothing_on_sale(shop: Shop) -> None:
    await shop.deliver("old", 5, ("PN", "brand"))
    await shop.sql.execute("UPDATE shop.goods SET sku = 'new'")
    await shop.drain()
    await shop.pass_time(1)
    assert (await shop.claim()).forgotten == ["old"], "it is urgent, the successor is not"
    await shop.sells("new", 5, ("PN-2", "brand"))
    await shop.drain(NO_QUIET)
    delisting = await shop.claim_one()
    assert (delisting.push.identifiers, delisting.push.quantity) == (("PN", "brand"), 0)
    await shop.complete(delisting, "applied")
    assert (await shop.claim_one()).push.identifiers == ("PN-2", "brand")


@pytest.mark.parametrize("moves", [True, False])
async def test_a_successor_that_moves_on_or_leaves_within_the_same_claim_leaves_nothing_on_sale(
    shop: Shop, moves: bool
) -> None:
    """The ledger still has the successor listed under the old identifiers; the listing, read by the claim, does not."""
    await shop.deliver("old", 5, ("PN", "brand"))
    await shop.sql.execute("UPDATE shop.goods SET sku = 'new'")
    await shop.drain(NO_QUIET)
    if moves:
        await shop.sells("new", 4, ("PN-2", "brand"))
    else:
        await shop.delists("new")
    claim = await shop.claim()
    assert [(a.push.identifiers, a.push.quantity) for a in claim.attempts] == [(("PN", "brand"), 0)]


async def test_a_parked_successor_takes_nothing_over(shop: Shop) -> None:
    await shop.deliver("old", 5, ("PN", "brand"))
    await shop.sql.execute("UPDATE shop.goods SET sku = 'new', quantity = 4")
    await shop.drain(NO_QUIET)
    due = "UPDATE stockrelay.ledger SET due_at = clock_timestamp() + $1 WHERE sku = 'old'"
    await shop.sql.execute(due, timedelta(hours=1))
    await shop.complete(await shop.claim_one(), "refused")
    await shop.sql.execute(due, timedelta(0))
    delisting = await shop.claim_one()
    assert (delisting.push.sku, delisting.push.quantity) == ("old", 0)
    await shop.complete(delisting, "applied")
    assert (await shop.claim()).forgotten == ["old"]
    await shop.pass_time(1000)
    row = await shop.row("new")
    assert (row["due_at"], row["parked_reason"]) == (None, "because refused")
    assert row["doubt_at"] is not None, "released, it is sent whatever was acknowledged"


# Leases


async def test_the_channels_troubles_are_kept_with_their_beginning(shop: Shop) -> None:
    from daemon.core.outcome import Kind, Outcome, Trouble

    cause = Outcome(Kind.TROUBLE, "wrong", Trouble.CREDENTIAL, advice="check")
    await shop.trouble(cause)
    (first,) = await shop.leases.troubles()
    await shop.trouble(cause)
    (second,) = await shop.leases.troubles()
    assert (first.trouble, first.reason, first.advice, first.since) == (
        "credential",
        "wrong",
        "check",
        second.since,
    )
    await shop.trouble(None)
    assert await shop.leases.troubles() == []
    assert timedelta(0) < SETTLE


async def test_an_attempt_says_whether_the_marketplace_has_taken_the_sku_under_these_identifiers(
    shop: Shop,
) -> None:
    assert not await shop.ledger.has_acknowledged()
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    assert not (await shop.claim_one()).is_known
    await shop.deliver("B", 5)
    assert await shop.ledger.has_acknowledged()
    await shop.sells("B", 4)
    await shop.drain(NO_QUIET)
    assert (await shop.claim_one()).is_known
