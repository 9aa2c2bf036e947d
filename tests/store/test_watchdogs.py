"""Loops of services on a real database: they promise, they keep it while the database is silent, they end it."""

import asyncio
from datetime import timedelta

import pytest

from daemon.core.errors import StockrelayError
from daemon.liveness import Liveness
from daemon.services.doorbell import Doorbell
from daemon.services.pauses import PauseWatch
from daemon.store.connecting import ConnectOptions
from daemon.store.control import Pauses
from daemon.store.database import Database
from tests.store.place import Connection, Place


class Watch:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def liveness(watch: Watch) -> Liveness:
    return Liveness(now=watch)


async def test_a_doorbell_that_hangs_is_stalled_and_one_that_has_ended_is_not(
    place: Place, watch: Watch, liveness: Liveness
) -> None:
    hangs, stop = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        hangs.set()
        await asyncio.Event().wait()

    doorbell = Doorbell(place.options(), lambda _payload: None, hang, liveness.watchdog("doorbell"))
    running = asyncio.create_task(doorbell.run(stop))
    await asyncio.wait_for(hangs.wait(), 20)
    # It may have every row of a ledger written, after a failover.
    watch.now += 15 * 60 - 1.0
    assert liveness.stalled() == []
    watch.now += 2.0
    assert [one.name for one in liveness.stalled()] == ["doorbell"]
    running.cancel()
    await asyncio.wait({running})
    assert liveness.stalled() == []


async def test_a_loop_whose_statements_time_out_goes_on_turning(place: Place, sql: Connection) -> None:
    """What waits for a lock, or for a server that says nothing, waits for its timeout and no longer."""
    liveness = Liveness()
    database = Database(ConnectOptions(place.dsn(), timedelta(seconds=0.2)), 1)
    await database.open()
    told: asyncio.Queue[StockrelayError | None] = asyncio.Queue()
    stop = asyncio.Event()
    watch = PauseWatch(
        Pauses(database), timedelta(seconds=0.01), told.put_nowait, liveness.watchdog("pauses")
    )
    running = asyncio.create_task(watch.run(stop))
    async with asyncio.timeout(60):
        assert await told.get() is None
        async with sql.transaction():
            await sql.execute("LOCK TABLE stockrelay.pause IN ACCESS EXCLUSIVE MODE")
            while await told.get() is None:
                pass
            assert liveness.watched() == ["pauses"]
        while await told.get() is not None:
            pass
    stop.set()
    await asyncio.wait_for(running, 20)
    await database.close()
    assert liveness.watched() == []
