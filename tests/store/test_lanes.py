"""A channel in several lanes: each claims its own SKUs, and a new division loses none."""

import asyncio
from collections import Counter
from datetime import timedelta

from daemon.core.outcome import Kind, Outcome
from daemon.core.types import Lane
from daemon.store.lanes import LaneState
from daemon.store.ledger import Debounce, Owner
from tests.store.place import Connection
from tests.store.shop import CHANNEL, LANE, LEASE, SETTLE, Shop, opened

MANY = 60
NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)


async def divided(shop: Shop, lanes: int) -> list[LaneState]:
    """Have the channel in so many lanes; nobody owns one."""
    await shop.lanes.give_up(shop.owner)
    await shop.lanes.want(CHANNEL, lanes)
    assert await shop.lanes.divide(CHANNEL) == lanes
    return await shop.lanes.all()


async def taken(shop: Shop, lane: Lane, holder: str = "one") -> Owner:
    owner = await shop.lanes.take(lane, holder, LEASE)
    assert owner is not None
    return owner


async def stocked(shop: Shop, skus: int = MANY) -> set[str]:
    for number in range(skus):
        await shop.sells(f"SKU-{number}", number + 1)
    await shop.drain(NO_QUIET)
    return {f"SKU-{number}" for number in range(skus)}


async def test_lanes_are_named_and_numbered(shop: Shop) -> None:
    assert [state.lane for state in await shop.lanes.all()] == [LANE]
    states = await divided(shop, 3)
    assert [(state.lane, state.number) for state in states] == [
        ("sekorm/1", 0),
        ("sekorm/2", 1),
        ("sekorm/3", 2),
    ]
    assert [state.lane for state in await divided(shop, 1)] == [LANE]


async def test_every_lane_claims_its_own_skus_and_together_they_claim_all(shop: Shop) -> None:
    states = await divided(shop, 4)
    skus = await stocked(shop)
    claimed: Counter[str] = Counter()
    for state in states:
        claim = await shop.ledger.claim(await taken(shop, state.lane), 100, SETTLE)
        assert len(claim.attempts) > 5, "the SKUs are spread"
        claimed.update(attempt.push.sku for attempt in claim.attempts)
    assert claimed == Counter(dict.fromkeys(skus, 1))


async def test_what_waits_is_divided_anew_with_the_channel(shop: Shop) -> None:
    skus = await stocked(shop)
    for lanes in (8, 3, 1, 5):
        claimable: set[str] = set()
        for state in await divided(shop, lanes):
            owner = await taken(shop, state.lane)
            due = await shop.sql.fetch(
                "SELECT (d.entry).sku AS sku FROM stockrelay.due($1, $2, 100, 100) AS d",
                CHANNEL,
                state.number,
            )
            assert not claimable & {row["sku"] for row in due}
            claimable |= {row["sku"] for row in due}
            await shop.lanes.give_up(owner)
        assert claimable == skus


async def test_nothing_is_divided_while_somebody_owns_a_lane_and_nothing_is_taken_meanwhile(
    shop: Shop,
) -> None:
    await divided(shop, 2)
    owner = await taken(shop, Lane("sekorm/1"))
    await shop.lanes.want(CHANNEL, 4)
    assert await shop.lanes.divide(CHANNEL) is None
    assert await shop.lanes.take(Lane("sekorm/2"), "two", LEASE) is None
    assert [state.is_settled for state in await shop.lanes.all()] == [False, False]
    assert await shop.lanes.renew(owner, LEASE)
    await shop.lanes.give_up(owner)
    assert await shop.lanes.divide(CHANNEL) == 4
    assert await shop.lanes.divide(CHANNEL) is None, "it is done"


async def test_an_owner_from_before_writes_nothing(shop: Shop) -> None:
    await stocked(shop, 1)
    attempt = await shop.claim_one()
    before = shop.owner
    await shop.sql.execute("UPDATE stockrelay.lease SET until = '-infinity'")
    await shop.lanes.want(CHANNEL, 2)
    assert await shop.lanes.divide(CHANNEL) == 2
    assert not await shop.lanes.renew(before, LEASE)
    assert (await shop.claim(owner=before)).looked_at == 0
    await shop.complete(attempt, "applied", owner=before)
    row = await shop.sql.fetchrow("SELECT lane, attempt_id FROM stockrelay.ledger")
    assert row is not None
    assert row["attempt_id"] == attempt.attempt_id, "its end is unknown"
    # The lane's new owner finds it; the other's does not.
    recovered = []
    for name in ("sekorm/1", "sekorm/2"):
        owner = await taken(shop, Lane(name))
        assert owner.epoch > before.epoch
        recovered.append(await shop.ledger.recover(owner, [], SETTLE))
    assert recovered == [int(row["lane"] == 0), int(row["lane"] == 1)]


async def test_markings_beside_divisions_leave_no_sku_without_a_lane(shop: Shop) -> None:
    await shop.lanes.give_up(shop.owner)
    stop = asyncio.Event()

    async def mark() -> None:
        for number in range(400):
            if stop.is_set():
                break
            await shop.sells(f"N-{number}", 5)
            await shop.drain(NO_QUIET)

    async def divide() -> int:
        done = 0
        for lanes in (8, 1, 6, 2, 7, 1, 5, 2):
            await shop.lanes.want(CHANNEL, lanes)
            done += await shop.lanes.divide(CHANNEL) is not None
            await asyncio.sleep(0)
        stop.set()
        return done

    _, done = await asyncio.gather(mark(), divide())
    assert done == 8
    lanes = await shop.sql.fetch("SELECT DISTINCT lane FROM stockrelay.ledger")
    assert {row["lane"] for row in lanes} <= {0, 1}


async def test_replicas_divide_once(shop: Shop) -> None:
    await shop.lanes.give_up(shop.owner)
    await shop.lanes.want(CHANNEL, 4)
    divisions = await asyncio.gather(*(shop.lanes.divide(CHANNEL) for _ in range(5)))
    assert sorted(divisions, key=str) == [4, None, None, None, None]


async def test_a_replica_is_known_until_it_leaves_or_is_silent(shop: Shop) -> None:
    await shop.lanes.beat("one", [CHANNEL], LEASE)
    await shop.lanes.beat("two", [CHANNEL], LEASE)
    assert await shop.lanes.replicas() == {"one": {CHANNEL}, "two": {CHANNEL}}
    await shop.lanes.leave("one")
    assert set(await shop.lanes.replicas()) == {"two"}
    await shop.lanes.beat("two", [CHANNEL], timedelta(0))
    assert await shop.lanes.replicas() == {}
    await shop.sql.execute("UPDATE stockrelay.replica SET until = until - interval '2 minutes'")
    await shop.lanes.beat("three", [CHANNEL], LEASE)
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.replica") == 1


async def test_a_channel_is_in_trouble_as_long_as_one_of_its_lanes_is(shop: Shop) -> None:
    one, two = [await taken(shop, state.lane) for state in await divided(shop, 2)]
    await shop.lanes.set_trouble(one, CHANNEL, Outcome(Kind.TROUBLE, "first"))
    await shop.lanes.set_trouble(two, CHANNEL, Outcome(Kind.TROUBLE, "second"))
    (trouble,) = await shop.lanes.troubles()
    assert trouble.reason == "first"
    await shop.lanes.set_trouble(one, CHANNEL, None)
    (trouble,) = await shop.lanes.troubles()
    assert trouble.reason == "second"
    await shop.lanes.set_trouble(two, CHANNEL, None)
    assert await shop.lanes.troubles() == []


async def test_who_has_lost_a_lane_says_nothing_of_it_any_more(shop: Shop, sql: Connection) -> None:
    await shop.lanes.set_trouble(shop.owner, CHANNEL, Outcome(Kind.TROUBLE, "cut off"))
    lost = shop.owner
    await sql.execute("UPDATE stockrelay.lease SET until = '-infinity'")
    await shop.lanes.set_trouble(await taken(shop, LANE, "two"), CHANNEL, None)
    await shop.lanes.set_trouble(lost, CHANNEL, Outcome(Kind.TROUBLE, "cut off"))
    assert await shop.lanes.troubles() == []


async def test_a_marking_says_which_lanes_it_is_about(shop: Shop) -> None:
    await divided(shop, 8)
    await shop.sells("A", 5)
    (lane,) = (await shop.drain(NO_QUIET)).marked.lanes
    assert lane == await shop.sql.fetchval("SELECT lane FROM stockrelay.ledger")


async def test_a_division_waits_for_a_claim_under_way(shop: Shop) -> None:
    await stocked(shop, 1)
    async with opened(shop.place) as other:
        async with other.database.transaction("a claim") as claiming:
            await claiming.execute("SELECT FROM stockrelay.lease WHERE lane = $1 FOR KEY SHARE", LANE)
            await shop.sql.execute("UPDATE stockrelay.lease SET until = '-infinity'")
            await shop.lanes.want(CHANNEL, 2)
            dividing = asyncio.create_task(shop.lanes.divide(CHANNEL))
            await asyncio.wait([dividing], timeout=0.2)
            assert not dividing.done()
        assert await dividing == 2
