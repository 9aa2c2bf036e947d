"""Many replicas share a channel's slots: evenly, anew when one is gone, and the rate is the channel's."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Sequence

import pytest

from daemon.core.types import ChannelName
from daemon.simulator import Entry, HoldRequest, Throttle
from tests.acceptance.harness import Stage
from tests.acceptance.writers import writing
from tests.channels import CHANNELS, SEKORM, YMATOU

RATE_PER_S = 60.0
REBALANCED_WITHIN_S = 20.0
LEASE_S = 10.0
_ARRIVAL_S = 0.25
"""Requests that start apart may arrive together on a machine where everything shares two cores."""
_OWNERS = (
    "SELECT channel, slot, holder FROM stockrelay.lease"
    " WHERE holder IS NOT NULL AND until >= clock_timestamp() ORDER BY channel, slot"
)


async def _shares(stage: Stage) -> dict[ChannelName, list[int]]:
    """How many slots of each channel the replicas have, the most first."""
    held: defaultdict[ChannelName, Counter[str]] = defaultdict(Counter)
    for row in await stage.erp.fetch(_OWNERS):
        held[row["channel"]][row["holder"]] += 1
    return {channel: sorted(held[channel].values(), reverse=True) for channel in CHANNELS}


async def _shared(stage: Stage, shares: Sequence[int], timeout: float) -> None:
    """Wait until both channels' slots are shared like that."""
    wanted = {channel: list(shares) for channel in CHANNELS}
    async with asyncio.timeout(timeout):
        while await _shares(stage) != wanted:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.1)


def _most_above(entries: Sequence[Entry], rate_per_s: float) -> float:
    """By how many requests the worst window of any length was over rate times time."""
    worst = lowest = 0.0
    for count, entry in enumerate(sorted(entries, key=lambda one: one.received_at)):
        # What is over in the window from any request to this one: this one's height above the lowest before it.
        height = count - rate_per_s * entry.received_at
        lowest = height if count == 0 else min(lowest, height)
        worst = max(worst, height - lowest + 1)
    return worst


def _of(stage: Stage, channel: ChannelName) -> list[Entry]:
    return [entry for entry in stage.simulator.journal if entry.shop == channel]


@pytest.mark.settings(
    run={"lease_s": LEASE_S},
    channel={"concurrency": 8, "rate_per_s": RATE_PER_S, "timeout_s": 1.0, "settle_s": 11.5},
    ymatou={"batch_above": 0},
)
async def test_four_replicas_share_sixteen_slots_and_three_go_on(stage18: Stage) -> None:
    await stage18.fill(600)
    await stage18.migrate()
    replicas = [stage18.replica(name) for name in ("one", "two", "three", "four")]
    await asyncio.gather(*(replica.start() for replica in replicas))
    began = time.time()
    async with writing(stage18.database.dsn, 600, stage18.random, per_s=150) as load:
        await _shared(stage18, [4, 4, 4, 4], timeout=30)
        print(f"4-4-4-4 after {time.time() - began:.1f} s")  # noqa: T201
        owners = await stage18.erp.fetch(_OWNERS)
        before = len(stage18.simulator.journal)
        await stage18.simulator.wait_until(lambda: len(stage18.simulator.journal) > before + 500, timeout=40)
        assert await stage18.erp.fetch(_OWNERS) == owners, "nothing moves while no replica comes or goes"
        victim = replicas[0]
        killed_at = time.time()
        await victim.kill()
        await _shared(stage18, [6, 5, 5], timeout=REBALANCED_WITHIN_S)
        took_s = time.time() - killed_at
        print(f"6-5-5 {took_s:.1f} s after the kill")  # noqa: T201
        assert took_s < LEASE_S + 1 + 1, "a lease, a look, and what a busy machine takes"
        await victim.start()
        await _shared(stage18, [4, 4, 4, 4], timeout=REBALANCED_WITHIN_S)
        assert await replicas[1].stop() == 0
        await _shared(stage18, [6, 5, 5], timeout=REBALANCED_WITHIN_S)
    await stage18.converged(timeout=60)
    finding = await stage18.judged()
    print(f"{load.changes} changes; {finding}")  # noqa: T201
    assert stage18.simulator.stats.overlaps == []
    for channel in CHANNELS:
        entries = _of(stage18, channel)
        above = _most_above(entries, RATE_PER_S)
        print(f"{channel}: {len(entries)} requests, at most {above:.1f} above rate times time")  # noqa: T201
        # A tenth of a second's requests, or one for each replica, and what arrives late.
        assert above <= max(RATE_PER_S / 10, 4) + RATE_PER_S * _ARRIVAL_S
    await stage18.silent(replicas[2])


PACED = (
    "SELECT sku, part_no AS pn_code, brand AS brand_name, on_hand AS quantity FROM erp.stock"
    " WHERE (SELECT pg_sleep(s) FROM erp.pace) IS NOT NULL"
)


@pytest.mark.settings(
    sekorm={"listing": PACED}, channel={"timeout_s": 1.0, "settle_s": 4.0, "park_after": 99}
)
async def test_a_slow_listing_costs_no_slot_its_lease_and_the_other_channel_nothing(stage18: Stage) -> None:
    await stage18.erp.execute("CREATE TABLE erp.pace AS SELECT 0.0::float8 AS s")
    replica = await stage18.running(200)
    since = replica.mark()
    # Each claim takes twice as long as a lease.
    await stage18.erp.execute("UPDATE erp.pace SET s = 4.0")
    due = "UPDATE stockrelay.ledger SET doubt_at = now(), doubt_until = now(), due_at = now() WHERE channel = $1"
    await stage18.erp.execute(due, SEKORM)
    slow = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    lease_end = "SELECT min(until) FROM stockrelay.lease"
    async with asyncio.timeout(30):
        while await stage18.erp.fetchval(slow) < 1:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
        began = await stage18.erp.fetchval(lease_end)
        while (await stage18.erp.fetchval(lease_end) - began).total_seconds() < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await stage18.erp.execute(due, YMATOU)
    await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=YMATOU, times=200)
    assert await stage18.erp.fetchval(slow) >= 1, "it was slow until now"
    await stage18.erp.execute("UPDATE erp.pace SET s = 0")
    await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=SEKORM, times=200)
    assert not replica.find("slots.leases_not_renewed", since)
    assert not replica.find("slots.leases_expired", since)


@pytest.mark.settings(run={"lease_s": 2}, channel={"timeout_s": 30.0, "settle_s": 40.0, "park_after": 99})
async def test_a_slot_that_is_lost_with_the_channels_probe_does_not_hold_up_the_others(
    stage18: Stage,
) -> None:
    replica = await stage18.running(40)
    simulator = stage18.simulator
    shut = simulator.faults.add(Throttle(shop="sekorm"))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 55")
    await replica.wait_for("dispatch.breaker_opened", channel=SEKORM)
    probe = simulator.faults.add(HoldRequest(shop="sekorm", times=1))
    simulator.faults.remove(shut.id)
    await simulator.wait_until(lambda: probe.triggered == 1, timeout=30)
    claimed = "SELECT slot, sku FROM stockrelay.ledger WHERE channel = $1 AND attempt_id IS NOT NULL"
    async with asyncio.timeout(30):
        # Outcomes of the requests before it may not be written yet.
        while len(open_attempts := await stage18.erp.fetch(claimed, SEKORM)) != 1:  # noqa: ASYNC110 - a table
            await asyncio.sleep(0.02)
    lost, probed = open_attempts[0]["slot"], open_attempts[0]["sku"]
    # Another owner has it now, which never renews it and never gives it up.
    await stage18.erp.execute(
        "UPDATE stockrelay.lease SET epoch = epoch + 1, holder = 'somebody', until = 'infinity' "
        "WHERE channel = $1 AND slot = $2",
        SEKORM,
        lost,
    )
    line = await replica.wait_for("slots.leases_lost")
    assert (line["channel"], line["slots"]) == (SEKORM, [lost])
    others = await stage18.erp.fetch(
        "SELECT sku FROM stockrelay.ledger WHERE channel = $1 AND slot <> $2", SEKORM, lost
    )
    assert 0 < len(others) < 40
    await simulator.wait_for_state(
        SEKORM, {(row["sku"].replace("SKU", "PN"), "AMS"): 55 for row in others}, 20
    )
    assert simulator.state.quantity(SEKORM, (probed.replace("SKU", "PN"), "AMS")) == 100, (
        "its answer never came"
    )
