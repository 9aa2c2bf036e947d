"""The way of a change, from the ERP's COMMIT to both marketplaces, and how the daemon starts and stops."""

import asyncio
import signal
import time

import pytest

from daemon.core.types import SLOTS
from daemon.simulator import Delay
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.writers import writing
from tests.channels import SEKORM, YMATOU

SPECIAL = "1211LL的ON2"


@pytest.mark.settings(run={"lease_s": 1}, channel={"timeout_s": 0.9, "settle_s": 2})
async def test_insert_update_delete_and_rename_arrive_at_both_marketplaces(stage: Stage) -> None:
    replica = await stage.running(20)
    await stage.erp.execute("INSERT INTO erp.stock VALUES ('NEW', $1, 'onsemi', 7)", SPECIAL)
    await stage.erp.execute("UPDATE erp.stock SET on_hand = 33 WHERE sku = 'SKU-1'")
    await stage.erp.execute("DELETE FROM erp.stock WHERE sku = 'SKU-2'")
    await stage.erp.execute("UPDATE erp.stock SET sku = 'SKU-3B' WHERE sku = 'SKU-3'")
    await stage.erp.execute("UPDATE erp.stock SET part_no = 'PN-4B' WHERE sku = 'SKU-4'")
    await stage.converged()
    state = stage.simulator.state
    assert state.quantity(SEKORM, (SPECIAL, "onsemi")) == 7
    assert state.quantity(SEKORM, ("PN-1", "AMS")) == state.quantity(YMATOU, "SKU-1") == 33
    assert state.quantity(SEKORM, ("PN-2", "AMS")) == state.quantity(YMATOU, "SKU-2") == 0
    # Ymatou knows the SKU's own name, Sekorm the part number: what each no longer sees listed is zero there.
    assert (state.quantity(YMATOU, "SKU-3"), state.quantity(YMATOU, "SKU-3B")) == (0, 100)
    assert state.quantity(SEKORM, ("PN-3", "AMS")) == 100
    assert (state.quantity(SEKORM, ("PN-4", "AMS")), state.quantity(SEKORM, ("PN-4B", "AMS"))) == (0, 100)
    await stage.silent(replica)
    await stage.judged(rises_only=False)
    assert stage.simulator.stats.overlaps == []


@pytest.mark.settings(debounce={"quiet_s": 60, "max_wait_s": 120})
async def test_a_sell_out_does_not_wait_for_a_debounce_of_a_minute(stage18: Stage) -> None:
    await stage18.fill(10)
    await stage18.migrate()
    replica = stage18.replica()
    # What is new at the start would wait as well: the marketplaces know these numbers already.
    await replica.start()
    await replica.wait_for("intake.resync_finished", reason="listening anew")
    await stage18.erp.execute("UPDATE stockrelay.ledger SET due_at = clock_timestamp()")
    await stage18.converged()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 55 WHERE sku = 'SKU-1'")
    began = time.monotonic()
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 0 WHERE sku = 'SKU-2'")
    await stage18.simulator.wait_for_state(SEKORM, {("PN-2", "AMS"): 0}, timeout=10)
    await stage18.simulator.wait_for_state(YMATOU, {"SKU-2": 0}, timeout=10)
    took = time.monotonic() - began
    print(f"a sell-out was at both marketplaces after {took * 1000:.0f} ms")  # noqa: T201
    assert stage18.simulator.state.quantity(YMATOU, "SKU-1") == 100, "what is not urgent must wait"


async def test_sigterm_finishes_what_is_in_flight_and_releases_every_slot(stage: Stage) -> None:
    await _stop_under_load(stage, signal.SIGTERM)


async def test_sigint_stops_as_well_as_sigterm(stage18: Stage) -> None:
    await _stop_under_load(stage18, signal.SIGINT)


async def _stop_under_load(stage: Stage, number: signal.Signals) -> None:
    replica = await stage.running(50)
    slow = stage.simulator.faults.add(Delay(seconds=0.7))
    async with writing(stage.database.dsn, 50, stage.random, per_s=200):
        await stage.simulator.wait_until(lambda: stage.simulator.stats.in_flight >= 10)
        began = time.monotonic()
        await stopped(replica, number)
        took = time.monotonic() - began
    print(f"stopped after {took:.2f} s")  # noqa: T201
    assert slow.triggered
    assert took < float(stage.setting("run", "grace_s"))
    assert replica.find("run.stop_requested", signal=number.name)
    released = [
        (line["channel"], slot) for line in replica.find("slots.leases_released") for slot in line["slots"]
    ]
    assert len(released) == len(set(released)) == 2 * SLOTS
    assert replica.read()[-1]["event"] == "run.stopped"
    # Nothing is left in doubt or open: every request in flight has been waited for.
    counted = await stage.erp.fetchrow(
        "SELECT count(doubt_at) AS doubt, count(attempt_id) AS open FROM stockrelay.ledger"
    )
    assert counted is not None
    assert tuple(counted) == (0, 0)
    assert await stage.erp.fetchval("SELECT count(holder) FROM stockrelay.lease") == 0
    stage.simulator.faults.clear()
    since = replica.mark()
    await replica.start()
    await replica.wait_for("slots.leases_taken", since=since, times=2)
    await stage.converged()
    finding = await stage.judged()
    assert finding.doubts == 0
    assert stage.simulator.stats.overlaps == []


async def test_a_wrong_configuration_is_refused_with_exit_code_78(stage18: Stage) -> None:
    stage18.configure(debounce={"quiet_s": 5, "max_wait_s": 1})
    done = await stage18.stockrelay("run")
    assert done.code == 78
    assert "max_wait_s" in done.err
    assert "Traceback" not in done.err


async def test_a_missing_schema_ends_the_start_and_names_the_command_that_makes_it(stage18: Stage) -> None:
    replica = stage18.replica()
    await replica.start()
    assert await replica.wait() == 1
    assert "stockrelay migrate" in replica.errors()


async def test_a_daemon_that_starts_before_its_database_waits_for_it(stage18: Stage) -> None:
    await stage18.fill(5)
    await stage18.migrate()
    stage18.database.server.stop("fast")
    replica = stage18.replica()
    await replica.start()
    await replica.wait_for("run.database_awaited")
    stage18.database.server.start()
    await stage18.reconnect()
    await replica.wait_for("doorbell.listening")
    await stage18.converged()


async def test_a_restart_sends_nothing_again(stage18: Stage) -> None:
    replica = await stage18.running(200)
    sent = len(stage18.simulator.journal)
    assert sent == 400
    await stopped(replica)
    since = replica.mark()
    await replica.start()
    for channel in (SEKORM, YMATOU):
        line = await replica.wait_for(
            "intake.resync_finished", since=since, channel=channel, reason="listening anew"
        )
        assert line["marked"] == 0
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = 101 WHERE sku = 'SKU-1'")
    await stage18.converged()
    assert len(stage18.simulator.journal) == sent + 2


@pytest.mark.settings(
    sekorm={
        "listing": "SELECT sku, part_no AS pn_code, brand AS brand_name, on_hand AS quantity FROM erp.stock"
        " WHERE (SELECT pg_sleep(s) FROM erp.pace) IS NOT NULL"
    }
)
async def test_a_comparison_that_is_asked_for_during_another_is_made(stage18: Stage) -> None:
    await stage18.erp.execute("CREATE TABLE erp.pace AS SELECT 0.0::float8 AS s")
    replica = await stage18.running(20)
    since = replica.mark()
    await stage18.erp.execute("UPDATE erp.pace SET s = 1.5; NOTIFY stockrelay, 'resync'")
    slow = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    )
    async with asyncio.timeout(30):
        while not await stage18.erp.fetchval(slow):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
    # As a capture does that could not write: what it is about, the comparison under way does not see.
    await stage18.erp.execute("UPDATE erp.pace SET s = 0; NOTIFY stockrelay, 'resync'")
    await replica.wait_for("intake.resync_finished", since=since, channel=SEKORM, times=2)
