"""What is new is what this snapshot shows and the last one did not, in any order of commits."""

import asyncio
from collections import Counter

import asyncpg
import pytest

from tests.store.place import Connection, Place, begun

FEW = 100


async def read(reader: Connection) -> list[str]:
    """What a reading names, sorted."""
    row = await reader.fetchrow("SELECT * FROM stockrelay.take_changes('sekorm', $1)", FEW)
    assert row is not None
    if row["is_everything"]:
        return ["everything"]
    return sorted(row["skus"] or ())


async def put(session: Connection, *skus: str) -> None:
    for sku in skus:
        await session.execute("INSERT INTO shop.goods VALUES ($1)", sku)


async def test_a_reading_names_each_sku_once_and_only_once(sql: Connection) -> None:
    await put(sql, "A", "B", "A")
    row = await sql.fetchrow("SELECT * FROM stockrelay.take_changes('sekorm', 100)")
    assert row is not None
    assert (row["changes"], sorted(row["skus"]), row["is_everything"]) == (3, ["A", "B"], False)
    assert row["oldest"] is not None
    assert await read(sql) == []


async def test_commits_out_of_order_are_each_read_once(place: Place, sql: Connection) -> None:
    first, second = await place.connect(), await place.connect()
    await first.execute("BEGIN")
    await put(first, "first")
    await second.execute("BEGIN")
    await put(second, "second")
    assert await read(sql) == []
    await second.execute("COMMIT")
    assert await read(sql) == ["second"]
    await put(sql, "third")
    assert await read(sql) == ["third"]
    await first.execute("COMMIT")
    assert await read(sql) == ["first"]
    assert await read(sql) == []


async def test_a_long_writer_stops_nobody_and_is_read_when_it_commits(place: Place, sql: Connection) -> None:
    long = await place.connect()
    await long.execute("BEGIN")
    await put(long, "begun")
    for number in range(30):
        await put(sql, f"S{number}")
        assert await read(sql) == [f"S{number}"]
    await put(long, "ended")
    await long.execute("COMMIT")
    assert await read(sql) == ["begun", "ended"]
    assert await read(sql) == []


async def test_savepoints_and_transactions_that_began_before_they_wrote(
    place: Place, sql: Connection
) -> None:
    other = await place.connect()
    await other.execute("BEGIN; SELECT pg_current_xact_id(); SAVEPOINT s")
    await put(sql, "A")
    assert await read(sql) == ["A"]
    await put(other, "kept")
    await other.execute("RELEASE s; SAVEPOINT t")
    await put(other, "dropped")
    await other.execute("ROLLBACK TO t")
    assert await read(sql) == []
    await other.execute("COMMIT")
    assert await read(sql) == ["kept"]


async def test_a_prepared_transaction_is_read_when_it_is_committed(place: Place, sql: Connection) -> None:
    await sql.execute("SELECT stockrelay.set_doorbell(false)")
    other = await place.connect()
    for name in ("kept", "dropped"):
        await other.execute(f"BEGIN; INSERT INTO shop.goods VALUES ('{name}'); PREPARE TRANSACTION '{name}'")
    await put(sql, "A")
    assert await read(sql) == ["A"]
    await sql.execute("COMMIT PREPARED 'kept'")
    await sql.execute("ROLLBACK PREPARED 'dropped'")
    assert await read(sql) == ["kept"]
    assert await read(sql) == []


@pytest.mark.parametrize("has_doorbell", [True, False])
async def test_a_prepared_transaction_that_could_have_no_slot_has_everything_compared_once_it_is_committed(
    place: Place, sql: Connection, *, has_doorbell: bool
) -> None:
    await sql.execute("SELECT stockrelay.set_doorbell($1)", has_doorbell)
    locker, other = await place.connect(), await place.connect()
    await locker.execute(
        "BEGIN; LOCK TABLE stockrelay.change_0, stockrelay.change_1 IN ACCESS EXCLUSIVE MODE"
    )
    for name in ("kept", "dropped"):
        await other.execute(f"BEGIN; INSERT INTO shop.goods VALUES ('{name}'); PREPARE TRANSACTION '{name}'")
    await locker.execute("ROLLBACK")
    assert await read(sql) == []
    await sql.execute("COMMIT PREPARED 'kept'")
    await sql.execute("ROLLBACK PREPARED 'dropped'")
    # The rotation empties the doorbell's table, but not of unread rows.
    await put(sql, "A")
    assert await sql.fetchval("SELECT stockrelay.rotate('0')") == "switched"
    assert await read(sql) == ["everything"]
    assert await read(sql) == []
    assert [await sql.fetchval("SELECT stockrelay.rotate('0')") for _ in range(2)] == ["emptied", "empty"]
    await put(sql, "B")
    assert await sql.fetchval("SELECT stockrelay.rotate('0')") == "switched"
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.bell") == 0
    assert await read(sql) == ["B"]


async def test_two_readers_take_turns_and_share_what_there_is(place: Place, sql: Connection) -> None:
    other = await place.connect()
    await put(sql, "A")
    await sql.execute("BEGIN")
    assert await read(sql) == ["A"]
    task = await begun(read(other), await place.connect(), other.get_server_pid())
    writer = await place.connect()
    await put(writer, "B")
    await sql.execute("COMMIT")
    assert await task == ["B"], "it sees what was committed while it waited, and not what the first has read"


async def test_a_reading_that_is_rolled_back_is_read_again(sql: Connection) -> None:
    await put(sql, "A")
    await sql.execute("BEGIN")
    assert await read(sql) == ["A"]
    await sql.execute("ROLLBACK")
    assert await read(sql) == ["A"]


async def test_more_skus_than_asked_for_are_everything(sql: Connection) -> None:
    await sql.execute("INSERT INTO shop.goods SELECT 'S' || i FROM generate_series(1, 100) AS i")
    assert len(await read(sql)) == FEW
    await sql.execute("INSERT INTO shop.goods SELECT 'S' || i FROM generate_series(1, 101) AS i")
    assert await read(sql) == ["everything"]
    assert await read(sql) == []


async def test_a_truncate_is_everything(sql: Connection) -> None:
    await put(sql, "A")
    await sql.execute("TRUNCATE shop.goods")
    assert await read(sql) == ["everything"]
    assert await read(sql) == []


@pytest.mark.parametrize("ahead", ["9000000000:9000000000:", "8999999000:9000000000:8999999000,8999999999"])
async def test_transaction_ids_that_ran_backwards_are_everything_once(sql: Connection, ahead: str) -> None:
    await sql.execute("UPDATE stockrelay.read_position SET read_until = $1::text::pg_snapshot", ahead)
    assert await read(sql) == ["everything"]
    assert await read(sql) == []
    await put(sql, "A")
    assert await read(sql) == ["A"]


@pytest.mark.parametrize("function", ["take_changes('sekorm', 10)", "rotate('0')"])
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
async def test_an_isolation_that_would_lose_changes_is_refused(
    sql: Connection, function: str, isolation: str
) -> None:
    await sql.execute(f"BEGIN ISOLATION LEVEL {isolation}")
    with pytest.raises(asyncpg.RaiseError, match="wants READ COMMITTED"):
        await sql.execute(f"SELECT stockrelay.{function}")


# Rotation


async def rotate(session: Connection) -> str:
    step: str = await session.fetchval("SELECT stockrelay.rotate('0')")
    return step


async def test_the_slots_take_turns(sql: Connection) -> None:
    assert await rotate(sql) == "empty"
    await put(sql, "A")
    assert await rotate(sql) == "switched"
    await put(sql, "B")
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.change_1") == 1
    assert await rotate(sql) == "unread"
    assert await read(sql) == ["A", "B"]
    assert await rotate(sql) == "emptied"
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.change_0") == 0
    assert await rotate(sql) == "switched"
    assert await rotate(sql) == "emptied"
    assert await rotate(sql) == "empty"


async def test_a_step_is_not_taken_too_early(sql: Connection) -> None:
    await put(sql, "A")
    assert await sql.fetchval("SELECT stockrelay.rotate('1 hour')") == "too early"


async def test_an_uncommitted_row_keeps_its_slot(place: Place, sql: Connection) -> None:
    other = await place.connect()
    await put(sql, "A")
    await other.execute("BEGIN")
    await put(other, "late")
    assert await rotate(sql) == "switched"
    assert await read(sql) == ["A"]
    assert await rotate(sql) == "locked"
    await other.execute("COMMIT")
    assert await rotate(sql) == "unread"
    assert await read(sql) == ["late"]
    assert await rotate(sql) == "emptied"


async def test_an_old_snapshot_that_writes_into_the_slot_that_rests_is_read(
    place: Place, sql: Connection
) -> None:
    old = await place.connect()
    await put(sql, "A")
    await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    await old.fetch("SELECT count(*) FROM shop.goods")
    assert await rotate(sql) == "switched"
    assert await read(sql) == ["A"]
    assert await rotate(sql) == "emptied"
    await put(old, "old")
    assert await sql.fetchval("SELECT last_value & 1 FROM stockrelay.capture_word") == 1
    await put(sql, "B")
    assert await rotate(sql) == "switched", (
        "an uncommitted row is not seen: the slot is written again, not emptied"
    )
    assert await rotate(sql) in ("locked", "unread")
    await old.execute("COMMIT")
    assert await read(sql) == ["B", "old"]


async def test_a_reading_under_way_is_not_waited_for(place: Place, sql: Connection) -> None:
    await put(sql, "A")
    assert await rotate(sql) == "switched"
    reader = await place.connect()
    await reader.execute("BEGIN; SELECT stockrelay.take_changes('sekorm', 10)")
    assert await rotate(sql) == "locked"
    await reader.execute("ROLLBACK")
    assert await rotate(sql) == "unread"


async def test_a_slot_somebody_dumps_is_not_waited_for(place: Place, sql: Connection) -> None:
    await put(sql, "A")
    await rotate(sql)
    await read(sql)
    dump = await place.connect()
    await dump.execute("BEGIN; LOCK TABLE stockrelay.change_0, stockrelay.change_1 IN ACCESS SHARE MODE")
    assert await rotate(sql) == "locked"
    await put(sql, "B")
    assert await read(sql) == ["B"]


async def test_nothing_is_lost_or_read_twice_while_writers_readers_and_rotation_run(place: Place) -> None:
    """Eight writers (some slow, with savepoints, rollbacks, old snapshots), two readers, a rotation without rest."""
    # Serializable writers read what no other writes: if one of them fails, we caused it.
    await (await place.connect()).execute("CREATE TABLE erp.other ()")
    written: Counter[str] = Counter()
    found: Counter[str] = Counter()
    steps: Counter[str] = Counter()
    stop = asyncio.Event()

    async def write(number: int) -> None:
        session = await place.connect()
        for turn in range(40):
            sku = f"{number}-{turn}"
            isolation = ("READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")[turn % 3]
            await session.execute(
                f"BEGIN ISOLATION LEVEL {isolation}; SELECT count(*) FROM erp.other; SAVEPOINT s"
            )
            await put(session, f"{sku}-undone")
            await session.execute("ROLLBACK TO s")
            await put(session, sku)
            if number < 2:
                await session.execute("SELECT pg_sleep(0.02)")
            if turn % 5 == 4:
                await session.execute("ROLLBACK")
                continue
            await session.execute("COMMIT")
            written[sku] += 1

    async def drain() -> None:
        session = await place.connect()
        while not stop.is_set():
            found.update(await read(session))

    async def keep() -> None:
        session = await place.connect()
        while not stop.is_set():
            steps[await rotate(session)] += 1

    others = [asyncio.create_task(run) for run in (drain(), drain(), keep())]
    await asyncio.gather(*(write(number) for number in range(8)))
    stop.set()
    await asyncio.gather(*others)
    found.update(await read(await place.connect()))
    assert found == written
    assert written
    assert steps["emptied"] > 2, f"the rotation never came round: {steps}"
