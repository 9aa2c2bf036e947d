"""A channel's sixteen slots: who owns which, what each may claim and write, and what the due rows of many cost."""

import asyncio
from collections import Counter
from datetime import timedelta

from daemon.core.outcome import Kind, Outcome
from daemon.core.types import SLOTS, Slot
from daemon.store.ledger import Debounce, Owner
from tests.store.place import Connection
from tests.store.shop import CHANNEL, EVERY_SLOT, LEASE, SETTLE, Shop

MANY = 60
NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)
HALF = EVERY_SLOT[: SLOTS // 2]
REST = EVERY_SLOT[SLOTS // 2 :]


async def stocked(shop: Shop, skus: int = MANY) -> set[str]:
    for number in range(skus):
        await shop.sells(f"SKU-{number}", number + 1)
    await shop.drain(NO_QUIET)
    return {f"SKU-{number}" for number in range(skus)}


async def shared(shop: Shop) -> tuple[Owner, Owner]:
    """Two processes with half of the slots each."""
    await shop.give_up(shop.owner)
    return await shop.take_free("one", HALF), await shop.take_free("two", REST)


async def test_a_sku_keeps_its_slot_and_every_slot_has_some(shop: Shop) -> None:
    await stocked(shop, 200)
    slots = Counter([row["slot"] for row in await shop.sql.fetch("SELECT slot FROM stockrelay.ledger")])
    assert set(slots) == set(range(SLOTS))
    assert max(slots.values()) < 40, "they are spread"
    before = await shop.slot("SKU-1")
    await shop.sells("SKU-1", 999)
    await shop.drain(NO_QUIET)
    assert await shop.slot("SKU-1") == before


async def test_owners_claim_from_their_own_slots_and_together_they_claim_all(shop: Shop) -> None:
    skus = await stocked(shop)
    claimed: Counter[str] = Counter()
    for owner in await shared(shop):
        attempts = (await shop.claim(owner=owner)).attempts
        assert len(attempts) > 10
        assert {attempt.slot for attempt in attempts} <= set(owner.epochs)
        claimed.update(attempt.push.sku for attempt in attempts)
    assert claimed == Counter(dict.fromkeys(skus, 1))


async def test_rows_of_all_slots_are_claimed_in_one_order_the_urgent_ones_first(shop: Shop) -> None:
    await stocked(shop, 40)
    await shop.sql.execute(
        """UPDATE stockrelay.ledger SET urgent = n.place % 4 = 0,
               due_at = clock_timestamp() - make_interval(secs => n.place)
           FROM (SELECT sku, row_number() OVER (ORDER BY md5(sku)) AS place FROM stockrelay.ledger) AS n
           WHERE ledger.sku = n.sku"""
    )
    rows = await shop.sql.fetch(
        "SELECT (d.entry).sku AS sku FROM stockrelay.due($1, $2, 30, 15) AS d", CHANNEL, EVERY_SLOT
    )
    wanted = await shop.sql.fetch("SELECT sku FROM stockrelay.ledger ORDER BY NOT urgent, due_at LIMIT 25")
    assert [row["sku"] for row in rows] == [row["sku"] for row in wanted], (
        "ten urgent ones, and fifteen others"
    )


async def test_a_slot_has_one_owner_until_its_lease_ends(shop: Shop, sql: Connection) -> None:
    first = shop.owner
    assert (await shop.take_free("two")).epochs == {}
    assert await shop.renews(first)
    await sql.execute("UPDATE stockrelay.lease SET until = '-infinity' WHERE slot < 4")
    assert await shop.renews(first), "no other has taken them"
    await sql.execute("UPDATE stockrelay.lease SET until = '-infinity' WHERE slot < 4")
    second = await shop.take_free("two")
    assert second.epochs == {Slot(number): first.epochs[Slot(number)] + 1 for number in range(4)}
    assert not await shop.renews(first)
    await shop.give_up(first)
    assert await shop.renews(second), "the old owner gives up nothing of the new one's"
    states = {state.slot: state.holder for state in await shop.leases.all()}
    assert states == {slot: "two" if slot < 4 else None for slot in EVERY_SLOT}


async def test_of_many_that_want_a_slot_one_gets_it(shop: Shop) -> None:
    await shop.give_up(shop.owner)
    owners = await asyncio.gather(*(shop.take_free(f"r{number}") for number in range(6)))
    taken = Counter(slot for owner in owners for slot in owner.epochs)
    assert taken == Counter(EVERY_SLOT)


async def test_a_process_takes_anew_what_it_holds_without_knowing(shop: Shop) -> None:
    again = await shop.take_free(shop.owner.holder)
    assert all(again.epochs[slot] == epoch + 1 for slot, epoch in shop.owner.epochs.items())


async def test_an_owner_that_lost_some_slots_claims_writes_and_rescues_in_the_others_alone(
    shop: Shop, sql: Connection
) -> None:
    await stocked(shop)
    first = shop.owner
    attempts = (await shop.claim(limit=30)).attempts
    await sql.execute("UPDATE stockrelay.lease SET until = '-infinity' WHERE slot < 8")
    second = await shop.take_free("two")
    assert set(second.epochs) == set(HALF)
    more = (await shop.claim(owner=first)).attempts
    assert {attempt.slot for attempt in more} <= set(REST)
    for attempt in attempts:
        await shop.complete(attempt, "applied", owner=first)
    open_slots = await sql.fetch(
        "SELECT slot FROM stockrelay.ledger WHERE attempt_id = ANY ($1)", [one.attempt_id for one in attempts]
    )
    assert {row["slot"] for row in open_slots} == {one.slot for one in attempts} & set(HALF)
    assert await shop.ledger.rescue(first.of(HALF), [], SETTLE) == 0
    assert await shop.ledger.rescue(second, [], SETTLE) == len(open_slots)


async def test_a_process_that_lost_a_slot_and_took_it_again_writes_nothing_of_before(shop: Shop) -> None:
    await stocked(shop, 1)
    attempt = await shop.claim_one()
    shop.owner = await shop.take_free(shop.owner.holder)
    assert not await shop.complete(attempt, "applied")
    assert (await shop.row("SKU-0"))["attempt_id"] == attempt.attempt_id, "its end is unknown"
    assert await shop.ledger.rescue(shop.owner, [], SETTLE) == 1


async def test_a_claim_locks_the_leases_of_the_slots_that_it_captured_from_alone(shop: Shop) -> None:
    await stocked(shop, 1)
    slot = await shop.slot("SKU-0")
    connection = await shop.place.connect()
    async with connection.transaction():
        # Another process takes over a slot from which nothing is due: that is not waited for.
        await connection.execute(
            "SELECT FROM stockrelay.lease WHERE channel = $1 AND slot <> $2 FOR UPDATE", CHANNEL, slot
        )
        await shop.complete(await asyncio.wait_for(shop.claim_one(), 5), "applied")
    assert not (await shop.row("SKU-0"))["is_wanted"]


async def test_replicas_write_their_outcomes_into_chains_of_their_own(shop: Shop) -> None:
    await stocked(shop)
    for owner in await shared(shop):
        for attempt in (await shop.claim(owner=owner)).attempts:
            await shop.complete(attempt, "applied", owner=owner)
    chains = await shop.sql.fetch("SELECT chain FROM stockrelay.attempt_chain ORDER BY chain")
    assert [row["chain"] for row in chains] == [f"{CHANNEL}/0", f"{CHANNEL}/8"]


async def test_a_replica_is_known_until_it_leaves_or_is_silent(shop: Shop) -> None:
    leases = shop.leases
    await leases.beat("one", [CHANNEL], LEASE)
    await leases.beat("two", [CHANNEL], LEASE)
    assert await leases.replicas() == {"one": {CHANNEL}, "two": {CHANNEL}}
    await leases.leave("one")
    assert set(await leases.replicas()) == {"two"}
    await leases.beat("two", [CHANNEL], timedelta(0))
    assert await leases.replicas() == {}
    await shop.sql.execute("UPDATE stockrelay.replica SET until = until - interval '2 minutes'")
    await leases.beat("three", [CHANNEL], LEASE)
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.replica") == 1


async def test_a_channel_is_in_trouble_as_long_as_one_of_its_owners_is(shop: Shop, sql: Connection) -> None:
    await shared(shop)
    leases = shop.leases
    await leases.set_trouble(CHANNEL, "one", Outcome(Kind.TROUBLE, "first"))
    await leases.set_trouble(CHANNEL, "two", Outcome(Kind.TROUBLE, "second"))
    await leases.set_trouble(CHANNEL, "three", Outcome(Kind.TROUBLE, "it owns no slot"))
    (trouble,) = await leases.troubles()
    assert trouble.reason == "first"
    await leases.set_trouble(CHANNEL, "one", None)
    (trouble,) = await leases.troubles()
    assert trouble.reason == "second"
    # It dies; the next owner has no trouble.
    await sql.execute("UPDATE stockrelay.lease SET until = '-infinity' WHERE holder = 'two'")
    await leases.set_trouble(CHANNEL, "one", None)
    assert await leases.troubles() == []
