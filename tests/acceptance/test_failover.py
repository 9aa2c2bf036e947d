"""The database fails over to a standby that has not had the last transactions."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from daemon.demo.binaries import embedded_bin
from daemon.demo.place import children
from daemon.demo.postgres import PostgresServer
from tests.acceptance.copies import Standby
from tests.acceptance.harness import Stage
from tests.acceptance.writers import writing
from tests.conftest import SETTINGS, TEMPLATE, Database, prepare_template

NAME = "shop"
SKUS = 100


@pytest.fixture
def primary() -> Iterator[PostgresServer]:
    with PostgresServer(embedded_bin(), SETTINGS) as server:
        server.run_sql(f"CREATE DATABASE {TEMPLATE}")
        prepare_template(server, TEMPLATE)
        server.run_sql(f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}")
        try:
            yield server
        finally:
            _signal(server, signal.SIGCONT)


def _kill(server: PostgresServer) -> None:
    server.kill()


def _freeze(server: PostgresServer) -> None:
    """It takes connections and never answers: the machine hangs."""
    _signal(server, signal.SIGSTOP)


def _signal(server: PostgresServer, number: signal.Signals) -> None:
    pid = server.pid
    for process in () if pid is None else (pid, *children(pid)):
        os.kill(process, number)


@pytest.mark.parametrize("end", [_kill, _freeze], ids=["killed", "frozen"])
async def test_a_standby_takes_over_and_what_it_has_not_had_is_put_right(
    primary: PostgresServer, tmp_path: Path, end: Callable[[PostgresServer], None]
) -> None:
    run = {"lease_s": 2, "poll_s": 0.5}
    async with Stage(
        Database(primary, NAME), tmp_path, run=run, channel={"timeout_s": 1.0, "settle_s": 4.0}
    ) as stage:
        await stage.fill(SKUS)
        await stage.migrate()
        with Standby(primary) as standby:
            hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            dsn = f"postgresql://postgres@{hosts}/{NAME}"
            stage.configure(database={"dsn": dsn, "statement_timeout_s": 5.0})
            replica = await stage.started()
            await stage.converged()
            await _caught_up(stage, standby)
            standby.stop_following()
            # The marketplaces are told what the standby will never know of.
            async with writing(primary.dsn(NAME), SKUS, stage.random, per_s=100):
                written = len(stage.simulator.journal)
                await stage.simulator.wait_until(
                    lambda: len(stage.simulator.journal) > written + 200, timeout=30
                )
            since = replica.mark()
            await _in_the_middle_of_reading(stage)
            end(primary)
            assert standby.run_sql("SELECT pg_promote()") == "t"
            stage.database = Database(standby, NAME)
            await stage.reconnect()
            await replica.wait_for("intake.resync_finished", since=since, reason="failover", timeout=60)
            await stage.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1000 WHERE sku < 'SKU-2'")
            await stage.converged(timeout=60)


async def _in_the_middle_of_reading(stage: Stage) -> None:
    """Have the daemon ask for something that the server will never answer."""
    await stage.erp.execute("BEGIN; SELECT FROM stockrelay.read_position FOR UPDATE")
    reading = (
        "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'take_changes' AND wait_event_type = 'Lock'"
    )
    observer = await asyncpg.connect(stage.database.dsn)
    async with asyncio.timeout(20):
        while not await observer.fetchval(reading):  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
    observer.terminate()


async def _caught_up(stage: Stage, standby: PostgresServer) -> None:
    """Wait until the standby shows all that has been written so far."""
    until = await stage.erp.fetchval("SELECT pg_current_wal_insert_lsn()::text")
    follower = await asyncpg.connect(standby.dsn(NAME))
    try:
        async with asyncio.timeout(20):
            while not await follower.fetchval(  # noqa: ASYNC110 - the server tells nobody
                "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", until
            ):
                await asyncio.sleep(0.02)
    finally:
        await follower.close()


async def test_of_several_hosts_the_one_that_can_be_written_is_used(
    primary: PostgresServer, tmp_path: Path
) -> None:
    async with Stage(Database(primary, NAME), tmp_path) as stage:
        await stage.fill(5)
        await stage.migrate()
        with Standby(primary) as standby:
            alone = f"postgresql://postgres@127.0.0.1:{standby.port}"
            await _caught_up(stage, standby)
            stage.configure(database={"dsn": f"{alone}/{NAME}"})
            refused = await stage.stockrelay("pause", "sekorm", "--reason", "a standby")
            assert refused.code == 1
            assert "lead to the primary" in refused.err
            stage.configure(database={"dsn": f"{alone},127.0.0.1:{primary.port}/{NAME}"})
            await stage.started()
            await stage.converged()


async def test_an_attempt_of_which_only_the_new_server_knows_does_not_stay_open(stage18: Stage) -> None:
    replica = await stage18.running(5)
    since = replica.mark()
    # As a standby has it that never heard of the outcome, reached by connections that were made anew unnoticed.
    await stage18.erp.execute(
        "UPDATE stockrelay.ledger AS d SET attempt_id = nextval('stockrelay.attempt_id'), attempt_epoch = l.epoch, "
        "attempt_seq = d.want_seq, attempt_quantity = 1, attempt_at = now(), attempt_settles = true "
        "FROM stockrelay.lease AS l WHERE l.channel = d.channel AND d.sku = 'SKU-1'"
    )
    await stage18.cut_listener()
    await replica.wait_for("dispatch.attempts_rescued", since=since, times=2)
    await stage18.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1000")
    await stage18.converged()


async def test_a_replica_that_starts_while_another_puts_a_failover_right_waits_for_it(stage18: Stage) -> None:
    stage18.configure(database={"statement_timeout_s": 1.0})
    await stage18.fill(5)
    await stage18.migrate()
    await stage18.erp.execute("UPDATE stockrelay.intake SET timeline = timeline + 1")
    other = await asyncpg.connect(stage18.database.dsn)
    try:
        async with other.transaction():
            await other.execute("SELECT FROM stockrelay.intake FOR UPDATE")
            replica = stage18.replica()
            await replica.start()
            await replica.wait_for("run.database_awaited")
        await replica.wait_for("doorbell.listening")
        await stage18.converged()
    finally:
        other.terminate()
