"""A backlog in calls of many SKUs (Y05, Y11): what holds for one SKU holds for each of a call."""

from collections import Counter
from math import ceil

import pytest

from daemon.simulator import Delay, HoldRequest, Message, RefuseSku, Throttle
from tests.acceptance import oracle
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.writers import writing
from tests.channels import SEKORM, YMATOU

UPDATE = "ymatou.skus.stock.update"
BATCH = 100


async def outcomes(stage: Stage, channel: str) -> Counter[str]:
    """The channel's attempts by outcome."""
    return Counter(one.outcome for one in await oracle.attempts(stage.erp) if one.channel == channel)


@pytest.mark.settings(ymatou={"batch_above": 200}, channel={"rate_per_s": 200})
async def test_a_backlog_goes_out_in_calls_of_many_and_normal_life_in_calls_of_one(stage18: Stage) -> None:
    replica = await stage18.running(1000)
    stats = stage18.simulator.stats
    calls = stats.count(YMATOU, UPDATE)
    print(f"1000 SKUs in {calls} calls; Sekorm {stats.count(SEKORM, 'stock/updQuantity')}")  # noqa: T201
    assert calls < 400, "a call is one call, however many SKUs it holds"
    assert stats.count(SEKORM, "stock/updQuantity") == 1000, "Sekorm's batch is for initialisation"
    assert len(replica.find("dispatch.batches_begun", channel=YMATOU)) == 1
    await replica.wait_for("dispatch.batches_ended", channel=YMATOU)
    assert len(replica.find("dispatch.delivery_acknowledged", channel=YMATOU)) == 1000, (
        "a line for each attempt"
    )
    assert await outcomes(stage18, YMATOU) == {"applied": 1000}
    # Below the threshold, each has a call of its own.
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 101 WHERE sku < 'SKU-2'")
    changed = await stage18.erp.fetchval("SELECT count(*) FROM erp.stock WHERE on_hand = 101")
    assert changed < 200
    await stage18.converged()
    assert stats.count(YMATOU, UPDATE) == calls + changed
    await stage18.judged()
    assert stats.overlaps == []


@pytest.mark.settings(ymatou={"batch_above": 100}, channel={"rate_per_s": 500})
async def test_what_a_marketplace_refuses_in_a_call_of_many_is_parked_alone(stage18: Stage) -> None:
    stage18.simulator.faults.add(RefuseSku(shop="ymatou", key="SKU-77"))
    await stage18.fill(600)
    await stage18.migrate()
    await stage18.started()
    await stage18.converged(spared={(YMATOU, "SKU-77")})
    assert await outcomes(stage18, YMATOU) == {"applied": 599, "refused": 1}
    assert stage18.simulator.stats.count(YMATOU, UPDATE) < 500
    (parked,) = (await stage18.status())["channels"][YMATOU]["parked_skus"]
    assert parked["sku"] == "SKU-77"
    assert "商品不存在" in parked["reason"]
    await stage18.judged()


@pytest.mark.settings(ymatou={"batch_above": 100}, channel={"rate_per_s": 500, "park_after": 2})
async def test_a_call_refused_as_a_whole_parks_nothing_and_its_skus_go_in_smaller_company_then_alone(
    stage18: Stage,
) -> None:
    """One that the marketplace chokes on makes every call fail that it is in."""
    stage18.simulator.faults.add(Message(shop="ymatou", key="SKU-77", code="1001", message="biz_content"))
    await stage18.fill(600)
    await stage18.migrate()
    await stage18.started()
    await stage18.converged(spared={(YMATOU, "SKU-77")}, timeout=60)
    status = await stage18.status()
    assert [row["sku"] for row in status["channels"][YMATOU]["parked_skus"]] == ["SKU-77"]
    counted = await outcomes(stage18, YMATOU)
    print(counted, stage18.simulator.stats.count(YMATOU, UPDATE))  # noqa: T201
    assert counted["refused"] == 1, "alone, it is refused by itself"
    # Once in the whole call, and once with those in smaller company.
    assert counted["unknown"] <= BATCH + 10
    await stage18.judged()
    assert stage18.simulator.stats.overlaps == []


@pytest.mark.settings(ymatou={"batch_above": 100, "concurrency": 1, "rate_per_s": 20})
async def test_a_stock_out_is_in_the_next_call_whatever_waits(stage18: Stage) -> None:
    replica = await stage18.running(2000)
    simulator = stage18.simulator
    await replica.wait_for("dispatch.batches_ended", channel=YMATOU)
    slow = simulator.faults.add(Delay(shop="ymatou", seconds=0.3))
    before = simulator.stats.accepted[YMATOU]
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 200")
    await simulator.wait_until(lambda: simulator.stats.accepted[YMATOU] > before + 100)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-1999'")
    await simulator.wait_for_state(YMATOU, {"SKU-1999": 0})
    waiting = sum(number == 100 for number in simulator.state.of(YMATOU).values())
    print(f"sold out at the marketplace while {waiting} of 2000 waited")  # noqa: T201
    assert waiting > 500
    simulator.faults.remove(slow.id)
    await stage18.converged(timeout=60)
    assert simulator.stats.overlaps == []


@pytest.mark.settings(ymatou={"batch_above": 50}, channel={"rate_per_s": 200})
async def test_a_kill_in_the_middle_of_a_call_puts_each_of_its_skus_in_doubt_and_loses_none(
    stage18: Stage,
) -> None:
    await stage18.fill(800)
    await stage18.migrate()
    held = stage18.simulator.faults.add(HoldRequest(shop="ymatou", after=3, times=1))
    replica = await stage18.started()
    await stage18.simulator.wait_until(lambda: held.held == 1)
    async with writing(stage18.database.dsn, 800, stage18.random):
        await replica.kill()
        since = replica.mark()
        await replica.start()
        await replica.wait_for("dispatch.attempts_rescued", since=since, channel=YMATOU)
        held.release()
    await stage18.converged()
    finding = await stage18.judged()
    assert finding.doubts > 1
    await stopped(replica)


@pytest.mark.settings(ymatou={"batch_above": 100}, channel={"rate_per_s": 50})
async def test_a_throttled_call_costs_no_sku_an_attempt(stage18: Stage) -> None:
    stage18.simulator.faults.add(Throttle(shop="ymatou", after=3, times=2, retry_after=1))
    await stage18.running(1000)
    counted = await outcomes(stage18, YMATOU)
    print(counted)  # noqa: T201
    doubts = await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.ledger WHERE failures > 0")
    assert doubts == 0
    peak = stage18.simulator.stats.peak_per_s[YMATOU]
    assert peak <= ceil(50 * 1.2) + 1
    await stage18.judged()
