"""Requests of unknown fate: recorded, confirmed, and never at rest with an old number."""

import asyncio

import pytest

from daemon.simulator import HoldRequest, ResetAfter, ResetBefore
from tests.acceptance import oracle
from tests.acceptance.harness import Stage
from tests.acceptance.writers import writing
from tests.channels import SEKORM, YMATOU

QUICK = {"run": {"lease_s": 1.0}, "channel": {"timeout_s": 0.9, "settle_s": 3.0}}


@pytest.mark.settings(**QUICK)
async def test_a_lost_reply_is_recorded_as_doubt_and_confirmed(stage18: Stage) -> None:
    replica = await stage18.running(20)
    fault = stage18.simulator.faults.add(ResetAfter(shop="sekorm", key=("PN-1", "AMS"), times=1))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 500 WHERE sku = 'SKU-1'")
    await replica.wait_for("dispatch.delivery_in_doubt", channel=SEKORM, sku="SKU-1", quantity=500)
    async with asyncio.timeout(20):
        # The line may be written before the outcome.
        while not await stage18.erp.fetchval("SELECT count(doubt_at) FROM stockrelay.ledger"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await stage18.converged()
    assert fault.triggered == 1
    sent = [
        one for one in await oracle.attempts(stage18.erp) if one.channel == SEKORM and one.quantity == 500
    ]
    assert [one.outcome for one in sent] == ["unknown", "applied", "applied"]
    settle_s = stage18.setting("channel", "settle_s")
    assert sent[1].at < sent[0].at + settle_s, "a doubt delays nothing"
    assert sent[2].at >= sent[0].at + settle_s, "confirmed while an old request could still land"
    writes = [entry.quantity for entry in stage18.simulator.journal.of(SEKORM, ("PN-1", "AMS"))]
    # Applied though the reply was lost, sent again, and once more when nothing could land after it.
    assert writes == [100, 500, 500, 500]
    assert stage18.simulator.state.quantity(YMATOU, "SKU-1") == 500
    finding = await stage18.judged()
    assert finding.doubts == 1
    assert stage18.simulator.stats.overlaps == []
    await stage18.silent(replica)


@pytest.mark.settings(**QUICK)
async def test_a_held_request_that_lands_after_a_newer_number_does_not_stay(stage18: Stage) -> None:
    replica = await stage18.running(20)
    held = stage18.simulator.faults.add(HoldRequest(shop="ymatou", key="SKU-1", times=1))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 500 WHERE sku = 'SKU-1'")
    await replica.wait_for("dispatch.delivery_in_doubt", channel=YMATOU, sku="SKU-1", quantity=500)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 501 WHERE sku = 'SKU-1'")
    await stage18.simulator.wait_for_state(YMATOU, {"SKU-1": 501})
    held.release()
    await stage18.simulator.wait_for_state(YMATOU, {"SKU-1": 500})
    await stage18.converged()
    finding = await stage18.judged()
    assert (finding.doubts, finding.went_back) == (1, 1)
    assert stage18.simulator.stats.overlaps == []
    await stage18.silent(replica)


# At level debug no line is left out.
@pytest.mark.settings(**QUICK, log={"level": "debug"})
async def test_resets_before_and_after_applying_under_load_converge(stage18: Stage) -> None:
    replica = await stage18.running(100)
    faults = stage18.simulator.faults
    faults.add(ResetBefore(probability=0.1, seed=stage18.seed))
    faults.add(ResetAfter(probability=0.1, seed=stage18.seed + 1))
    before = replica.mark()
    async with writing(stage18.database.dsn, 100, stage18.random, per_s=150):
        await replica.wait_for("dispatch.delivery_in_doubt", since=before, times=60, timeout=60)
    faults.clear()
    await stage18.converged(timeout=60)
    finding = await stage18.judged()
    assert finding.doubts >= 60
    assert stage18.simulator.stats.overlaps == []
    await stage18.silent(replica)
