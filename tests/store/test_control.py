"""A paused channel: nothing is claimed for it, by anybody, until it goes on."""

import asyncio

from daemon.store.control import Pauses
from tests.channels import YMATOU
from tests.store.shop import CHANNEL, EVERY_SLOT, SETTLE, Shop, opened


async def test_nothing_is_claimed_while_the_channel_is_paused(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(3)
    pauses = Pauses(shop.database)
    pause, in_flight = await pauses.pause(CHANNEL, "somebody", "stocktaking")
    assert (pause.by, pause.reason, in_flight) == ("somebody", "stocktaking", 0)
    assert (await shop.claim()).captured == 0
    assert (await shop.ledger.next_due(EVERY_SLOT)).change is None, "a dispatcher would ask again and again"
    await shop.sells("A", 7)
    await shop.drain()
    await shop.pass_time(3)
    assert await pauses.resume(CHANNEL) == pause
    assert (await shop.claim_one()).push.quantity == 7, "the newest number goes out"


async def test_another_channels_pause_is_not_ours(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(3)
    await Pauses(shop.database).pause(YMATOU, "somebody", "")
    assert (await shop.claim()).captured == 1


async def test_what_is_in_flight_ends_normally(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(3)
    attempt = await shop.claim_one()
    _, in_flight = await Pauses(shop.database).pause(CHANNEL, "somebody", "")
    assert in_flight == 1
    await shop.complete(attempt, "applied")
    row = await shop.row("A")
    assert (row["acked_quantity"], row["attempt_id"]) == (5, None)


async def test_a_pause_outlasts_claims_that_had_begun_and_holds_up_no_renewal(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(3)
    # A claim that stands still before its commit: it has locked its slot's lease, and looked before the pause.
    claiming = await shop.place.connect()
    transaction = claiming.transaction()
    await transaction.start()
    await claiming.execute(
        "SELECT FROM stockrelay.lease WHERE channel = $1 AND slot = 3 FOR KEY SHARE", CHANNEL
    )
    async with opened(shop.place) as other, asyncio.timeout(20):
        pausing = asyncio.create_task(Pauses(other.database).pause(CHANNEL, "somebody", ""))
        while not await Pauses(shop.database).all():
            assert not pausing.done()
        assert await shop.renews(shop.owner)
        # A claim that begins now sees the pause already.
        assert (await shop.ledger.claim(shop.owner, 10, SETTLE)).captured == 0
        assert not pausing.done()
        await transaction.rollback()
        await pausing


async def test_a_channel_that_never_ran_can_be_paused(shop: Shop) -> None:
    await shop.sql.execute("DELETE FROM stockrelay.lease")
    _, in_flight = await Pauses(shop.database).pause(CHANNEL, "somebody", "")
    assert in_flight == 0


async def test_pausing_again_keeps_the_time_and_takes_the_new_reason(shop: Shop) -> None:
    pauses = Pauses(shop.database)
    first, _ = await pauses.pause(CHANNEL, "one", "first")
    second, _ = await pauses.pause(CHANNEL, "two", "second")
    assert (second.since, second.by, second.reason) == (first.since, "two", "second")
    assert await pauses.all() == {CHANNEL: second}


async def test_resuming_what_was_not_paused_says_so(shop: Shop) -> None:
    assert await Pauses(shop.database).resume(CHANNEL) is None


async def test_resuming_wakes_the_slots_owners(shop: Shop) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = await shop.place.connect()
    await listener.add_listener("stockrelay", lambda *words: heard.put_nowait(words[-1]))
    pauses = Pauses(shop.database)
    await pauses.pause(CHANNEL, "one", "")
    await pauses.resume(CHANNEL)
    async with asyncio.timeout(20):
        assert await heard.get() == f"marked {CHANNEL}"
