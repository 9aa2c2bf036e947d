"""What is read for `explain`, `attempts` and `parked`, and what an operator does with parked SKUs."""

from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.explain.explanation import explain_sku
from daemon.core.explain.facts import ExplainSettings, Facts, SkuState, state
from daemon.core.times import TimeFormat
from daemon.core.types import Sku
from daemon.store.answers import Answers
from daemon.store.control import Pauses
from daemon.store.listing import ChannelListing
from daemon.store.parked import Parked
from tests.channels import YMATOU
from tests.store.shop import CHANNEL, DEBOUNCE, LISTING, SETTLE, Shop, opened, problem

KEPT = ExplainSettings(DEBOUNCE.max_wait, timedelta(seconds=5), SETTLE, timedelta(hours=1))
COLUMNS = ("pn_code", "brand_name")


async def facts(shop: Shop, sku: str, listing: str = LISTING) -> Facts:
    return await Answers(shop.database).facts(ChannelListing(CHANNEL, listing, COLUMNS), Sku(sku), KEPT, 5)


async def parked(shop: Shop, *skus: str) -> None:
    """The marketplace refuses these."""
    for sku in skus:
        await shop.sells(sku, 5)
    await shop.drain()
    await shop.pass_time(3)
    for attempt in sorted((await shop.claim()).attempts, key=lambda one: one.push.sku):
        await shop.complete(attempt, "refused")


# What `explain` reads


async def test_facts_hold_listing_ledger_and_attempts(shop: Shop) -> None:
    await shop.deliver("A", 5)
    found = await facts(shop, "A")
    assert state(found, problem) is SkuState.IN_SYNC
    assert found.listing == ({"sku": "A", "pn_code": "PN-A", "brand_name": "brand", "quantity": 5},)
    assert found.row is not None
    assert (found.row.acked_quantity, found.row.identifiers) == (5, ("PN-A", "brand"))
    assert [(one.quantity, one.outcome, one.duration_ms) for one in found.attempts] == [(5, "applied", 7.0)]
    assert (found.has_owner, found.is_unread, found.paused, found.trouble) == (True, False, None, None)


async def test_every_column_of_the_listing_is_told_in_its_order(shop: Shop) -> None:
    await shop.sells("A", "5.50")
    found = await facts(
        shop, "A", "SELECT 1 AS zeal, sku, pn AS pn_code, brand AS brand_name, quantity FROM shop.goods"
    )
    assert list(found.listing[0]) == ["zeal", "sku", "pn_code", "brand_name", "quantity"]
    assert found.listing[0]["quantity"] == "5.50", "as the server writes it"
    assert found.listed is not None
    assert found.listed.quantity == 5


async def test_a_change_that_is_not_read_yet_is_known(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("B", 1)
    assert not (await facts(shop, "A")).is_unread
    await shop.sells("A", 4)
    found = await facts(shop, "A")
    assert found.is_unread
    assert state(found, problem) is SkuState.BEHIND


async def test_a_listing_that_fails_is_told_and_the_rest_is_still_read(shop: Shop) -> None:
    await shop.deliver("A", 5)
    found = await facts(
        shop, "A", "SELECT sku, pn AS pn_code, brand AS brand_name, qty AS quantity FROM shop.goods"
    )
    assert found.listing_problem is not None
    assert 'column "qty" does not exist' in found.listing_problem
    assert found.row is not None
    assert state(found, problem) is SkuState.UNREADABLE


async def test_pause_trouble_and_a_missing_owner_are_told(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await Pauses(shop.database).pause(CHANNEL, "ann", "stocktaking")
    await Pauses(shop.database).pause(YMATOU, "ann", "other")
    await shop.give_up(shop.owner)
    found = await facts(shop, "A")
    assert found.paused is not None
    assert found.paused.words == "by ann: stocktaking"
    assert not found.has_owner


async def test_what_comes_next_is_what_the_claim_then_does(shop: Shop) -> None:
    """The narration and the claim go by the same decision, in each of these states."""
    await shop.deliver("A", 5)
    await shop.deliver("successor", 3)
    changes = {
        "number": ("A", 4, None, "4 is sent as PN-A / brand"),
        "same": ("A", 5, None, "nothing is sent: the marketplace holds 5 already"),
        "renamed": ("A", 5, ("PN-B", "brand"), "0 is sent as PN-A / brand, which it has left"),
        "unfit": ("A", 5, ("PN-" + "x" * 60, "brand"), "0 is sent as PN-A / brand"),
    }
    for name, (sku, number, identifiers, words) in changes.items():
        await shop.sells(sku, number, identifiers)
        await shop.sql.execute("UPDATE stockrelay.ledger SET due_at = clock_timestamp() WHERE sku = $1", sku)
        found = await facts(shop, sku)
        told = explain_sku(found, problem, TimeFormat(found.now, UTC)).next
        assert words in told, name
        claim = await shop.claim()
        if attempts := claim.attempts:
            assert f"{attempts[0].push.quantity} is sent as " in told, name
            await shop.complete(attempts[0], "not_sent")
        else:
            assert "nothing is sent" in told
            assert claim.settled == [sku]


async def next_step_of(shop: Shop, sku: str) -> str:
    """What is said of a row that is due now."""
    await shop.sql.execute("UPDATE stockrelay.ledger SET due_at = clock_timestamp() WHERE sku = $1", sku)
    found = await facts(shop, sku)
    return explain_sku(found, problem, TimeFormat(found.now, UTC)).next


async def test_parking_forgetting_and_waiting_are_explained_beforehand(shop: Shop) -> None:
    await shop.deliver("parked", 0)
    await shop.sells("parked", 4, ("", "brand"))
    assert await next_step_of(shop, "parked") == "Now, it is parked: pn_code is missing."
    assert (await shop.claim()).parked == {"parked": "pn_code is missing"}
    await shop.deliver("gone", 0)
    await shop.delists("gone")
    assert await next_step_of(shop, "gone") == "Now, it is forgotten: the marketplace holds no number of it."
    assert (await shop.claim()).forgotten == ["gone"]
    await shop.deliver("doubted", 5)
    await shop.sells("doubted", 4)
    await shop.drain()
    await shop.pass_time(3)
    for outcome in ("unknown", "applied"):
        assert "4 is sent as PN-doubted / brand" in await next_step_of(shop, "doubted")
        await shop.complete(await shop.claim_one(), outcome)
    assert (await next_step_of(shop, "doubted")).startswith("4 is confirmed ")
    claim = await shop.claim()
    assert (claim.captured, claim.attempts, claim.settled) == (1, [], [])
    row = await shop.row("doubted")
    assert row["due_at"] == row["doubt_until"]
    found = await facts(shop, "doubted")
    assert "which ends the doubt" in explain_sku(found, problem, TimeFormat(found.now, UTC)).next


# Names


async def test_a_marketplaces_identifier_leads_to_the_sku(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("new", 5)
    answers, listing = Answers(shop.database), ChannelListing(CHANNEL, LISTING, COLUMNS)
    assert await answers.sold_as(listing, "PN-A") == ["A"]
    assert await answers.sold_as(listing, "PN-new") == ["new"], "listed, and not in the ledger yet"
    assert await answers.sold_as(listing, "brand") == []


async def test_candidates_come_from_ledger_and_listing_and_are_bounded(shop: Shop) -> None:
    await shop.sql.execute("INSERT INTO shop.goods SELECT 'AB-' || i FROM generate_series(1, 3000) AS i")
    await shop.sql.execute(
        "INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows) VALUES ($1, 'ab 2999x', 1, 0)",
        CHANNEL,
    )
    answers, listing = Answers(shop.database), ChannelListing(CHANNEL, LISTING, COLUMNS)
    found = await answers.candidates(listing, "ab2999")
    assert {"AB-2999", "ab 2999x", "AB-299"} <= set(found)
    assert len(found) <= 400
    broken = ChannelListing(CHANNEL, "SELECT nothing", COLUMNS)
    assert await answers.candidates(broken, "ab2999") == ["ab 2999x"]


# The attempt log


async def test_attempts_are_found_by_channel_sku_time_and_outcome(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await parked(shop, "B")
    answers = Answers(shop.database)

    async def found(**wanted: object) -> list[str]:
        asked = {"sku": None, "since": None, "outcomes": (), "limit": 10} | wanted
        return [one.sku for one in await answers.attempts([CHANNEL], **asked)]  # type: ignore[arg-type]

    assert await found() == ["B", "A"], "the newest first"
    assert await found(limit=1) == ["B"]
    assert await found(sku="A") == ["A"]
    assert await found(outcomes=["refused", "unknown"]) == ["B"]
    assert await found(since=datetime.now(UTC) + timedelta(minutes=1)) == []
    assert await found(since=datetime.now(UTC) - timedelta(minutes=1)) == ["B", "A"]
    assert await answers.attempts([YMATOU], sku=None, since=None, outcomes=(), limit=10) == []


async def test_only_the_days_asked_for_are_read(shop: Shop) -> None:
    from daemon.store import queries

    plan = await shop.sql.fetch(
        "EXPLAIN " + queries.load("answers")["attempts"],
        datetime.now(UTC), [CHANNEL], None, None, 10,
    )  # fmt: skip
    tables = {word for row in plan for word in row[0].split() if word.startswith("attempt_2")}
    today = await shop.sql.fetchval("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    assert tables
    assert min(tables) >= f"attempt_{today}"


# Parked SKUs


async def test_parked_skus_are_listed_with_their_reasons(shop: Shop) -> None:
    await parked(shop, "A", "B")
    store = Parked(shop.database, CHANNEL)
    assert [(one.sku, one.reason, one.quantity) for one in await store.all(10, with_discarded=False)] == [
        ("B", "because refused", 5),
        ("A", "because refused", 5),
    ]
    assert len(await store.all(1, with_discarded=False)) == 1
    assert await store.count() == (2, 0)


async def test_a_discarded_sku_stays_parked_and_is_left_out(shop: Shop) -> None:
    await parked(shop, "A", "B")
    store = Parked(shop.database, CHANNEL)
    assert await store.discard([Sku("A"), Sku("nobody")]) == ["A"]
    assert [one.sku for one in await store.all(10, with_discarded=False)] == ["B"]
    assert [one.sku for one in await store.all(10, with_discarded=True)] == ["B", "A"]
    assert await store.count() == (2, 1)
    # Another number changes nothing of what was refused.
    await shop.sells("A", 9)
    await shop.drain()
    await shop.pass_time(3)
    assert (await shop.claim()).captured == 0
    assert await store.count() == (2, 1)


async def test_a_discarded_sku_whose_data_changes_is_tried_and_told_of_again(shop: Shop) -> None:
    await parked(shop, "A")
    store = Parked(shop.database, CHANNEL)
    await store.discard([Sku("A")])
    await shop.sells("A", 5, ("PN-other", "brand"))
    await shop.drain()
    await shop.pass_time(3)
    attempt = await shop.claim_one()
    if attempt.is_delisting:
        await shop.complete(attempt, "gone")
        attempt = await shop.claim_one()
    assert attempt.push.identifiers == ("PN-other", "brand")
    await shop.complete(attempt, "refused")
    assert await store.count() == (1, 0), "parked anew is news again"


async def test_a_retried_sku_is_due_at_once_with_its_newest_number(shop: Shop) -> None:
    await parked(shop, "A", "B")
    await shop.sells("A", 9)
    await shop.drain()
    store = Parked(shop.database, CHANNEL)
    await store.discard([Sku("A")])
    assert await store.retry([Sku("A"), Sku("nobody")], 10) == ["A"]
    attempt = await shop.claim_one()
    assert (attempt.push.sku, attempt.push.quantity, attempt.failures) == ("A", 9, 0)
    await shop.complete(attempt, "applied")
    row = await shop.row("A")
    assert (row["acked_quantity"], row["parked_at"], row["discarded_at"], row["due_at"]) == (
        9,
        None,
        None,
        None,
    )
    assert await store.count() == (1, 0)


async def test_a_retried_sku_that_is_still_refused_is_parked_again(shop: Shop) -> None:
    await parked(shop, "A")
    store = Parked(shop.database, CHANNEL)
    await store.retry([Sku("A")], 10)
    await shop.complete(await shop.claim_one(), "refused")
    assert await store.count() == (1, 0)


async def test_a_retried_sell_out_goes_ahead(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sells("A", 4)
    await shop.drain()
    await shop.pass_time(3)
    await shop.complete(await shop.claim_one(), "parked")
    await shop.sells("A", 0)
    await shop.drain()
    await shop.sql.execute("UPDATE stockrelay.ledger SET urgent = false")
    await Parked(shop.database, CHANNEL).retry([Sku("A")], 10)
    assert (await shop.row("A"))["urgent"]


async def test_retrying_all_is_spread_over_time(shop: Shop) -> None:
    await parked(shop, *(f"S{number}" for number in range(30)))
    assert len(await Parked(shop.database, CHANNEL).retry(None, 10)) == 30
    spread = await shop.sql.fetchrow(
        "SELECT extract(epoch FROM max(due_at) - min(due_at))::float8 AS all_of_them, count(due_at) AS due "
        "FROM stockrelay.ledger"
    )
    assert spread is not None
    assert spread["due"] == 30
    assert spread["all_of_them"] == pytest.approx(2.9, abs=0.2)


async def test_what_is_not_parked_is_not_touched_by_a_retry(shop: Shop) -> None:
    await shop.deliver("A", 5)
    assert await Parked(shop.database, CHANNEL).retry(None, 10) == []
    assert (await shop.row("A"))["due_at"] is None


async def test_two_databases_do_not_mix_channels(shop: Shop) -> None:
    await parked(shop, "A")
    async with opened(shop.place) as other:
        assert await Parked(other.database, YMATOU).retry(None, 10) == []
        assert await Parked(other.database, YMATOU).count() == (0, 0)


async def test_what_reconcile_saw_is_among_the_facts(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.sql.execute(
        "INSERT INTO stockrelay.difference (channel, class, sku, state, ours, theirs, first_seen, last_seen, "
        "times_seen, heals, last_run, last_status) "
        "VALUES ($1, 'marketplace_differs', 'A', 'open', 5, 9, now(), now(), 1, 1, 1, 'opened')",
        CHANNEL,
    )
    found = await facts(shop, "A")
    assert [(one.kind, one.status, one.ours, one.theirs) for one in found.differences] == [
        ("marketplace_differs", "opened", 5, 9)
    ]
