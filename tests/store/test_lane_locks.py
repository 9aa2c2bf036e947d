"""What a claim locks: it holds up who takes the lane over, and nobody else."""

import asyncio

from daemon.core.types import Lane
from tests.store.place import TIMEOUT, Connection, Place
from tests.store.shop import LANE, LEASE, LISTING, SETTLE, Shop, opened

SLOW = LISTING + " WHERE pg_advisory_xact_lock_shared(4711) IS NOT NULL"


async def _claiming(slow: Shop, sql: Connection) -> asyncio.Task[object]:
    """A claim whose listing takes as long as `sql` holds a lock."""
    task: asyncio.Task[object] = asyncio.create_task(slow.ledger.claim(slow.owner, 10, SETTLE))
    async with asyncio.timeout(TIMEOUT):
        while not await sql.fetchval(  # noqa: ASYNC110 - the server tells nobody
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        ):
            await asyncio.sleep(0.005)
    return task


async def test_an_owner_renews_its_lease_while_it_claims_and_nobody_takes_the_lane(
    shop: Shop, place: Place, sql: Connection
) -> None:
    await shop.sells("A", 5)
    await shop.drain()
    await shop.pass_time(100)
    owner = await shop.take()
    async with opened(place, SLOW) as slow:
        slow.owner = owner
        await sql.execute("SELECT pg_advisory_lock(4711)")
        claim = await _claiming(slow, sql)
        assert await asyncio.wait_for(shop.lanes.renew(owner, LEASE), 1.0)
        await sql.execute("UPDATE stockrelay.lease SET until = '-infinity'")
        taking = asyncio.create_task(shop.lanes.take(Lane(LANE), "two", LEASE))
        done, _ = await asyncio.wait({taking}, timeout=0.3)
        assert not done
        await sql.execute("SELECT pg_advisory_unlock(4711)")
        await claim
        second = await asyncio.wait_for(taking, TIMEOUT)
        assert second is not None
        # It waited, and sees the attempt.
        assert await shop.ledger.recover(second, [], SETTLE) == 1
