"""Cancelling what waits for the database (a slot that is lost, a stop): it ends soon, as cancelled, leaving nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from daemon.core.errors import StoreUnavailable
from daemon.store import pins
from daemon.store.connecting import connect
from daemon.store.database import Database, savepoint
from tests.acceptance.proxy import Proxy
from tests.store.place import TIMEOUT, Place

SOON = 8.0
"""Seconds within which a cancelled task is to be over, however silent the server is."""


@pytest.fixture
async def proxy(place: Place) -> AsyncIterator[Proxy]:
    async with Proxy(place.server.port) as proxy:
        yield proxy


@pytest.fixture
async def database(place: Place, proxy: Proxy) -> AsyncIterator[Database]:
    """A pool behind the proxy."""
    dsn = place.dsn().replace(f":{place.server.port}/", f":{proxy.port}/")
    database = Database(replace(place.options(), dsn=dsn), 2)
    await database.open()
    yield database
    proxy.heal()
    await database.close()


async def _query(database: Database, is_busy: asyncio.Event) -> None:
    async with database.connection("asking") as connection:
        await connection.fetchval("SELECT 1")
        is_busy.set()
        await connection.fetchval("SELECT pg_sleep(60)")


async def _transaction(database: Database, is_busy: asyncio.Event) -> None:
    async with database.transaction("asking") as connection:
        await connection.fetchval("SELECT 1")
        is_busy.set()
        await connection.fetchval("SELECT pg_sleep(60)")


async def _savepoint(database: Database, is_busy: asyncio.Event) -> None:
    async with database.transaction("asking") as connection, savepoint(connection):
        await connection.fetchval("SELECT 1")
        is_busy.set()
        await connection.fetchval("SELECT pg_sleep(60)")


Work = Callable[[Database, asyncio.Event], Awaitable[None]]
WORK = [_query, _transaction, _savepoint]


async def _busy(work: Work, database: Database) -> asyncio.Task[None]:
    """Start it, and return once its query is on its way."""
    is_busy = asyncio.Event()

    async def run() -> None:
        await work(database, is_busy)

    task = asyncio.create_task(run())
    async with asyncio.timeout(TIMEOUT):
        await is_busy.wait()
    return task


async def _is_over(task: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait({task}, timeout=SOON)
    assert done, "still waiting for the database"
    assert task.cancelled(), f"the cancellation was lost: {task.exception()!r}"


@pytest.mark.parametrize("work", WORK)
async def test_cancelled_while_the_server_is_silent_is_over_soon_and_cancelled(
    work: Work, database: Database, proxy: Proxy
) -> None:
    task = await _busy(work, database)
    proxy.swallow()
    task.cancel()
    await _is_over(task)


@pytest.mark.parametrize("work", WORK)
async def test_cancelled_just_before_the_connection_breaks_is_cancelled(
    work: Work, database: Database, proxy: Proxy
) -> None:
    task = await _busy(work, database)
    proxy.swallow()
    task.cancel()
    await asyncio.sleep(0)
    proxy.cut()
    await _is_over(task)


@pytest.mark.parametrize("work", WORK)
async def test_cancelled_leaves_the_pool_usable_and_no_transaction_open(
    work: Work, database: Database, place: Place
) -> None:
    for _ in range(3):
        task = await _busy(work, database)
        task.cancel()
        await _is_over(task)
    async with asyncio.timeout(TIMEOUT), database.transaction("asking") as connection:
        assert await connection.fetchval("SELECT 1") == 1
    watcher = await place.connect()
    assert not await watcher.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND application_name = 'stockrelay' AND state <> 'idle'"
    )


async def test_a_failure_inside_a_transaction_is_told_and_not_that_the_rollback_failed_too(
    database: Database, proxy: Proxy
) -> None:
    async def fail() -> None:
        async with database.transaction("asking") as connection:
            await connection.fetchval("SELECT 1")
            proxy.cut()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_a_connection_that_breaks_is_a_database_that_does_not_answer(
    database: Database, proxy: Proxy
) -> None:
    task = await _busy(_transaction, database)
    proxy.cut()
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(task, TIMEOUT)


async def test_cancelled_while_it_connects_leaves_no_session(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_connected = asyncio.Event()

    async def stand_still(_connection: object) -> None:
        is_connected.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(pins, "pin", stand_still)
    task = asyncio.create_task(connect(place.options()))
    async with asyncio.timeout(TIMEOUT):
        await is_connected.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    watcher = await place.connect()
    async with asyncio.timeout(TIMEOUT):
        while await watcher.fetchval(  # noqa: ASYNC110 - the server says it only to those who ask
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'stockrelay'"
        ):
            await asyncio.sleep(0.02)
