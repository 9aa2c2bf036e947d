"""One channel's trouble stays its own, and a process of ours that stands still keeps the ERP from nothing."""

import asyncio
import signal
import statistics
import time
from typing import Final

import asyncpg
import pytest

from daemon.simulator import Delay
from tests.acceptance.forked import Forked
from tests.acceptance.harness import Stage
from tests.acceptance.replica import unheard
from tests.acceptance.writers import sell_out, writing
from tests.channels import YMATOU

_TROUBLED: Final = (
    "SELECT sku, sku AS outer_sku_id, on_hand AS quantity FROM erp.stock"
    " WHERE (SELECT pg_sleep(s) FROM erp.pace) IS NOT NULL AND (SELECT count(*) FROM erp.prices) >= 0"
)
_SELL_OUTS: Final = 8
_SLEEPING: Final = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
)


@pytest.mark.settings(guard={"enabled": False}, ymatou={"listing": _TROUBLED})
async def test_the_other_channels_sell_outs_take_what_they_take_without_the_trouble(stage18: Stage) -> None:
    stage = stage18
    await stage.erp.execute("CREATE TABLE erp.pace AS SELECT 0.0::float8 AS s; CREATE TABLE erp.prices ()")
    replica = await stage.running(4 * _SELL_OUTS)
    well = [await sell_out(stage, number) for number in range(1, 1 + _SELL_OUTS)]
    # Its listing takes three seconds, for whatever reads it.
    await stage.erp.execute(
        "UPDATE erp.pace SET s = 3; UPDATE erp.stock SET on_hand = 99 WHERE sku = 'SKU-32'"
    )
    async with asyncio.timeout(30):
        while not await stage.erp.fetchval(_SLEEPING):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)
    slow = [await sell_out(stage, number) for number in range(1 + _SELL_OUTS, 1 + 2 * _SELL_OUTS)]
    await stage.erp.execute("UPDATE erp.pace SET s = 0")
    await stage.converged()
    # A reload has a table of it locked.
    since = replica.mark()
    reload = await asyncpg.connect(stage.database.dsn)
    await reload.execute("SET application_name = 'nightly reload'; BEGIN; TRUNCATE erp.prices")
    locked = [await sell_out(stage, number) for number in range(1 + 2 * _SELL_OUTS, 1 + 3 * _SELL_OUTS)]
    line = await replica.wait_for("intake.listing_locked", since=since, channel="ymatou")
    assert f"erp.prices is locked by process {reload.get_server_pid()} (nightly reload, " in line["reason"]
    await reload.execute("COMMIT")
    reload.terminate()
    assert await stage.converged(timeout=20) < 5, "what waited is told within seconds of the lock's end"
    print(f"{[statistics.median(each) for each in (well, slow, locked)]}")  # noqa: T201
    # Seconds before; a busy machine's moments are not counted.
    for trouble in (slow, locked):
        assert statistics.median(trouble) < 2 * statistics.median(well) + 0.25


_PAGES: Final = "SELECT coalesce(max(chunk), 0) FROM stockrelay.reconcile_chunk"
_NIGHT_IS_DUE: Final = """
    INSERT INTO stockrelay.reconcile_since (channel, since)
    VALUES ('ymatou', clock_timestamp() - interval '3 days') ON CONFLICT (channel) DO UPDATE SET since = excluded.since
"""
_READ: Final = "ymatou.products.list.get"


@pytest.mark.settings(
    guard={"enabled": False},
    reconcile={"enabled": True, "cron": "30 0 * * *", "settle_s": 0.2, "patience_s": 10, "rate_per_s": 1000},
    ymatou={"listing": _TROUBLED},
)
async def test_neither_a_read_back_without_end_nor_a_listing_beyond_its_limit_delays_the_other_channel(
    stage18: Stage,
) -> None:
    stage = stage18
    stage.configure(database={"statement_timeout_s": 1})
    await stage.erp.execute("CREATE TABLE erp.pace AS SELECT 0.0::float8 AS s; CREATE TABLE erp.prices ()")
    replica = await stage.running(4 * _SELL_OUTS)
    well = [await sell_out(stage, number) for number in range(1, 1 + _SELL_OUTS)]
    # Far more products than the channel has SKUs, each page slow enough for the reading to outlast the test.
    for number in range(10_000):
        stage.simulator.state.put(YMATOU, f"STRANGER-{number}", 1)
    stage.simulator.faults.add(Delay(shop="ymatou", endpoint=_READ, seconds=0.02))
    await stage.erp.execute(_NIGHT_IS_DUE)
    await replica.wait_for("reconcile.run_started", channel=YMATOU)
    pages = await stage.erp.fetchval(_PAGES)
    read_back = [await sell_out(stage, number) for number in range(1 + _SELL_OUTS, 1 + 2 * _SELL_OUTS)]
    async with asyncio.timeout(30):
        # Pages go on being kept.
        while await stage.erp.fetchval(_PAGES) <= pages:  # noqa: ASYNC110 - a table
            await asyncio.sleep(0.02)
    assert not replica.find("reconcile.run_finished", channel=YMATOU)
    await stage.erp.execute(
        "UPDATE erp.pace SET s = 40; UPDATE erp.stock SET on_hand = 99 WHERE sku = 'SKU-32'"
    )
    cut = [await sell_out(stage, number) for number in range(1 + 2 * _SELL_OUTS, 1 + 3 * _SELL_OUTS)]
    line = await replica.wait_for("intake.listing_failed", channel=YMATOU)
    assert line["reason"] == "reading the listing takes too long"
    cut += [await sell_out(stage, number) for number in range(1 + 3 * _SELL_OUTS, 4 * _SELL_OUTS)]
    print(f"{[statistics.median(each) for each in (well, read_back, cut)]}")  # noqa: T201
    for trouble in (read_back, cut):
        assert statistics.median(trouble) < 2 * statistics.median(well) + 0.25
    assert not replica.find("reconcile.run_finished", channel=YMATOU)


_IS_WAITED_FOR: Final = (
    "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'erp.stock'::regclass AND NOT granted)"
)
_LOCKED_BY: Final = """
    SELECT a.state || ': ' || a.query FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.relation = 'erp.stock'::regclass AND l.granted
"""
_LOCK: Final = "BEGIN; LOCK TABLE erp.stock IN ACCESS EXCLUSIVE MODE; COMMIT"
_UPDATE: Final = "UPDATE erp.stock SET on_hand = on_hand WHERE sku = 'SKU-1'"


async def _forbid(stage: Stage, mode: str) -> None:
    await stage.erp.execute(f"BEGIN; LOCK TABLE erp.stock IN {mode} MODE")


async def _stop_where_it_has_locked(stage: Stage, process: Forked) -> bool:
    """Stop the process when it waits for the lock that is forbidden, and let it have that. False: it has ended."""
    try:
        while not await stage.erp.fetchval(_IS_WAITED_FOR):
            if process.returncode is not None:
                return False
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGSTOP)
        return True
    finally:
        await stage.erp.execute("COMMIT")


async def _waits_of(
    stage: Stage, words: str, times: int, against: str = "ACCESS EXCLUSIVE", statement: str = _LOCK
) -> list[float]:
    """Run a command, and stop it where it has just locked the ERP's table in a mode that `against` forbids, at most
    `times` times; return how long the ERP's statement took each time."""
    waits: list[float] = []
    # Before the command begins: on a busy machine it could have read the table by the time that the lock is there.
    await _forbid(stage, against)
    process = await unheard(stage.config, *words.split())
    try:
        async with asyncio.timeout(60):
            while await _stop_where_it_has_locked(stage, process):
                began = time.monotonic()
                try:
                    await stage.erp.execute(statement, timeout=10)
                except TimeoutError:
                    await stage.erp.execute("ROLLBACK")
                    raise AssertionError(await stage.erp.fetchval(_LOCKED_BY)) from None
                waits.append(time.monotonic() - began)
                if len(waits) == times:
                    break
                process.send_signal(signal.SIGCONT)
                await _forbid(stage, against)
            return waits
    finally:
        process.kill()
        await process.wait()


@pytest.mark.settings(guard={"enabled": False})
@pytest.mark.parametrize(
    ("words", "skus"),
    # More than the sockets hold: a server that writes to a process standing still would keep its locks for ever.
    [
        ("run", 1_500),
        ("sync ymatou", 1_500),
        ("sync ymatou --dry-run", 30_000),
        ("reconcile --channel ymatou", 1_500),
        ("check", 30_000),
        ("explain SKU-7", 30_000),
    ],
)
async def test_the_erp_has_its_table_within_a_second_wherever_a_process_is_stopped(
    stage18: Stage, words: str, skus: int
) -> None:
    stage = stage18
    await stage.fill(skus)
    await stage.migrate()
    waits = await _waits_of(stage, words, times=6)
    print(f"{words}: {[round(wait_s, 2) for wait_s in waits]}")  # noqa: T201 - shown when the test fails
    # The server ends a transaction that is idle for 0.7 s. A busy machine may be late once.
    assert waits, "it was stopped where it had locked the table"
    assert all(wait_s < 1 for wait_s in sorted(waits)[:-1]), waits
    assert max(waits) < 2, waits


async def test_the_erp_writes_within_a_second_when_a_migration_is_stopped_after_setting_its_triggers(
    stage18: Stage,
) -> None:
    await stage18.fill(1)
    waits = await _waits_of(stage18, "migrate", times=1, against="ROW EXCLUSIVE", statement=_UPDATE)
    assert waits, "the migration was stopped while it held the table"
    assert max(waits) < 2, waits


async def test_the_erp_has_its_table_within_a_second_wherever_the_daemon_is_stopped(stage18: Stage) -> None:
    replica = await stage18.running(100)
    erp = await asyncpg.connect(stage18.database.dsn)
    waits: list[float] = []
    async with writing(stage18.database.dsn, 100, stage18.random, per_s=200):
        for _ in range(20):
            await asyncio.sleep(stage18.random.uniform(0, 0.05))
            replica.suspend()
            began = time.monotonic()
            try:
                await erp.execute(_LOCK, timeout=10)
            except TimeoutError:
                raise AssertionError(await stage18.erp.fetchval(_LOCKED_BY)) from None
            waited_s = time.monotonic() - began
            replica.resume()
            waits.append(waited_s)
    erp.terminate()
    await stage18.converged()
    assert all(wait_s < 1 for wait_s in sorted(waits)[:-1]), waits
    assert max(waits) < 2, waits
