"""The daemon is killed with SIGKILL, again and again, while stock changes."""

import asyncio

import pytest

from daemon.simulator import Delay
from tests.acceptance.harness import Stage
from tests.acceptance.writers import writing

KILLS = 10
SKUS = 1_000


@pytest.mark.timeout(240)
@pytest.mark.settings(
    # Longer than the lease, the slowest request below and the timeout together.
    run={"lease_s": 1.0},
    channel={"timeout_s": 1.0, "settle_s": 5.0, "concurrency": 16, "rate_per_s": 600},
)
async def test_ten_kills_under_load_lose_nothing_and_keep_the_order(stage: Stage) -> None:
    replica = await stage.running(SKUS)
    faults = stage.simulator.faults
    faults.add(Delay(seconds=0.02, probability=0.5, seed=stage.seed))
    faults.add(Delay(seconds=0.2, probability=0.2, seed=stage.seed + 1))
    # Slower than a new owner is in place: what was sent before the kill lands after newer numbers.
    faults.add(Delay(seconds=3.0, probability=0.05, seed=stage.seed + 2))
    since = 0
    async with writing(stage.database.dsn, SKUS, stage.random, writers=2, per_s=150) as load:
        while replica.kills < KILLS:
            if replica.kills % 4 == 3:
                # Killed again while it starts.
                await replica.wait_for("run.started", since=since)
                await asyncio.sleep(stage.random.uniform(0, 0.5))
            else:
                await _wait_for_writes(stage, 30)
                await asyncio.sleep(stage.random.uniform(0, 0.2))  # so that every kill hits another moment
            await replica.kill()
            since = replica.mark()
            await replica.start()
    faults.clear()
    await replica.wait_for("doorbell.listening", since=since)
    took = await stage.converged(timeout=60)
    print(f"{load.changes} changes, {replica.kills} kills, converged {took:.1f} s after the last")  # noqa: T201
    finding = await stage.judged()
    assert replica.kills >= KILLS
    assert replica.find("dispatch.attempts_rescued"), "no kill hit a request in flight"
    assert finding.doubts > 0
    assert stage.simulator.stats.overlaps == []
    await stage.silent(replica)


async def _wait_for_writes(stage: Stage, writes: int) -> None:
    before = len(stage.simulator.journal)
    await stage.simulator.wait_until(lambda: len(stage.simulator.journal) >= before + writes, timeout=30)
