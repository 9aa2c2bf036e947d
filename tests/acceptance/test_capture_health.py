"""What keeps changes from being captured is said once, told once, healed by a comparison, and said to be over."""

import asyncio
import json
from typing import Any

import pytest

from tests.acceptance.harness import Stage
from tests.acceptance.replica import LOOK_S, Replica

SKUS = 20
RUN = {"capture_check_s": 0.5}
SILENT_BELL = "SELECT pg_advisory_lock(7830361, 1)"


async def notices(stage: Stage) -> list[tuple[str, dict[str, Any]]]:
    rows = await stage.erp.fetch(
        "SELECT kind, data FROM stockrelay.notice WHERE kind LIKE 'capture%' ORDER BY id"
    )
    return [(row["kind"], json.loads(row["data"])) for row in rows]


async def checked(stage: Stage, times: int = 2) -> None:
    """Return when whoever looks for all has looked so often."""
    query = "SELECT checked_at FROM stockrelay.capture_health"
    async with asyncio.timeout(30):
        for _ in range(times):
            before = await stage.erp.fetchval(query)
            # The database says it only to those who ask.
            while await stage.erp.fetchval(query) == before:  # noqa: ASYNC110
                await asyncio.sleep(LOOK_S)


def said(replica: Replica) -> list[str]:
    return [line["event"] for line in replica.read() if line["event"].startswith("capture.")]


@pytest.mark.settings(run=RUN)
async def test_a_trigger_that_is_switched_off_is_told_once_and_its_changes_are_found(stage: Stage) -> None:
    replica = await stage.running(SKUS)
    other = await second(stage)
    await checked(stage)
    assert said(replica) == said(other) == []
    since = replica.mark(), other.mark()
    await stage.erp.execute(
        "BEGIN; ALTER TABLE erp.stock DISABLE TRIGGER stockrelay_update; UPDATE erp.stock SET on_hand = 55; COMMIT"
    )
    lines = [
        await each.wait_for("capture.check_failed", since=mark)
        for each, mark in zip((replica, other), since, strict=True)
    ]
    for line in lines:
        assert (line["level"], line["check"], line["subject"]) == ("error", "triggers", "erp.stock")
    await stage.converged()
    await checked(stage)
    status = await stage.status()
    (shown,) = status["capture"]["findings"]
    assert (shown["check"], shown["subject"]) == ("triggers", "erp.stock")
    assert status["capture"]["checked_at"] is not None
    text = (await stage.stockrelay("status")).out
    assert "stockrelay_update on erp.stock: disabled" in text
    assert "ENABLE ALWAYS TRIGGER stockrelay_update" in text
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 66")
    await stage.erp.execute(lines[0]["advice"].partition(": ")[2])
    for each in (replica, other):
        await each.wait_for("capture.check_recovered", check="triggers")
    await stage.converged()
    await checked(stage)
    assert said(replica) == said(other) == ["capture.check_failed", "capture.check_recovered"]
    (failed, recovered) = await notices(stage)
    assert (failed[0], failed[1]["check"], failed[1]["is_lossy"]) == ("capture_failed", "triggers", True)
    assert (recovered[0], recovered[1]["since"]) == ("capture_recovered", failed[1]["since"])
    assert (await stage.status())["capture"]["findings"] == []


async def second(stage: Stage) -> Replica:
    """Another daemon, which owns nothing."""
    other = stage.replica("two")
    await other.start()
    await other.wait_for("doorbell.listening")
    return other


@pytest.mark.settings(run=RUN)
async def test_a_doorbell_that_nobody_hears_is_a_warning_of_every_listener(stage: Stage) -> None:
    replica = await stage.running(SKUS)
    other = await second(stage)
    await stage.erp.execute(SILENT_BELL)
    for each in (replica, other):
        line = await each.wait_for("capture.check_failed", check="canary", timeout=60)
        assert line["level"] == "warning"
        assert "up to 1 s late" in line["found"]
    # It is true that nothing is lost.
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 77")
    await stage.converged()
    await stage.erp.execute("SELECT pg_advisory_unlock_all()")
    for each in (replica, other):
        await each.wait_for("capture.check_recovered", check="canary", timeout=60)
    told = [(kind, data["check"]) for kind, data in await notices(stage)]
    assert sorted(told) == [("capture_failed", "canary")] * 2 + [("capture_recovered", "canary")] * 2


@pytest.mark.settings(run=RUN)
async def test_work_bulk_changes_and_migrations_raise_no_alarm_and_canaries_reach_nobody(
    stage18: Stage,
) -> None:
    replica = await stage18.running(SKUS)
    other = await second(stage18)
    sent = len(stage18.simulator.journal)
    await checked(stage18, 3)
    assert len(stage18.simulator.journal) == sent, "a canary is no change"
    await stage18.erp.execute(
        "INSERT INTO erp.stock SELECT 'BULK-' || i, 'PN-B' || i, 'AMS', 5 FROM generate_series(1, 7000) AS i"
    )
    await stage18.migrate()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
    await stage18.migrate()
    await stage18.cut_listener()
    await stage18.converged(60)
    await checked(stage18, 3)
    assert said(replica) == said(other) == []
    assert await notices(stage18) == []
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.ledger WHERE sku LIKE '%canary%'") == 0
    assert await stage18.erp.fetchval("SELECT count(*) FROM stockrelay.change WHERE sku LIKE '%canary%'") > 0
    for each in (replica, other):
        assert not each.find(
            "intake.resync_started", reason="capture health: triggers were switched or made anew"
        )


@pytest.mark.settings(run=RUN)
async def test_without_a_doorbell_only_the_reading_is_looked_at(stage18: Stage) -> None:
    stage18.configure(database={"doorbell": False})
    replica = await stage18.running(SKUS)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 77")
    await stage18.converged()
    await checked(stage18, 3)
    assert said(replica) == []
