"""Channels in shadow: what is claimed there, and how they become live."""

from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest

from daemon.core.plan import Listed
from daemon.core.types import Sku
from daemon.store.live import LiveChannels, why_shadow
from daemon.store.reconcile import Reconciles
from tests.store.place import Place
from tests.store.playbook import AT_ONCE
from tests.store.shop import CHANNEL, EVERY_SLOT, LEASE, Shop, opened


@pytest.fixture
async def shop(place: Place) -> AsyncIterator[Shop]:
    """A channel that is new to the database, with three SKUs that were read."""
    async with opened(place) as shop:
        await shop.take()
        await shop.sql.execute("DELETE FROM stockrelay.live")
        for sku, quantity in (("A", 5), ("B", 0), ("C", 7)):
            await shop.sells(sku, quantity)
        await shop.resync(AT_ONCE)
        yield shop


async def lines(shop: Shop, sku: str = "A") -> list[int]:
    """The numbers that the attempt log has of a SKU, all of them in shadow."""
    rows = await shop.sql.fetch(
        "SELECT quantity, outcome FROM stockrelay.attempt WHERE sku = $1 ORDER BY attempt_id", sku
    )
    assert {row["outcome"] for row in rows} <= {"shadow"}
    return [row["quantity"] for row in rows]


async def test_no_attempt_is_opened_for_a_channel_that_is_not_live(shop: Shop) -> None:
    captured = await shop.claim()
    assert (captured.captured, captured.attempts, captured.is_live) == (3, [], False)
    assert {(push.sku, push.quantity) for push, is_new in captured.shadowed if is_new} == {
        ("A", 5),
        ("B", 0),
        ("C", 7),
    }
    await shop.sync()
    assert (await shop.claim_turn()).attempts == [], "nor for a sync"


async def test_a_number_is_logged_once_until_it_changes(shop: Shop) -> None:
    await shop.claim()
    assert await lines(shop) == [5]
    # A change that leaves the number as it is does not even make it due.
    await shop.sells("A", 5)
    await shop.drain(AT_ONCE)
    assert (await shop.claim()).captured == 0
    await shop.sells("A", 4)
    await shop.drain(AT_ONCE)
    assert [(push.quantity, is_new) for push, is_new in (await shop.claim()).shadowed] == [(4, True)]
    # Made due for another reason, it is decided again, and says nothing new.
    await shop.sql.execute("UPDATE stockrelay.ledger SET due_at = now() WHERE sku = 'A'")
    assert [(push.quantity, is_new) for push, is_new in (await shop.claim()).shadowed] == [(4, False)]
    assert await lines(shop) == [5, 4]
    # A comparison of everything finds what no change has named.
    await shop.sells("A", 3)
    await shop.sql.execute("DELETE FROM stockrelay.change_0; DELETE FROM stockrelay.change_1")
    assert (await shop.resync(AT_ONCE)).marked.rows == 1
    await shop.claim()
    assert await lines(shop) == [5, 4, 3]


async def test_what_cannot_be_sent_is_parked_in_shadow_too(shop: Shop) -> None:
    await shop.sells("C", 7, ("", "brand"))
    await shop.drain(AT_ONCE)
    claim = await shop.claim()
    assert claim.parked == {"C": "pn_code is missing"}


async def test_rows_in_shadow_are_neither_due_nor_late(shop: Shop) -> None:
    await shop.claim()
    backlog = await shop.ledger.backlog()
    assert (backlog.backlog, backlog.shadowed, backlog.oldest) == (0, 3, None)
    due = await shop.ledger.next_due(EVERY_SLOT)
    assert (due.change, due.sync, due.is_live) == (None, None, False)


async def test_what_was_claimed_in_shadow_is_due_once_the_channel_is_live_and_not_before(shop: Shop) -> None:
    await shop.claim()
    assert await shop.ledger.end_shadow(EVERY_SLOT, 100) == 0
    assert await why_shadow(shop.database, CHANNEL, is_shadow=False) is not None
    live_channels = LiveChannels(shop.database)
    live = await live_channels.begin(CHANNEL, "ann", "here")
    assert live is not None
    assert await live_channels.begin(CHANNEL, "bob", "there") is None, "it is live already"
    assert (await live_channels.all())[CHANNEL].by == "ann"
    assert await why_shadow(shop.database, CHANNEL, is_shadow=False) is None
    assert [await shop.ledger.end_shadow(EVERY_SLOT, 2) for _ in range(3)] == [2, 1, 0]
    claim = await shop.claim()
    assert {(one.push.sku, one.push.quantity) for one in claim.attempts} == {("A", 5), ("B", 0), ("C", 7)}
    assert claim.is_live


async def test_an_attempt_is_not_opened_when_the_channel_was_taken_back_meanwhile(shop: Shop) -> None:
    await LiveChannels(shop.database).begin(CHANNEL, "ann", "here")
    work = shop.ledger._listed

    async def taken_back(*words: object, **more: object) -> dict[Sku, Listed]:
        await shop.sql.execute("DELETE FROM stockrelay.live")
        return await work(*words, **more)  # type: ignore[arg-type]

    shop.ledger._listed = taken_back  # type: ignore[method-assign]
    claim = await shop.claim()
    assert (claim.captured, claim.is_live, claim.attempts) == (3, True, [])
    assert claim.is_blocked


async def test_shadow_by_configuration_holds_for_a_live_channel(shop: Shop) -> None:
    await LiveChannels(shop.database).begin(CHANNEL, "ann", "here")
    claim = await shop.claim(is_shadow=True)
    assert (claim.is_live, len(claim.shadowed), claim.attempts) == (True, 3, [])
    # Another replica that is configured to send makes them due for itself.
    assert await shop.ledger.end_shadow(EVERY_SLOT, 100) == 3
    assert len((await shop.claim()).attempts) == 3


async def test_the_first_day_is_counted_from_the_ledger(shop: Shop) -> None:
    live_channels = LiveChannels(shop.database)
    await shop.sells("D", 70_000, ("PN-A", "brand"))
    await shop.drain(AT_ONCE)
    assert await live_channels.is_undecided(CHANNEL)
    await shop.claim()
    assert not await live_channels.is_undecided(CHANNEL)
    facts = await live_channels.listing_summary(CHANNEL)
    assert facts.compared_at is not None
    assert (facts.listed, facts.zeroes, facts.sharing) == (4, 1, 2)
    assert [one.sku for one in facts.largest][:2] == ["D", "C"]
    assert [one.sku for one in facts.first] == ["A", "B", "C", "D"]
    assert facts.shared[0].twins == ("D",)
    assert facts.as_answer()["first"][0] == {"sku": "A", "as": "PN-A / brand", "quantity": 5}


@pytest.mark.timeout(30)
async def test_a_large_channel_goes_live_in_seconds_whatever_the_statistics_say(shop: Shop) -> None:
    many = 20_000
    await shop.sql.execute(
        "INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows, listed_identifiers, listed_quantity, "
        "unacked_since, due_at, shadow_quantity, shadow_identifiers) "
        "SELECT $1, 'S' || i, i, 1, ARRAY['S' || i], 5, now(), 'infinity', 5, ARRAY['S' || i] "
        "FROM generate_series(1, $2::integer) AS i",
        CHANNEL,
        many,
    )
    runs = Reconciles(shop.database)
    run = await runs.begin_by_hand(CHANNEL, date(2026, 3, 7), "one", LEASE, is_dry=True)
    await shop.sql.execute(
        "INSERT INTO stockrelay.reconcile_read SELECT $1, i / 100 + 1, 'P' || i, 'S' || i, 5, true "
        "FROM generate_series(1, $2::integer) AS i",
        run.run_id,
        many,
    )
    live_channels = LiveChannels(shop.database)
    assert (await live_channels.compared_with_marketplace(run)).equal == many
    assert await live_channels.begin(CHANNEL, "ann", "here", reading=run) is not None
    clean = "SELECT count(*) FROM stockrelay.ledger WHERE acked_quantity = 5 AND acked_seq = want_seq"
    assert await shop.sql.fetchval(clean) == many


async def test_a_channel_that_waits_is_notified_after_a_while_and_then_once_a_day(shop: Shop) -> None:
    live, after, every = LiveChannels(shop.database), timedelta(hours=4), timedelta(days=1)

    async def posted() -> list[int]:
        await live.post_waiting(CHANNEL, after, every)
        sql = "SELECT data ->> 'listed' AS listed FROM stockrelay.notice WHERE kind = 'channel_waits' ORDER BY id"
        return [int(row["listed"]) for row in await shop.sql.fetch(sql)]

    await shop.sql.execute("INSERT INTO stockrelay.channel_account VALUES ($1, 'x', 'y')", CHANNEL)
    assert await posted() == []
    await shop.sql.execute("UPDATE stockrelay.channel_account SET since = now() - interval '3 days'")
    assert (await posted(), await posted()) == ([3], [3])
    await shop.sql.execute(
        "UPDATE stockrelay.notice SET created_at = now() - interval '25 hours', key = key || 'old'"
    )
    assert await posted() == [3, 3]
    await shop.sql.execute(
        "UPDATE stockrelay.notice SET created_at = now() - interval '25 hours', key = key || 'old'"
    )
    await live.begin(CHANNEL, "ann", "here")
    assert await posted() == [3, 3]
