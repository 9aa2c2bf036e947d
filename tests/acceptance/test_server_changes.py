"""The database comes to another server, or a copy of it takes over: the daemon sends everything again, then rests."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from daemon.app import administration, building
from daemon.app.configuration import load
from daemon.core.errors import ForeignDatabase
from daemon.demo.binaries import system_bin
from daemon.demo.postgres import PostgresServer
from daemon.store.changelog import ChangeLog
from daemon.store.database import Database as Pool
from daemon.store.identity import Identity
from tests.acceptance.copies import cloned, cut_over, made_from_template, restored, upgraded
from tests.acceptance.harness import Stage, stopped
from tests.acceptance.replica import Line, Replica
from tests.channels import SEKORM, YMATOU
from tests.conftest import SETTINGS, Database

SKUS: Final = 10
SETTLE: Final = timedelta(seconds=2.1)
QUICK: Final[dict[str, dict[str, Any]]] = {
    "run": {"poll_s": 0.4, "lease_s": 1.0},
    "channel": {"timeout_s": 1.0, "settle_s": SETTLE.total_seconds()},
    "log": {"level": "debug"},
}
POLLS: Final = 12
"""How many transactions the daemon makes while it must do nothing else."""


class Moved(Stage):
    """A stage on a copy: the ERP's tables came with it. The marketplaces are new, and hold nothing."""

    async def make_erp(self) -> None:
        """Leave them as they are."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A database from which a daemon has pushed, with changes that nobody has read; its server's files, copied while
    that was stopped; the daemon's log."""

    database: Database
    files: Path
    lines: list[Line]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """On PostgreSQL 15. All tables are published, as a data warehouse may want it."""
    bin_dir = system_bin(15)
    if bin_dir is None:
        pytest.skip("no PostgreSQL 15 on this machine (apt-get install postgresql-15)")
    with PostgresServer(bin_dir, {**SETTINGS, "wal_level": "logical"}) as server:
        server.run_sql("CREATE DATABASE shop")
        database = Database(server, "shop")
        database.run_sql("CREATE PUBLICATION warehouse FOR ALL TABLES")
        lines = asyncio.run(_push_from(database, tmp_path_factory.mktemp("origin")))
        server.stop()
        files = server.folder / "stopped"
        shutil.copytree(server.data_dir, files)
        server.start()
        yield Origin(database, files, lines)


async def _push_from(database: Database, folder: Path) -> list[Line]:
    async with Stage(database, folder, **QUICK) as stage:
        await stage.fill(SKUS)
        await administration.migrate(load(stage.config, None), None)
        replica = await stage.started()
        await stage.converged()
        await stopped(replica)
        await stage.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1")
        return replica.read()


async def test_a_publication_of_all_tables_hinders_neither_migrate_nor_the_daemon(origin: Origin) -> None:
    told = {line["event"] for line in origin.lines if line["level"] in ("warning", "error")}
    assert told == {"notify.no_receivers"}


async def test_on_each_kind_of_new_server_all_is_told_again_and_then_the_daemon_rests(
    origin: Origin, server18: PostgresServer, tmp_path: Path
) -> None:
    """All at once, as each mostly waits."""
    async with asyncio.TaskGroup() as group:
        turns = asyncio.Lock()
        # From files of its own: it waits for no turn.
        with_files = partial(upgraded, origin.database, origin.files)
        group.create_task(_moved("upgraded", with_files, asyncio.Lock(), tmp_path))
        for way in (made_from_template, cloned, restored, cut_over):
            group.create_task(_moved(way.__name__, partial(way, origin.database, server18), turns, tmp_path))


async def _moved(
    name: str, way: Callable[[], AbstractContextManager[Database]], turns: asyncio.Lock, folder: Path
) -> None:
    """Make the copy, in its turn with the others that read the origin; then let it take over."""
    with ExitStack() as stack:
        try:
            async with turns:
                copy = await asyncio.to_thread(stack.enter_context, way())
            (folder / name).mkdir()
            await _take_over(name, copy, folder / name)
        except Exception as error:
            error.add_note(f"the database came here by: {name}")
            raise


async def _take_over(name: str, copy: Database, folder: Path) -> None:
    """Do what an operator does, and see what the daemon does then."""
    async with Moved(copy, folder, **QUICK) as stage, _store(stage) as pool:
        # It can't know of a promoted clone that the original runs on, and takes it for a failover.
        if name != cloned.__name__:
            with pytest.raises(ForeignDatabase):
                await Identity(pool).check(1, SETTLE)
            settings = load(stage.config, None)
            if name in (restored.__name__, cut_over.__name__):
                await administration.migrate(settings, None)
            await administration.adopt(settings)
        replica = await stage.started()
        await stage.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1000 WHERE sku = 'SKU-1'")
        await stage.converged()
        await _capture_is_looked_at(stage)
        await stage.silent(replica)
        await _rests(stage, replica)
        await _log_is_emptied(pool)
        since = replica.mark()
        await stage.erp.execute("UPDATE erp.stock SET on_hand = on_hand + 1000 WHERE sku = 'SKU-2'")
        for channel in (SEKORM, YMATOU):
            read = await replica.wait_for("intake.changes_read", since=since, channel=channel)
            assert (read["changes"], read["marked"]) == (1, 1)
        await stage.converged()
        await stopped(replica)


async def _capture_is_looked_at(stage: Stage) -> None:
    """The first look finds that the triggers were made anew, and has everything compared once."""
    async with asyncio.timeout(20):
        while not await stage.erp.fetchval(  # noqa: ASYNC110 - the server tells nobody
            "SELECT checked_at > '-infinity' FROM stockrelay.capture_health"
        ):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _store(stage: Stage) -> AsyncIterator[Pool]:
    pool = Pool(building.connect_options(load(stage.config, None), is_direct=True), 1)
    await pool.open()
    yield pool
    await pool.close()


async def _rests(stage: Stage, replica: Replica) -> None:
    """It reads and reads, finds nothing new, compares nothing as a whole and sends nothing."""
    observer = await asyncpg.connect(stage.database.server.dsn())
    committed = "SELECT xact_commit FROM pg_stat_database WHERE datname = $1"
    since, requests = replica.mark(), stage.simulator.stats.requests.total()
    try:
        begun = await observer.fetchval(committed, stage.database.name)
        async with asyncio.timeout(20):
            while await observer.fetchval(committed, stage.database.name) < begun + POLLS:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        observer.terminate()
    stages = [line for line in replica.read()[since:] if line["event"].startswith(("intake.", "dispatch."))]
    assert stages == [], stages
    assert stage.simulator.stats.requests.total() == requests


async def _log_is_emptied(pool: Pool) -> None:
    """Both slots, within some steps; a reading that is under way has one locked."""
    changelog = ChangeLog(pool)
    async with asyncio.timeout(10):
        while await changelog.rotate(timedelta(0)) != "empty":  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
