"""Between a claim's first statement and its last: no session waits, and only what still holds is written."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from daemon.core.types import Epoch
from daemon.store.ledger import Claim
from tests.store.place import TIMEOUT, Place
from tests.store.shop import CHANNEL, Shop, opened
from tests.store.test_channels_apart import NO_QUIET

# Does not end while the gate is closed; a reading in one statement shows what was there when it began.
GATED = "SELECT sku, pn AS pn_code, brand AS brand_name, quantity FROM shop.goods WHERE (SELECT erp.gate())"
GATE = """
CREATE TABLE erp.closed (); INSERT INTO erp.closed DEFAULT VALUES;
CREATE FUNCTION erp.gate() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM erp.closed) LOOP
        PERFORM pg_sleep(0.005);
    END LOOP;
    RETURN true;
END $$;
"""


class Between:
    """A claim that is reading the listing, until `ends`."""

    def __init__(self, shop: Shop, gated: Shop) -> None:
        self.shop = shop
        self._gated = gated

    async def begins(self) -> None:
        self._claim = asyncio.create_task(self._gated.claim(owner=self.shop.owner))
        async with asyncio.timeout(TIMEOUT):
            while not await self.shop.sql.fetchval(  # noqa: ASYNC110 - the server sends no event
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
            ):
                await asyncio.sleep(0.005)

    async def ends(self) -> Claim:
        assert not self._claim.done()
        await self.shop.sql.execute("DELETE FROM erp.closed")
        return await self._claim


@pytest.fixture
async def between(shop: Shop, place: Place) -> AsyncIterator[Between]:
    await shop.sql.execute(GATE)
    async with opened(place, GATED) as gated:
        yield Between(shop, gated)


async def test_a_marking_does_not_wait_for_a_claim_and_what_it_marks_stays_due(between: Between) -> None:
    shop = between.shop
    await shop.deliver("A", 9)
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await between.begins()
    await shop.sells("A", 0)
    assert (await shop.drain(NO_QUIET)).marked.urgent == 1
    (attempt,) = (await between.ends()).attempts
    assert attempt.push.quantity == 5, "what changes all the time is sent all the same"
    await shop.complete(attempt, "applied")
    row = await shop.row("A")
    assert (row["is_wanted"], row["urgent"]) == (True, True)
    newer = await shop.claim_one()
    assert newer.push.quantity == 0
    await shop.complete(newer, "applied")
    assert not (await shop.row("A"))["is_wanted"]


@pytest.mark.parametrize("decision", ["settled", "parked", "forgotten"])
async def test_what_is_decided_of_a_row_that_has_changed_is_not_written(
    decision: str, between: Between
) -> None:
    shop = between.shop
    await shop.deliver("A", 5)
    if decision == "parked":
        await shop.sells("A", None)
    elif decision == "forgotten":
        await shop.sells("A", 0)
        await shop.drain(NO_QUIET)
        await shop.complete(await shop.claim_one(), "applied")
        await shop.delists("A")
    await shop.sql.execute(
        "UPDATE stockrelay.ledger SET due_at = clock_timestamp(), want_seq = nextval('stockrelay.want_seq')"
    )
    await between.begins()
    await shop.sells("A", 7)
    await shop.drain(NO_QUIET)
    claim = await between.ends()
    assert (claim.attempts, claim.settled, claim.parked, claim.forgotten) == ([], [], {}, [])
    assert (await shop.claim_one()).push.quantity == 7


@pytest.mark.parametrize(
    "event",
    [
        "INSERT INTO stockrelay.pause (channel, paused_by, reason) VALUES ($1, 'x', 'y')",
        "UPDATE stockrelay.lease SET epoch = epoch + 1, holder = 'two' WHERE channel = $1",
        "UPDATE stockrelay.lease SET holder = 'two' WHERE channel = $1",
        "UPDATE stockrelay.ledger SET held_at = clock_timestamp(), due_at = NULL WHERE channel = $1",
        "UPDATE stockrelay.ledger SET parked_at = clock_timestamp(), due_at = NULL WHERE channel = $1",
        "UPDATE stockrelay.ledger SET identifiers = '{PN-B,brand}' WHERE channel = $1",
        """UPDATE stockrelay.ledger SET attempt_id = 0, attempt_epoch = 0, attempt_seq = 0, attempt_quantity = 0,
           attempt_at = now(), attempt_settles = true WHERE channel = $1""",
        "DELETE FROM stockrelay.ledger WHERE channel = $1",
    ],
)
async def test_nothing_is_opened_that_may_not_be_sent_any_more(event: str, between: Between) -> None:
    shop = between.shop
    await shop.deliver("A", 9)
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await between.begins()
    await shop.sql.execute(event, CHANNEL)
    assert (await between.ends()).attempts == []


async def test_a_row_that_somebody_is_writing_is_left_to_the_next_claim(
    between: Between, place: Place
) -> None:
    shop = between.shop
    for sku in ("A", "B"):
        await shop.sells(sku, 5)
    await shop.drain(NO_QUIET)
    await between.begins()
    other = await place.connect()
    async with other.transaction():
        await other.execute("SELECT FROM stockrelay.ledger WHERE sku = 'A' FOR UPDATE")
        assert [attempt.push.sku for attempt in (await between.ends()).attempts] == ["B"]
    assert (await shop.claim_one()).push.sku == "A"


async def test_a_doubt_that_begins_meanwhile_is_not_cleared_by_the_attempt(between: Between) -> None:
    shop = between.shop
    await shop.deliver("A", 9)
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await between.begins()
    await shop.sql.execute(
        "UPDATE stockrelay.ledger SET doubt_at = clock_timestamp(), doubt_until = clock_timestamp() + interval '1 min'"
    )
    (attempt,) = (await between.ends()).attempts
    await shop.complete(attempt, "applied")
    assert (await shop.row("A"))["doubt_at"] is not None


async def test_attempts_of_an_epoch_that_ended_are_written_by_nobody(shop: Shop) -> None:
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    stale = shop.owner
    await shop.take("two")
    assert all(shop.owner.epochs[slot] > epoch > Epoch(0) for slot, epoch in stale.epochs.items())
    assert (await shop.claim(owner=stale)).captured == 0


async def test_an_owner_renews_its_lease_while_it_claims(between: Between) -> None:
    shop = between.shop
    await shop.sells("A", 5)
    await shop.drain(NO_QUIET)
    await between.begins()
    assert await asyncio.wait_for(shop.renews(shop.owner), TIMEOUT)
    assert len((await between.ends()).attempts) == 1
