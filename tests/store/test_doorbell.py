"""The doorbell rings once for many, at commit, and not at all while an intake is awake."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.store.place import TIMEOUT, Connection, Place, logged

Ring = Callable[[], Awaitable[int]]


@pytest.fixture
async def rings(place: Place) -> Ring:
    """How often it rang since the last look."""
    listener, ringer = await place.connect(), await place.connect()
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("stockrelay", lambda *words: heard.put_nowait(str(words[3])))

    async def count() -> int:
        # Notifications come in the order of the commits: what comes before ours was sent before.
        await ringer.execute("SELECT pg_notify('stockrelay', 'end')")
        number = 0
        async with asyncio.timeout(TIMEOUT):
            while await heard.get() != "end":
                number += 1
        return number

    return count


async def test_it_rings_at_commit_once_for_a_transaction(sql: Connection, rings: Ring) -> None:
    await sql.execute("BEGIN")
    for number in range(50):
        await sql.execute("INSERT INTO shop.goods VALUES ($1)", f"S{number}")
    assert await rings() == 0
    await sql.execute("COMMIT")
    assert await rings() == 1


async def test_what_is_rolled_back_does_not_ring(sql: Connection, rings: Ring) -> None:
    await sql.execute("BEGIN; INSERT INTO shop.goods VALUES ('A'); ROLLBACK")
    await sql.execute("BEGIN; SAVEPOINT s; INSERT INTO shop.goods VALUES ('A'); ROLLBACK TO s; COMMIT")
    assert await rings() == 0


async def test_a_truncate_rings(sql: Connection, rings: Ring) -> None:
    await sql.execute("TRUNCATE shop.goods")
    assert await rings() == 1


async def test_of_many_transactions_at_once_only_the_first_rings(
    place: Place, sql: Connection, rings: Ring
) -> None:
    """The winner holds the lock until its commit is done; those who commit meanwhile do not queue for the bell."""
    await sql.execute("BEGIN; SELECT pg_advisory_xact_lock(7830361, 1)")
    writers = [await place.connect() for _ in range(5)]
    for number, writer in enumerate(writers):
        await writer.execute("INSERT INTO shop.goods VALUES ($1)", f"S{number}")
    assert await rings() == 0
    # The last ring has silenced the others for three milliseconds.
    await writers[0].execute("SELECT stockrelay.stay_awake(0)")
    await sql.execute("INSERT INTO shop.goods VALUES ('winner'); COMMIT")
    assert await rings() == 1


async def test_a_long_transaction_does_not_keep_others_from_ringing(
    place: Place, sql: Connection, rings: Ring
) -> None:
    await sql.execute("BEGIN; INSERT INTO shop.goods VALUES ('long')")
    other = await place.connect()
    await other.execute("INSERT INTO shop.goods VALUES ('short')")
    assert await rings() == 1
    await sql.execute("COMMIT")
    assert await rings() == 1


async def test_a_transaction_that_checks_its_bell_early_keeps_it_and_blocks_nobody(
    place: Place, sql: Connection, rings: Ring
) -> None:
    """SET CONSTRAINTS ALL IMMEDIATE runs the deferred trigger early: the lock is then held until the commit."""
    await sql.execute("BEGIN; SET CONSTRAINTS ALL IMMEDIATE; INSERT INTO shop.goods VALUES ('long')")
    other = await place.connect()
    await other.execute("INSERT INTO shop.goods VALUES ('short')")
    await sql.execute("COMMIT")
    assert await rings() == 1


async def test_while_an_intake_is_awake_nobody_rings(sql: Connection, rings: Ring) -> None:
    await sql.execute("SELECT stockrelay.stay_awake(60000)")
    await sql.execute("INSERT INTO shop.goods VALUES ('A')")
    assert await rings() == 0
    await sql.execute("SELECT stockrelay.stay_awake(0)")
    await sql.execute("INSERT INTO shop.goods VALUES ('B')")
    assert await rings() == 1


async def test_switched_off_it_does_not_ring(sql: Connection, rings: Ring) -> None:
    await sql.execute("SELECT stockrelay.set_doorbell(false)")
    await sql.execute("INSERT INTO shop.goods VALUES ('A')")
    assert await rings() == 0


async def test_replicated_sessions_ring(sql: Connection, rings: Ring) -> None:
    await sql.execute("SET session_replication_role = replica")
    await sql.execute("INSERT INTO shop.goods VALUES ('A')")
    assert await rings() == 1


_IMMEDIATE = "SET CONSTRAINTS ALL IMMEDIATE"


@pytest.mark.parametrize("words", ["PREPARE TRANSACTION 'two'", "/* XA */ prepare\n/**/ Transaction 'two'"])
async def test_a_transaction_that_is_prepared_rings_nobody_and_is_captured(
    sql: Connection, words: str
) -> None:
    await sql.execute("BEGIN; INSERT INTO shop.goods VALUES ('A')")
    prepare = await sql.prepare(words)
    await prepare.fetch()
    await sql.execute("COMMIT PREPARED 'two'")
    assert await logged(sql) == ["A"]


@pytest.mark.parametrize(
    "words",
    [
        f"{_IMMEDIATE}; INSERT INTO shop.goods VALUES ('A')",
        f"INSERT INTO shop.goods VALUES ('A'); {_IMMEDIATE}",
        "INSERT INTO shop.goods VALUES ('A'); DO $$ BEGIN EXECUTE 'SET ' || 'CONSTR' || 'AINTS ALL IMMEDIATE'; END $$",
    ],
)
async def test_a_transaction_that_checks_its_constraints_early_can_be_prepared(
    sql: Connection, words: str
) -> None:
    for each in ("BEGIN", *words.split("; ", 1), "PREPARE TRANSACTION 'early'", "COMMIT PREPARED 'early'"):
        await sql.execute(each)
    assert await logged(sql) == ["A"]
