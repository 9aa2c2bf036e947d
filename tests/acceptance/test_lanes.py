"""Many replicas, many lanes: shared evenly, shared anew when one is gone, and the rate is the channel's (I9)."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from daemon.core.types import ChannelName
from daemon.simulator import Entry, Hold, Throttle
from tests.acceptance.harness import Stage
from tests.acceptance.replica import Replica
from tests.acceptance.writers import writing
from tests.channels import CHANNELS, SEKORM, YMATOU

RATE_PER_S = 60.0
REBALANCED_WITHIN_S = 20.0
_ARRIVAL_S = 0.25
"""Requests that start apart may arrive together: so much on a machine where everything shares two cores."""
_OWNERS = "SELECT lane, holder FROM stockrelay.lease WHERE holder IS NOT NULL AND until >= clock_timestamp()"


async def _shares(stage: Stage) -> dict[str, int]:
    """How many lanes each replica has, by its holder's name."""
    return Counter(row["holder"] for row in await stage.erp.fetch(_OWNERS))


async def _shared(stage: Stage, shares: Sequence[int], timeout: float) -> dict[str, int]:
    """Wait until the lanes are shared like that; return by whom."""
    async with asyncio.timeout(timeout):
        while sorted((found := await _shares(stage)).values()) != sorted(shares):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return found


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


# The lease is the default.
@pytest.mark.settings(
    run={"lease_s": 10},
    channel={"lanes": 4, "concurrency": 8, "rate_per_s": RATE_PER_S, "timeout_s": 1.0, "settle_s": 11.5},
    ymatou={"batch_above": 0},
)
async def test_four_replicas_share_eight_lanes_and_three_go_on(stage18: Stage) -> None:
    await stage18.fill(600)
    await stage18.migrate()
    replicas = [stage18.replica(name) for name in ("one", "two", "three", "four")]
    await asyncio.gather(*(replica.start() for replica in replicas))
    began = time.time()
    async with writing(stage18.database.dsn, 600, stage18.random, per_s=150) as load:
        owners = await _shared(stage18, [2, 2, 2, 2], timeout=30)
        print(f"2-2-2-2 after {time.time() - began:.1f} s")  # noqa: T201
        before = len(stage18.simulator.journal)
        await stage18.simulator.wait_until(lambda: len(stage18.simulator.journal) > before + 500, timeout=40)
        assert await _shares(stage18) == owners, "nothing moves while nobody comes or goes"
        victim = replicas[0]
        killed_at = time.time()
        await victim.kill()
        await _shared(stage18, [3, 3, 2], timeout=REBALANCED_WITHIN_S)
        print(f"3-3-2 {time.time() - killed_at:.1f} s after the kill")  # noqa: T201
        await victim.start()
        await _shared(stage18, [2, 2, 2, 2], timeout=REBALANCED_WITHIN_S)
        assert await replicas[1].stop() == 0
        await _shared(stage18, [3, 3, 2], timeout=REBALANCED_WITHIN_S)
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


@pytest.mark.settings(run={"lease_s": 2}, channel={"timeout_s": 1.0, "settle_s": 4.0, "rate_per_s": 300})
async def test_a_channel_is_divided_anew_while_changes_flow(stage18: Stage) -> None:
    first = await stage18.running(300)
    async with writing(stage18.database.dsn, 300, stage18.random, per_s=100):
        stage18.configure(channel={"lanes": 3})
        second = stage18.replica("two")
        await second.start()
        await _until_divided(stage18, 3)
        await _shared(stage18, [3, 3], timeout=20)
        await _go_on(first, second)
    await stage18.converged()
    finding = await stage18.judged()
    assert finding.doubts == 0, "owners give their lanes up in order"
    assert stage18.simulator.stats.overlaps == []
    lanes = (await stage18.status())["channels"]["sekorm"]["lanes"]
    assert [lane["lane"] for lane in lanes] == ["sekorm/1", "sekorm/2", "sekorm/3"]
    assert all(lane["owner"] for lane in lanes)


async def _until_divided(stage: Stage, lanes: int) -> None:
    async with asyncio.timeout(20):
        while await stage.erp.fetchval("SELECT min(lanes) FROM stockrelay.division") != lanes:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _go_on(*replicas: Replica) -> None:
    for replica in replicas:
        await replica.wait_for("dispatch.delivery_acknowledged", since=replica.mark(), times=50)


PACED = (
    "SELECT sku, part_no AS pn_code, brand AS brand_name, on_hand AS quantity FROM erp.stock"
    " WHERE (SELECT pg_sleep(s) FROM erp.pace) IS NOT NULL"
)
LANES = 8


@pytest.mark.settings(
    sekorm={"lanes": LANES, "listing": PACED}, channel={"timeout_s": 1.0, "settle_s": 4.0, "park_after": 99}
)
async def test_a_slow_listing_costs_no_lane_its_lease_and_the_other_channel_nothing(stage18: Stage) -> None:
    await stage18.erp.execute("CREATE TABLE erp.pace AS SELECT 0.0::float8 AS s")
    await stage18.fill(200)
    await stage18.migrate()
    replica = stage18.replica()
    await replica.start()
    await replica.wait_for("lane.lease_taken", times=LANES + 1)
    await stage18.converged()
    since = replica.mark()
    # Each claim takes twice as long as a lease, and there are as many lanes as connections.
    await stage18.erp.execute("UPDATE erp.pace SET s = 4.0")
    due = "UPDATE stockrelay.ledger SET doubt_at = now(), doubt_until = now(), due_at = now() WHERE channel = $1"
    await stage18.erp.execute(due, SEKORM)
    slow = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    lease_end = "SELECT until FROM stockrelay.lease WHERE lane = 'ymatou'"
    async with asyncio.timeout(30):
        while await stage18.erp.fetchval(slow) < 2:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
        began = await stage18.erp.fetchval(lease_end)
        while (await stage18.erp.fetchval(lease_end) - began).total_seconds() < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await stage18.erp.execute(due, YMATOU)
    await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=YMATOU, times=200)
    assert await stage18.erp.fetchval(slow) >= 1, "it was slow until now"
    await stage18.erp.execute("UPDATE erp.pace SET s = 0")
    await replica.wait_for("dispatch.delivery_acknowledged", since=since, channel=SEKORM, times=200)
    assert not replica.find("lane.lease_unavailable", since)
    assert not replica.find("lane.lease_expired", since)


@pytest.mark.settings(
    run={"lease_s": 2}, sekorm={"lanes": 2}, channel={"timeout_s": 30.0, "settle_s": 40.0, "park_after": 99}
)
async def test_a_lane_that_is_lost_with_the_channels_probe_does_not_hold_up_the_others(
    stage18: Stage,
) -> None:
    replica = stage18.replica()
    await stage18.fill(20)
    await stage18.migrate()
    await replica.start()
    await stage18.converged()
    simulator = stage18.simulator
    shut = simulator.faults.add(Throttle(shop="sekorm"))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 55")
    await replica.wait_for("dispatch.channel_paused", channel=SEKORM)
    probe = simulator.faults.add(Hold(shop="sekorm", times=1))
    simulator.faults.remove(shut.id)
    await simulator.wait_until(lambda: probe.met == 1, timeout=30)
    claimed = "SELECT lane, sku FROM stockrelay.ledger WHERE channel = $1 AND attempt_id IS NOT NULL"
    async with asyncio.timeout(30):
        # Outcomes of the requests before it may not be written yet.
        while len(open_attempts := await stage18.erp.fetch(claimed, SEKORM)) != 1:  # noqa: ASYNC110 - a table
            await asyncio.sleep(0.02)
    lost, probed = open_attempts[0]["lane"], open_attempts[0]["sku"]
    # Somebody else has it now, who never renews it and never gives it up.
    await stage18.erp.execute(
        "UPDATE stockrelay.lease SET epoch = epoch + 1, holder = 'somebody', until = 'infinity' "
        "WHERE channel = $1 AND number = $2",
        SEKORM,
        lost,
    )
    await replica.wait_for("lane.lease_lost")
    others = await stage18.erp.fetch(
        "SELECT sku FROM stockrelay.ledger WHERE channel = $1 AND lane <> $2", SEKORM, lost
    )
    assert 0 < len(others) < 20
    await simulator.wait_for_state(
        SEKORM, {(row["sku"].replace("SKU", "PN"), "AMS"): 55 for row in others}, 20
    )
    assert simulator.state.quantity(SEKORM, (probed.replace("SKU", "PN"), "AMS")) == 100, (
        "its answer never came"
    )
