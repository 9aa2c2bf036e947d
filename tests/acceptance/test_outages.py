"""The database restarts, the doorbell's connection is swallowed, a marketplace is down: it goes on, and comes back."""

import asyncio
import statistics
import time

import pytest

from daemon.simulator import Delay
from tests.acceptance.harness import IS_LONG, Stage
from tests.acceptance.proxy import Proxy
from tests.acceptance.replica import at
from tests.acceptance.writers import writing
from tests.channels import SEKORM, YMATOU

OUTAGE_S = 60.0 if IS_LONG else 10.0
NOTICED_WITHIN_S = 10.0


# At level debug each change of state is written, however many there are.
@pytest.mark.settings(
    run={"lease_s": 1.5}, channel={"timeout_s": 1.0, "settle_s": 3.0}, log={"level": "debug"}
)
async def test_restarts_of_the_database_under_load_lose_nothing(stage: Stage) -> None:
    replica = await stage.running(300)
    stage.simulator.faults.add(Delay(seconds=0.1, probability=0.3, seed=stage.seed))
    async with writing(stage.database.dsn, 300, stage.random, writers=3, per_s=150) as load:
        for crash in ("immediate", "kill", "immediate"):
            since = replica.mark()
            await replica.wait_for("dispatch.delivery_acknowledged", since=since, times=40)
            await asyncio.sleep(stage.random.uniform(0, 0.2))  # so that every restart hits another moment
            server = stage.database.server
            if crash == "kill":
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            else:
                await asyncio.to_thread(server.restart, "immediate")
            await replica.wait_for("doorbell.listening", since=since)
    await stage.reconnect()
    stage.simulator.faults.clear()
    took = await stage.converged()
    print(f"{load.changes} changes, {load.lost_connections} connections lost, converged {took:.1f} s after")  # noqa: T201
    assert load.lost_connections >= 3
    delayed = ("dispatch.claim_delayed", "dispatch.outcomes_delayed", "intake.reading_delayed")
    assert any(replica.find(event) for event in delayed), "no restart hit the daemon at work"
    assert len(replica.find("doorbell.lost")) >= 3
    await stage.judged()
    assert stage.simulator.stats.overlaps == []
    await stage.silent(replica)


@pytest.mark.timeout(300)
async def test_a_swallowed_doorbell_is_noticed_and_polling_goes_on(stage18: Stage) -> None:
    async with Proxy(stage18.database.server.port) as proxy:
        listen_dsn = f"postgresql://postgres@127.0.0.1:{proxy.port}/{stage18.database.name}"
        stage18.configure(database={"listen_dsn": listen_dsn})
        replica = await stage18.running(100)
        async with writing(stage18.database.dsn, 100, stage18.random, per_s=50) as load:
            proxy.swallow()
            began, swallowed_at, before = time.monotonic(), time.time(), load.changes
            since = replica.mark()
            line = await replica.wait_for("doorbell.lost", since=since, timeout=NOTICED_WITHIN_S + 5)
            noticed_s = at(line) - swallowed_at
            print(f"noticed after {noticed_s:.1f} s")  # noqa: T201
            assert noticed_s < NOTICED_WITHIN_S
            await asyncio.sleep(max(0.0, began + OUTAGE_S - time.monotonic()))
            assert load.changes > before
        # Nobody rings, and everything arrives all the same.
        assert not replica.find("doorbell.listening", since=since)
        took = await stage18.converged(timeout=10)
        print(f"without a doorbell everything had arrived {took:.1f} s after the last change")  # noqa: T201
        proxy.heal()
        await replica.wait_for("doorbell.listening", since=since, timeout=30)
        await replica.wait_for("intake.resync_finished", since=since, reason="listening anew")
        # It rings again: sooner than the next poll, several times in a row.
        for number in range(1_000, 1_005):
            await stage18.erp.execute("UPDATE erp.stock SET on_hand = $1 WHERE sku = 'SKU-1'", number)
            await stage18.simulator.wait_for_state(YMATOU, {"SKU-1": number}, timeout=5)
        await stage18.converged()
        await stage18.judged()
        await stage18.silent(replica)


@pytest.mark.timeout(300)
@pytest.mark.settings(run={"lease_s": 1.5}, channel={"timeout_s": 1.0, "settle_s": 3.0})
async def test_one_marketplace_that_is_down_does_not_slow_the_other(stage18: Stage) -> None:
    replica = await stage18.running(200)
    committed: dict[tuple[str, int], float] = {}
    simulator = stage18.simulator
    async with writing(stage18.database.dsn, 200, stage18.random, per_s=60) as load:
        load.on_commit = lambda sku, number: committed.__setitem__((sku, number), time.time())
        await asyncio.sleep(3)  # the time for which the latency is measured
        down_at = time.time()
        simulator.set_down(SEKORM)
        taken = simulator.stats.accepted[SEKORM]
        await replica.wait_for("dispatch.breaker_opened", channel=SEKORM)
        await asyncio.sleep(OUTAGE_S)
        assert simulator.stats.accepted[SEKORM] == taken, "the marketplace that is down took something"
        up_at = time.time()
        asked = simulator.stats.count(SEKORM, answer="down")
        simulator.set_down(SEKORM, down=False)
    await stage18.converged(timeout=90)
    # A SKU changes many times: a change has arrived when its number, or a newer one, is held.
    latencies: dict[bool, list[float]] = {True: [], False: []}
    for (sku, number), at_s in committed.items():
        arrived = next(
            entry.applied_at
            for entry in simulator.journal
            if entry.shop == YMATOU and entry.key == sku and entry.quantity >= number
        )
        if at_s < up_at - 1 and not down_at - 1 < at_s < down_at:
            latencies[at_s > down_at].append(arrived - at_s)
    before, during = statistics.median(latencies[False]), statistics.median(latencies[True])
    print(  # noqa: T201
        f"latency at the other marketplace, p50: {before * 1000:.0f} ms before ({len(latencies[False])} changes), "
        f"{during * 1000:.0f} ms during ({len(latencies[True])} changes); {asked} requests to the one that was down"
    )
    assert len(latencies[False]) > 50
    assert len(latencies[True]) > 200
    assert during <= 3 * before + 0.05
    # Those in flight when it went down, and then one probe at a time.
    assert asked <= 16 + 10 + OUTAGE_S
    assert replica.find("dispatch.breaker_closed", channel=SEKORM)
    await stage18.judged()
    assert simulator.stats.overlaps == []
    await stage18.silent(replica)
