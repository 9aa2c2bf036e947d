"""`stockrelay push`: one SKU, now."""

import asyncio
import json
from typing import Any

import pytest

from daemon.simulator import RefuseSku, ResetAfter
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import Done
from tests.channels import SEKORM, YMATOU

PRODUCT = ("PN-1", "AMS")


async def pushed(stage: Stage, *words: str) -> tuple[Done, dict[str, Any]]:
    done = await stage.stockrelay("push", *words, "--json")
    return done, json.loads(done.out) if done.out else {}


def numbers(stage: Stage) -> list[int]:
    return [entry.quantity for entry in stage.simulator.journal.of(SEKORM, PRODUCT)]


async def test_a_daemon_sends_what_is_pushed_once_whatever_was_acknowledged(stage18: Stage) -> None:
    replica = await stage18.running(5)
    done, answer = await pushed(stage18, SEKORM, "SKU-1")
    assert (done.code, answer["state"], answer["is_over"]) == (0, "in sync", True), done
    assert [(one["quantity"], one["outcome"]) for one in answer["attempts"]] == [(100, "applied")]
    assert numbers(stage18) == [100, 100]
    assert len(replica.find("dispatch.delivery_acknowledged", channel=SEKORM, sku="SKU-1")) == 2
    assert stage18.simulator.stats.overlaps == []
    # The marketplace's own name of it is taken, too.
    done = await stage18.stockrelay("push", SEKORM, "PN-2")
    assert done.code == 0
    assert "SKU-2" in done.out
    assert "acknowledged" in done.out
    await stage18.silent(replica)


async def test_what_the_marketplace_says_is_told_and_the_exit_code_is_1(stage18: Stage) -> None:
    await stage18.running(3)
    fault = stage18.simulator.faults.add(RefuseSku(shop="sekorm", key=PRODUCT, message="no such product"))
    done, answer = await pushed(stage18, SEKORM, "SKU-1")
    assert done.code == 1, done
    assert any("no such product" in one["reason"] for one in answer["attempts"]), answer
    stage18.simulator.faults.remove(fault.id)
    done, answer = await pushed(stage18, SEKORM, "SKU-1")
    assert (done.code, answer["state"]) == (0, "in sync"), "a parked SKU is tried again"


@pytest.mark.settings(run={"lease_s": 1.0}, channel={"timeout_s": 1.0, "settle_s": 2.5})
async def test_an_unclear_answer_is_waited_for_until_it_is_clear(stage18: Stage) -> None:
    await stage18.running(3)
    stage18.simulator.faults.add(ResetAfter(shop="sekorm", key=PRODUCT, times=1))
    done, answer = await pushed(stage18, SEKORM, "SKU-1")
    assert (done.code, answer["state"]) == (0, "in sync"), done
    assert {one["outcome"] for one in answer["attempts"]} == {"unknown", "applied"}


async def test_what_cannot_be_pushed_is_refused_with_the_reason(stage18: Stage) -> None:
    replica = await stage18.running(3)
    done = await stage18.stockrelay("push", SEKORM, "SKU-99")
    assert (done.code, "no SKU 'SKU-99'" in done.err) == (1, True), done
    await stage18.stockrelay("pause", SEKORM)
    done = await stage18.stockrelay("push", SEKORM, "SKU-1")
    assert (done.code, "stockrelay resume sekorm" in done.err) == (1, True), done
    await stage18.stockrelay("resume", SEKORM)
    await stopped(replica)
    done = await stage18.stockrelay("push", SEKORM, "SKU-1")
    assert (done.code, "stockrelay run" in done.err) == (1, True), done
    assert numbers(stage18) == [100]


async def test_many_pushes_of_one_sku_at_once_never_overlap(stage18: Stage) -> None:
    await stage18.running(3)
    ends = await asyncio.gather(*(pushed(stage18, SEKORM, "SKU-1") for _ in range(4)))
    assert [done.code for done, _ in ends] == [0, 0, 0, 0]
    assert stage18.simulator.stats.overlaps == []
    await stage18.converged()


@pytest.mark.settings(guard={"zero_count": 2}, channel={"settle_s": 60.0})
async def test_a_dry_run_says_what_would_be_sent_or_why_not_and_changes_nothing(stage18: Stage) -> None:
    await stage18.fill(30)
    await stage18.erp.execute("INSERT INTO erp.stock VALUES ('A', 'TWIN', 'AMS', 3), ('B', 'TWIN', 'AMS', 4)")
    await stage18.migrate()
    replica = await stage18.started()
    await stage18.converged(channels=[YMATOU])
    await replica.wait_for("dispatch.delivery_parked", channel=SEKORM, sku="B")

    async def plan(sku: str) -> tuple[int, int | None, str]:
        done, answer = await pushed(stage18, SEKORM, sku, "--dry-run")
        return done.code, answer["quantity"], answer["why"]

    assert await plan("SKU-1") == (0, 100, "100 would be sent as PN-1 / AMS")
    code, quantity, why = await plan("A")
    assert (code, quantity, '"B" has the same identifiers' in why) == (1, None, True), why
    done = await stage18.stockrelay("push", SEKORM, "A")
    assert (done.code, '"B" has the same identifiers' in done.out) == (1, True), done
    stage18.simulator.faults.add(ResetAfter(shop="sekorm", key=("PN-2", "AMS"), times=1))
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 7 WHERE sku = 'SKU-2'")
    await replica.wait_for("dispatch.delivery_acknowledged", channel=SEKORM, sku="SKU-2", quantity=7)
    code, quantity, why = await plan("SKU-2")
    assert (code, quantity, "when no earlier attempt can land" in why) == (0, 7, True), why
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku NOT IN ('SKU-1', 'SKU-2')")
    await replica.wait_for("guard.numbers_held", channel=SEKORM)
    assert await plan("SKU-5") == (
        1,
        None,
        "the guard holds its number; `stockrelay release sekorm` sends it",
    )
    done = await stage18.stockrelay("push", SEKORM, "SKU-5")
    assert (done.code, "held by the guard" in done.out) == (1, True), done
    assert numbers(stage18) == [100]
    await stage18.stockrelay("pause", SEKORM)
    assert "sekorm is paused" in (await plan("SKU-1"))[2]
    done = await stage18.stockrelay("push", SEKORM, "SKU-1", "--dry-run")
    assert done.out.startswith("sekorm, SKU-1: sekorm is paused"), done
