"""Two sessions at the same rows, in an order that locks make certain."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.store.database import Database
from daemon.store.ledger import Debounce
from tests.store.place import Connection, Place
from tests.store.shop import LISTING, SETTLE, TIMEOUT, Shop, opened

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)
ANY_BLOCKED = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
)


async def somebody_waits(observer: Connection) -> None:
    """Return when a session of the store waits for a lock."""
    async with asyncio.timeout(TIMEOUT.total_seconds()):
        while not await observer.fetchval(ANY_BLOCKED):  # noqa: ASYNC110 - the server says it to those who ask
            await asyncio.sleep(0.005)


async def test_a_change_marked_while_a_claim_is_open_is_a_new_want(shop: Shop, sql: Connection) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    # The claim stops at its last step: it wants the attempt's number.
    await sql.execute("BEGIN; LOCK TABLE stockrelay.ledger IN SHARE MODE")
    claim = asyncio.create_task(shop.claim())
    await somebody_waits(shop.sql)
    await shop.sells("A", 4)
    drain = asyncio.create_task(shop.drain(NO_QUIET))
    await sql.execute("COMMIT")
    # Whichever comes first: an older number is sent before the change, or nothing is.
    attempts = (await claim).attempts
    await drain
    for attempt in attempts:
        await shop.complete(attempt, "applied")
    while (row := await shop.row("A"))["is_wanted"]:
        await shop.complete(await shop.claim_one(), "applied")
    assert row["acked_quantity"] == 4


async def test_a_number_that_came_back_while_a_claim_read_the_other_one_is_sent(
    shop: Shop, sql: Connection
) -> None:
    """5 is acknowledged and in doubt. A claim for its confirmation reads 7; before it is written the ERP is back at 5.

    The reading must not take the 5 that was acknowledged for what the marketplace is about to hold.
    """
    await shop.deliver("A", 5)
    await shop.sells("A", 6)
    await shop.drain(NO_QUIET)
    await shop.complete(await shop.claim_one(), "unknown")
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await shop.complete(await shop.claim_one(), "applied")
    await shop.pass_time(61)
    row = await shop.row("A")
    assert (row["is_wanted"], row["acked_quantity"]) == (False, 5)

    await shop.sells("A", 7)
    # The listing is read (7), and that statement is held up before the attempt is written.
    await sql.execute("SELECT pg_advisory_lock(78)")
    async with opened(
        shop.place,
        LISTING + " WHERE pg_advisory_lock_shared(78) IS NOT NULL",
    ) as slow:
        slow.owner = shop.owner
        claim = asyncio.create_task(slow.claim_one())
        await somebody_waits(shop.sql)
        await shop.sells("A", 5)
        drain = asyncio.create_task(shop.drain(NO_QUIET))
        await asyncio.wait([drain], timeout=0.3)
        await sql.execute("SELECT pg_advisory_unlock(78)")
        attempt = await claim
        await drain
        assert attempt.push.quantity == 7
        await shop.complete(attempt, "applied")
        assert (await shop.row("A"))["is_wanted"]
        assert (await shop.claim_one()).push.quantity == 5


async def test_an_outcome_written_while_a_mark_is_open_keeps_the_new_want(
    shop: Shop, sql: Connection
) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    attempt = await shop.claim_one()
    await shop.sells("A", 4)
    # The marking transaction, by hand: it has marked and not yet committed.
    async with shop.database.transaction("marking") as marking:
        await shop.ledger.mark(marking, ["A"], NO_QUIET)
        complete = asyncio.create_task(shop.complete(attempt, "applied"))
        await somebody_waits(sql)
    await complete
    row = await shop.row("A")
    assert (row["is_wanted"], row["acked_quantity"]) == (True, 5)
    assert (await shop.claim_one()).push.quantity == 4


async def test_a_mark_that_waits_for_an_outcome_sees_it(shop: Shop, sql: Connection) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    attempt = await shop.claim_one()
    await sql.execute("BEGIN; SELECT * FROM stockrelay.ledger FOR UPDATE")
    complete = asyncio.create_task(shop.complete(attempt, "unknown"))
    await somebody_waits(shop.sql)
    await shop.sells("A", 4)
    drain = asyncio.create_task(shop.drain(NO_QUIET))
    await asyncio.wait([drain], timeout=0.2)
    await sql.execute("COMMIT")
    await asyncio.gather(complete, drain)
    row = await shop.row("A")
    assert row["is_wanted"]
    assert row["doubt_at"] is not None
    assert (await shop.claim_one()).push.quantity == 4


async def test_a_sku_that_comes_back_while_it_is_forgotten_is_marked_anew(
    shop: Shop, sql: Connection
) -> None:
    await shop.deliver("A", 5)
    await shop.delists("A")
    await shop.drain(NO_QUIET)
    await shop.complete(await shop.claim_one(), "applied")
    # The claim that forgets has deleted the row and not yet committed.
    await sql.execute("BEGIN; DELETE FROM stockrelay.ledger WHERE sku = 'A'")
    await shop.sells("A", 6)
    drain = asyncio.create_task(shop.drain(NO_QUIET))
    await somebody_waits(shop.sql)
    await sql.execute("COMMIT")
    await drain
    row = await shop.row("A")
    assert (row["is_wanted"], row["acked_quantity"]) == (True, None)
    assert (await shop.claim_one()).push.quantity == 6


async def test_a_claim_that_waits_for_a_takeover_claims_nothing(shop: Shop, sql: Connection) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await sql.execute("BEGIN; UPDATE stockrelay.lease SET epoch = epoch + 1, holder = 'two'")
    claim = asyncio.create_task(shop.claim())
    await somebody_waits(shop.sql)
    await sql.execute("COMMIT")
    assert (await claim).attempts == []
    assert (await shop.row("A"))["attempt_id"] is None


async def test_an_outcome_that_waits_for_a_takeover_is_not_written(shop: Shop, sql: Connection) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    attempt = await shop.claim_one()
    await sql.execute("BEGIN; UPDATE stockrelay.lease SET epoch = epoch + 1, holder = 'two'")
    complete = asyncio.create_task(shop.complete(attempt, "applied"))
    await somebody_waits(shop.sql)
    await sql.execute("COMMIT")
    assert not await complete
    assert (await shop.row("A"))["attempt_id"] == attempt.attempt_id
    assert await shop.attempts() == []


async def test_two_intakes_mark_a_change_once(shop: Shop) -> None:
    async with opened(shop.place) as other:
        for number in range(20):
            await shop.sells("A", number)
            drained = await asyncio.gather(shop.drain(NO_QUIET), other.drain(NO_QUIET))
            marked = [one.marked.rows for one in drained]
            assert sum(marked) <= 1, drained
    assert (await shop.claim_one()).push.quantity == 19


async def test_marks_claims_and_outcomes_at_once_end_with_the_last_number(shop: Shop) -> None:
    """Everything at once on few SKUs; what is acknowledged last is what the ERP says, and no step fails for good."""
    skus = [f"S{number}" for number in range(6)]
    marketplace: dict[str, int] = {}
    stop = asyncio.Event()

    async def trade(of: list[str]) -> None:
        session = await shop.place.connect()
        for sku in of:
            await session.execute("INSERT INTO shop.goods VALUES ($1, $1, 'b', 0)", sku)
        for quantity in range(1, 60):
            for sku in of:
                await session.execute("UPDATE shop.goods SET quantity = $2 WHERE sku = $1", sku, quantity % 7)

    async def drain() -> None:
        while not stop.is_set():
            await shop.drain(NO_QUIET)

    async def dispatch() -> None:
        while not stop.is_set():
            claim = await shop.claim(limit=4)
            for attempt in claim.attempts:
                marketplace[attempt.push.sku] = attempt.push.quantity
                await shop.complete(attempt, "applied")

    services = [asyncio.create_task(run) for run in (drain(), drain(), dispatch())]
    await asyncio.gather(trade(skus[:3]), trade(skus[3:]))
    stop.set()
    await asyncio.gather(*services)
    await shop.drain(NO_QUIET)
    for attempt in (await shop.claim()).attempts:
        marketplace[attempt.push.sku] = attempt.push.quantity
        await shop.complete(attempt, "applied")
    assert marketplace == dict.fromkeys(skus, 59 % 7)
    assert (await shop.ledger.backlog()).backlog == 0
    assert await shop.ledger.rescue(shop.owner, [], SETTLE) == 0
    assert await shop.renews(shop.owner)


@pytest.mark.parametrize("is_pooled", [False, True])
async def test_a_database_whose_default_is_serializable_is_no_other(fresh: Place, is_pooled: bool) -> None:
    """Behind a pooler no setting can be sent along: the transactions that rely on it say so themselves."""
    await (await fresh.connect()).execute(
        f"ALTER DATABASE {fresh.name} SET default_transaction_isolation = 'serializable'"
    )
    database = Database(replace(fresh.options(), is_pooled=is_pooled), 2)
    await database.open()
    try:
        shop = Shop(fresh, database, database, await fresh.connect(), LISTING)
        await shop.take()
        await shop.deliver("A", 5)
        assert await shop.changelog.rotate(timedelta(0)) == "switched"
        assert await shop.changelog.rotate(timedelta(0)) == "emptied"
    finally:
        await database.close()
