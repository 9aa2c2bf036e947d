"""A listing that hangs holds up its own channel, and neither the other one nor the ERP."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.core.errors import TableLocked
from daemon.store.changelog import ChangeLog
from daemon.store.database import Database
from daemon.store.intake import Intake
from daemon.store.ledger import Debounce
from daemon.store.ledger.ledger import Ledger
from daemon.store.listing import ChannelListing
from tests.channels import SEKORM, YMATOU
from tests.store.place import TIMEOUT, Connection, Place
from tests.store.shop import LISTING

NO_QUIET = Debounce(timedelta(0), timedelta(0), 0)
LOCKED = "SELECT sku, pn AS outer_sku_id, quantity FROM shop.goods WHERE NOT EXISTS (SELECT FROM erp.other)"
SLOW = "SELECT sku, pn AS outer_sku_id, quantity FROM shop.goods WHERE pg_sleep(60) IS NOT NULL"
WAIT = timedelta(seconds=2)


@pytest.fixture
async def database(place: Place, sql: Connection) -> AsyncIterator[Database]:
    """A pool whose statements may take a second."""
    await sql.execute("CREATE TABLE erp.other (sku text)")
    database = Database(replace(place.options(), statement_timeout=timedelta(seconds=1)), 4)
    await database.open()
    yield database
    await database.close()


def _works(database: Database) -> Intake:
    listing = ChannelListing(SEKORM, LISTING, ("pn_code", "brand_name"))
    return Intake(database, Ledger(database, listing, lambda _: None), NO_QUIET)


def _hangs(database: Database, listing: str) -> Intake:
    own = ChannelListing(YMATOU, listing, ("outer_sku_id",))
    return Intake(database, Ledger(database, own, lambda _: None), NO_QUIET)


async def _sells(sql: Connection, sku: str) -> None:
    await sql.execute("INSERT INTO shop.goods (sku, pn, brand, quantity) VALUES ($1, $1, 'b', 5)", sku)


async def _wanted(sql: Connection, sku: str) -> set[str]:
    rows = await sql.fetch(
        "SELECT channel FROM stockrelay.ledger WHERE sku = $1 AND want_seq > acked_seq AND due_at IS NOT NULL",
        sku,
    )
    return {row["channel"] for row in rows}


@pytest.mark.parametrize("hanging", [LOCKED, SLOW])
async def test_a_channel_reads_on_while_the_others_listing_hangs(
    hanging: str, database: Database, place: Place, sql: Connection
) -> None:
    locker = await place.connect()
    works, hangs = _works(database), _hangs(database, hanging)
    await hangs.drain(notify_replicas=False, timeout=WAIT)
    async with locker.transaction():
        await locker.execute("LOCK TABLE erp.other IN ACCESS EXCLUSIVE MODE")
        await _sells(sql, "A")
        hanging_one = asyncio.create_task(hangs.drain(notify_replicas=False, timeout=WAIT))
        for sku in ("B", "C", "D"):
            drained = await works.drain(notify_replicas=False, timeout=WAIT)
            assert drained.marked.rows == 1
            await _sells(sql, sku)
        assert not hanging_one.done()
        await asyncio.wait((hanging_one,))
        hanging_one.exception()


async def test_a_slow_listing_is_marked_without_looking_and_left_alone_for_a_while(
    database: Database, sql: Connection
) -> None:
    intake = _hangs(database, SLOW)
    await intake.drain(notify_replicas=False, timeout=WAIT)
    await _sells(sql, "A")
    assert (
        await intake.drain(notify_replicas=False, timeout=WAIT)
    ).failed == "reading the listing takes too long"
    await _sells(sql, "B")
    began = time.monotonic()
    assert (await intake.drain(notify_replicas=False, timeout=WAIT)).failed is not None
    assert time.monotonic() - began < 0.9
    assert await _wanted(sql, "A") == await _wanted(sql, "B") == {YMATOU}


async def test_a_lock_is_no_slow_listing_and_the_error_says_whose_it_is(
    database: Database, place: Place, sql: Connection
) -> None:
    locker = await place.connect()
    await locker.execute("SET application_name = 'reload of prices'")
    intake = _hangs(database, LOCKED)
    await intake.drain(notify_replicas=False, timeout=WAIT)
    await _sells(sql, "A")
    async with locker.transaction():
        await locker.execute("LOCK TABLE erp.other IN ACCESS EXCLUSIVE MODE")
        for read in (intake.drain, intake.resync):
            with pytest.raises(TableLocked) as raised:
                await read(notify_replicas=False, timeout=WAIT)
            told = str(raised.value)
            assert f"erp.other is locked by process {locker.get_server_pid()} (reload of prices, role" in told
    drained = await intake.drain(notify_replicas=False, timeout=WAIT)
    assert (drained.failed, drained.marked.rows) == (None, 1), "nothing was read meanwhile"


async def test_everything_changed_is_compared_when_the_lock_is_gone(
    database: Database, place: Place, sql: Connection
) -> None:
    """A reload: TRUNCATE, and the rows anew, in a transaction that takes its time."""
    reload = await place.connect()
    intake = _hangs(database, LOCKED)
    await intake.resync(notify_replicas=False, timeout=WAIT)
    async with reload.transaction():
        await reload.execute("LOCK TABLE erp.other IN ACCESS EXCLUSIVE MODE; TRUNCATE shop.goods")
        await _sells(reload, "A")
        await sql.execute("SELECT stockrelay.canary()")
        with pytest.raises(TableLocked):
            await intake.resync(notify_replicas=False, timeout=WAIT)
    drained = await intake.drain(notify_replicas=False, timeout=WAIT)
    assert (drained.is_everything, drained.is_compared, drained.wants_resync) == (True, True, False)
    assert await _wanted(sql, "A") == {YMATOU}


async def test_a_reading_never_makes_the_servers_deadlock_check_choose_the_erp(
    database: Database, place: Place, sql: Connection
) -> None:
    """The ERP locks one table of the listing, we hold the other one and wait, and then the ERP wants that one, too."""
    erp = await place.connect()
    intake = _hangs(database, LOCKED)
    await _sells(sql, "A")
    await erp.execute("BEGIN; TRUNCATE erp.other")
    waiting = "SELECT pid FROM pg_locks WHERE relation = 'erp.other'::regclass AND NOT granted"
    reading = asyncio.create_task(intake.resync(notify_replicas=False, timeout=WAIT))
    async with asyncio.timeout(TIMEOUT):
        while not await sql.fetchval(waiting):  # noqa: ASYNC110 - the server sends no event
            await asyncio.sleep(0.005)
    await erp.execute("TRUNCATE shop.goods; COMMIT")
    with pytest.raises(TableLocked):
        await reading


async def test_a_comparison_that_failed_is_still_due_for_the_replica_that_reads_next(
    database: Database, sql: Connection
) -> None:
    await _sells(sql, "A")
    broken = _hangs(database, "SELECT sku, pn AS outer_sku_id, 1 / 0 AS quantity FROM shop.goods")
    drained = await broken.resync(notify_replicas=False, timeout=WAIT)
    assert (drained.wants_resync, drained.is_compared) == (True, False)
    assert "division by zero" in (drained.failed or "")
    other = _hangs(database, LOCKED)
    assert (await other.drain(notify_replicas=False, timeout=WAIT)).wants_resync
    assert not (await other.resync(notify_replicas=False, timeout=WAIT)).wants_resync
    assert not (await other.drain(notify_replicas=False, timeout=WAIT)).wants_resync


async def test_everything_that_may_not_be_compared_yet_stays_due_and_what_is_named_is_marked(
    database: Database, sql: Connection
) -> None:
    intake = _works(database)
    await intake.resync(notify_replicas=False, timeout=WAIT)
    await sql.execute("TRUNCATE shop.goods")
    await _sells(sql, "A")
    drained = await intake.drain(notify_replicas=False, timeout=WAIT, may_compare=False)
    assert (drained.is_everything, drained.is_compared, drained.wants_resync) == (True, False, True)
    assert await _wanted(sql, "A") == {SEKORM}
    assert (await intake.drain(notify_replicas=False, timeout=WAIT)).wants_resync
    assert (
        await sql.fetchval("SELECT resynced_at FROM stockrelay.read_position WHERE channel = 'sekorm'")
        is None
    )


# How far each channel has read


async def test_the_log_is_emptied_when_every_channel_has_read_it(database: Database, sql: Connection) -> None:
    sekorm, ymatou, log = _works(database), _hangs(database, LOCKED), ChangeLog(database)
    for intake in (sekorm, ymatou):
        await intake.resync(notify_replicas=False, timeout=WAIT)
    await _sells(sql, "A")
    assert await log.rotate(timedelta(0)) == "switched"
    await sekorm.drain(notify_replicas=False, timeout=WAIT)
    assert await log.rotate(timedelta(0)) == "unread"
    await ymatou.drain(notify_replicas=False, timeout=WAIT)
    assert await log.rotate(timedelta(0)) == "emptied"
    assert await _wanted(sql, "A") == {SEKORM, YMATOU}


async def test_a_channel_that_nobody_reads_any_more_keeps_no_log_and_begins_anew_when_it_is_back(
    database: Database, sql: Connection
) -> None:
    sekorm, ymatou, log = _works(database), _hangs(database, LOCKED), ChangeLog(database)
    for intake in (sekorm, ymatou):
        await intake.resync(notify_replicas=False, timeout=WAIT)
    await _sells(sql, "A")
    await log.rotate(timedelta(0))
    await sekorm.drain(notify_replicas=False, timeout=WAIT)
    assert await log.rotate(timedelta(0)) == "unread"
    await sql.execute(
        "UPDATE stockrelay.read_position SET seen_at = seen_at - interval '61 min' WHERE channel = 'ymatou'"
    )
    assert await log.rotate(timedelta(0)) == "emptied"
    assert (await ymatou.drain(notify_replicas=False, timeout=WAIT)).is_compared
    assert await _wanted(sql, "A") == {SEKORM, YMATOU}


async def test_a_channel_that_is_read_without_changes_is_still_seen(
    database: Database, sql: Connection
) -> None:
    intake = _works(database)
    await sql.execute("UPDATE stockrelay.read_position SET seen_at = seen_at - interval '2 min'")
    await intake.drain(notify_replicas=False, timeout=WAIT)
    assert await sql.fetchval(
        "SELECT seen_at > clock_timestamp() - interval '1 min' FROM stockrelay.read_position"
    )
