"""A listing that hangs holds up its own channel, and not the other one."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.core.types import SEKORM, YMATOU
from daemon.store.database import Database
from daemon.store.intake import Intake
from daemon.store.ledger import Debounce, Ledger
from daemon.store.listing import ChannelListing
from tests.store.place import TIMEOUT, Connection, Place
from tests.store.shop import LISTING

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)
LOCKED = "SELECT sku, pn AS outer_sku_id, quantity FROM shop.goods WHERE NOT EXISTS (SELECT FROM erp.other)"
SLOW = "SELECT sku, pn AS outer_sku_id, quantity FROM shop.goods WHERE pg_sleep(60) IS NOT NULL"
RESYNC_TIMEOUT = timedelta(seconds=2)


@pytest.fixture
async def database(place: Place, sql: Connection) -> AsyncIterator[Database]:
    """A pool whose statements may take a second."""
    await sql.execute("CREATE TABLE erp.other (sku text)")
    database = Database(replace(place.options(), statement_timeout=timedelta(seconds=1)), 2)
    await database.open()
    yield database
    await database.close()


def _reader(database: Database, hanging: str) -> Intake:
    """One that works, and one that hangs; the one that works is marked first."""
    ledgers = [
        Ledger(database, ChannelListing(SEKORM, LISTING, ("pn_code", "brand_name")), lambda _: None),
        Ledger(database, ChannelListing(YMATOU, hanging, ("outer_sku_id",)), lambda _: None),
    ]
    return Intake(database, ledgers, {SEKORM: NO_QUIET, YMATOU: NO_QUIET})


async def _sells(sql: Connection, sku: str) -> None:
    await sql.execute("INSERT INTO shop.goods (sku, pn, brand, quantity) VALUES ($1, $1, 'b', 5)", sku)


async def _wanted(sql: Connection, sku: str) -> set[str]:
    rows = await sql.fetch(
        "SELECT channel FROM stockrelay.ledger WHERE sku = $1 AND want_seq > acked_seq AND due_at IS NOT NULL",
        sku,
    )
    return {row["channel"] for row in rows}


@pytest.mark.parametrize("hanging", [LOCKED, SLOW])
async def test_a_listing_that_hangs_is_marked_without_looking_and_the_other_channel_as_ever(
    hanging: str, database: Database, place: Place, sql: Connection
) -> None:
    locker = await place.connect()
    intake = _reader(database, hanging)
    async with locker.transaction():
        await locker.execute("LOCK TABLE erp.other IN ACCESS EXCLUSIVE MODE")
        await _sells(sql, "A")
        drained = await asyncio.wait_for(intake.drain(tells_replicas=False, timeout=RESYNC_TIMEOUT), TIMEOUT)
        assert drained.marked[SEKORM].rows == 1
        assert YMATOU in drained.failed
        assert await _wanted(sql, "A") == {SEKORM, YMATOU}
        # It is not waited for again with every change.
        await _sells(sql, "B")
        began = time.monotonic()
        drained = await intake.drain(tells_replicas=False, timeout=RESYNC_TIMEOUT)
        assert time.monotonic() - began < 0.9
        assert YMATOU in drained.failed
        assert await _wanted(sql, "B") == {SEKORM, YMATOU}


async def test_a_resync_is_not_held_up_by_a_listing_that_hangs(
    database: Database, place: Place, sql: Connection
) -> None:
    locker = await place.connect()
    await _sells(sql, "A")
    async with locker.transaction():
        await locker.execute("LOCK TABLE erp.other IN ACCESS EXCLUSIVE MODE")
        resync = _reader(database, LOCKED).resync(tells_replicas=False, timeout=timedelta(minutes=5))
        drained = await asyncio.wait_for(resync, TIMEOUT)
    assert (drained.marked[SEKORM].rows, set(drained.failed)) == (1, {YMATOU})
    assert await sql.fetchval("SELECT resynced_at FROM stockrelay.intake") is None


async def test_a_listing_that_works_again_is_read_again(
    database: Database, place: Place, sql: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.store.intake._SET_ASIDE", 0.0)
    locker = await place.connect()
    intake = _reader(database, LOCKED)
    await _sells(sql, "A")
    async with locker.transaction():
        await locker.execute("LOCK TABLE erp.other IN ACCESS EXCLUSIVE MODE")
        assert YMATOU in (await intake.drain(tells_replicas=False, timeout=RESYNC_TIMEOUT)).failed
    await _sells(sql, "B")
    drained = await intake.drain(tells_replicas=False, timeout=RESYNC_TIMEOUT)
    assert (drained.failed, drained.marked[YMATOU].rows) == ({}, 1)


async def test_a_comparison_that_failed_for_one_channel_is_still_due_for_whoever_reads_next(
    database: Database, place: Place, sql: Connection
) -> None:
    locker = await place.connect()
    await _sells(sql, "A")
    async with locker.transaction():
        await locker.execute("LOCK TABLE erp.other IN ACCESS EXCLUSIVE MODE")
        assert (
            await _reader(database, LOCKED).resync(tells_replicas=False, timeout=RESYNC_TIMEOUT)
        ).wants_resync
    # Another replica, which has seen nothing of it.
    other = _reader(database, LOCKED)
    assert (await other.drain(tells_replicas=False, timeout=RESYNC_TIMEOUT)).wants_resync
    assert not (await other.resync(tells_replicas=False, timeout=RESYNC_TIMEOUT)).wants_resync
    assert not (await other.drain(tells_replicas=False, timeout=RESYNC_TIMEOUT)).wants_resync
