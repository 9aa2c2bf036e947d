"""Whatever is wrong with our schema, the ERP's statement neither fails nor waits."""

import asyncio

import pytest

from tests.store.place import TIMEOUT, Connection, Place, watch


class Erp:
    """The ERP's session, which has no patience, and one that hears the doorbell."""

    def __init__(self, session: Connection, sql: Connection, rung: "asyncio.Queue[str]") -> None:
        self.session = session
        self.sql = sql
        self._rung = rung

    async def sells(self) -> None:
        """A statement of the ERP."""
        await self.session.execute("UPDATE erp.stock SET q = q + 1 WHERE sku = 'A'")
        assert await self.session.fetchval("SELECT q FROM erp.stock WHERE sku = 'A'") > 0

    async def heard(self) -> list[str]:
        """The notifications until now, but for plain rings."""
        await self.sql.execute("SELECT pg_notify('stockrelay', 'end')")
        heard = []
        async with asyncio.timeout(TIMEOUT):
            while (payload := await self._rung.get()) != "end":
                heard.append(payload)
        return [payload for payload in heard if payload]

    async def slots(self) -> tuple[list[str | None], list[str | None]]:
        """What stands in either slot."""
        first = await self.sql.fetch("SELECT sku FROM stockrelay.change_0")
        second = await self.sql.fetch("SELECT sku FROM stockrelay.change_1")
        return [row["sku"] for row in first], [row["sku"] for row in second]


async def opened(place: Place) -> Erp:
    """A watched table with one row; every statement of the ERP is cut after half a second."""
    sql = await place.connect()
    await sql.execute(
        "CREATE TABLE erp.stock (sku text, q integer DEFAULT 0); INSERT INTO erp.stock VALUES ('A')"
    )
    await watch(sql, ("erp.stock", "sku"))
    rung: asyncio.Queue[str] = asyncio.Queue()
    listener = await place.connect()
    await listener.add_listener("stockrelay", lambda *heard: rung.put_nowait(str(heard[3])))
    session = await place.connect()
    await session.execute("SET statement_timeout = '500ms'; SET lock_timeout = '400ms'")
    return Erp(session, sql, rung)


@pytest.fixture
async def erp(place: Place) -> Erp:
    """In the database that tests share."""
    return await opened(place)


@pytest.fixture
async def doomed(fresh: Place) -> Erp:
    """In a database of which our schema will be broken."""
    return await opened(fresh)


async def locked(place: Place, *tables: str) -> Connection:
    """A session that has locked our tables and goes to lunch."""
    session = await place.connect()
    await session.execute("BEGIN")
    for table in tables:
        await session.execute(f"LOCK TABLE stockrelay.{table} IN ACCESS EXCLUSIVE MODE")
    return session


async def test_a_locked_slot_is_stepped_over(place: Place, erp: Erp) -> None:
    session = await locked(place, "change_0")
    await erp.sells()
    await session.execute("ROLLBACK")
    assert await erp.slots() == ([], [None])


async def test_an_index_being_built_on_a_slot_is_stepped_over(place: Place, erp: Erp) -> None:
    session = await place.connect()
    await session.execute("BEGIN; REINDEX TABLE stockrelay.change_0")
    await erp.sells()
    await session.execute("ROLLBACK")
    assert await erp.slots() == ([], [None])


async def test_without_a_slot_a_resync_is_asked_for(place: Place, erp: Erp) -> None:
    session = await locked(place, "change_0", "change_1")
    await erp.sells()
    await session.execute("ROLLBACK")
    assert await erp.slots() == ([], [])
    assert await erp.heard() == ["resync"]


async def test_a_resync_is_asked_for_at_commit_and_not_when_rolled_back(place: Place, erp: Erp) -> None:
    session = await locked(place, "change_0", "change_1")
    await erp.session.execute("BEGIN")
    await erp.sells()
    assert await erp.heard() == []
    await erp.session.execute("ROLLBACK; BEGIN")
    await erp.sells()
    await erp.session.execute("COMMIT")
    await session.execute("ROLLBACK")
    assert await erp.heard() == ["resync"]


async def test_without_a_slot_a_transaction_can_be_prepared(place: Place, erp: Erp) -> None:
    session = await locked(place, "change_0", "change_1")
    await erp.session.execute("BEGIN")
    await erp.sells()
    await erp.session.execute("PREPARE TRANSACTION 'unlogged'")
    await erp.session.execute("COMMIT PREPARED 'unlogged'")
    await session.execute("ROLLBACK")
    assert await erp.heard() == []


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE stockrelay.change_0 CASCADE",
        "ALTER TABLE stockrelay.change_0 RENAME TO mine",
        "CREATE SCHEMA old; ALTER TABLE stockrelay.change_0 SET SCHEMA old",
    ],
)
async def test_a_slot_that_is_gone_is_stepped_over(doomed: Erp, damage: str) -> None:
    await doomed.sells()
    await doomed.sql.execute(damage)
    await doomed.sells()
    assert [row["sku"] for row in await doomed.sql.fetch("SELECT sku FROM stockrelay.change_1")] == [None]


@pytest.mark.parametrize(
    "damage",
    [
        "DROP TABLE stockrelay.change_0, stockrelay.change_1 CASCADE",
        "ALTER TABLE stockrelay.change_0 RENAME TO a; ALTER TABLE stockrelay.change_1 RENAME TO b",
    ],
)
async def test_with_both_slots_gone_the_erp_goes_on(doomed: Erp, damage: str) -> None:
    await doomed.sells()
    await doomed.sql.execute(damage)
    await doomed.sells()
    assert await doomed.heard() == ["resync"]


async def test_a_locked_bell_costs_the_bell_and_not_the_change(place: Place, erp: Erp) -> None:
    session = await locked(place, "bell")
    await erp.sells()
    await session.execute("ROLLBACK")
    assert await erp.slots() == (["A"], [])
    assert await erp.heard() == []


async def test_a_locked_bell_and_a_locked_slot_lose_nothing(place: Place, erp: Erp) -> None:
    session = await locked(place, "bell", "change_0")
    await erp.sells()
    await session.execute("ROLLBACK")
    assert await erp.slots() == ([], [None])


@pytest.mark.parametrize(
    ("damage", "logged"),
    [
        ("DROP TABLE stockrelay.bell", "A"),
        ("ALTER TABLE stockrelay.bell RENAME TO gong", "A"),
        ("DROP SEQUENCE stockrelay.capture_word", None),
        ("ALTER SEQUENCE stockrelay.capture_word RENAME TO mine", None),
    ],
)
async def test_what_else_is_broken_costs_the_bell_and_not_the_change(
    doomed: Erp, damage: str, logged: str | None
) -> None:
    await doomed.sql.execute(damage)
    await doomed.sells()
    assert await doomed.slots() == ([logged], [])
    read = await doomed.sql.fetchrow("SELECT * FROM stockrelay.take_changes('sekorm', 100)")
    assert read is not None
    assert (read["changes"], read["is_everything"]) == (1, logged is None)


async def test_everything_of_ours_locked_lets_the_erp_go_on(place: Place, erp: Erp) -> None:
    session = await locked(place, "bell", "change_0", "change_1", "intake", "ledger", "watch")
    await erp.sells()
    await session.execute("ROLLBACK")


@pytest.mark.parametrize(
    "poison",
    [
        "UPDATE erp.stock SET q = 0",
        "UPDATE erp.stock SET q = 4 WHERE q = 0",
        "INSERT INTO erp.stock VALUES ('X', 0), ('Y', 1)",
        "DELETE FROM erp.stock",
    ],
)
async def test_an_expression_that_raises_on_a_row_marks_everything(erp: Erp, poison: str) -> None:
    await erp.sql.execute("INSERT INTO erp.stock VALUES ('B', 5); COMMIT; TRUNCATE stockrelay.change_0")
    await watch(erp.sql, ("erp.stock", "sku || 100 / q"))
    await erp.session.execute(poison)
    assert await erp.slots() == ([None], [])
    await erp.session.execute("INSERT INTO erp.stock VALUES ('Z', 4)")
    assert await erp.slots() == ([None, "Z25"], [])


@pytest.mark.parametrize("change", ["RENAME COLUMN sku TO article", "DROP COLUMN sku"])
@pytest.mark.parametrize("expression", ["sku", "upper(sku)"])
async def test_a_column_renamed_or_dropped_by_the_erp_marks_everything(
    erp: Erp, change: str, expression: str
) -> None:
    await watch(erp.sql, ("erp.stock", expression))
    await erp.sells()
    await erp.sql.execute("TRUNCATE stockrelay.change_0")
    await erp.session.execute(f"ALTER TABLE erp.stock {change}")
    await erp.session.execute("INSERT INTO erp.stock (q) VALUES (5)")
    await erp.session.execute("UPDATE erp.stock SET q = 6")
    await erp.session.execute("DELETE FROM erp.stock")
    assert await erp.slots() == ([None, None, None], [])


async def test_a_change_of_the_columns_type_is_followed(erp: Erp) -> None:
    await erp.sells()
    await erp.session.execute("ALTER TABLE erp.stock ALTER COLUMN sku TYPE char(9)")
    await erp.sells()
    assert await erp.slots() == (["A", "A"], [])


async def test_a_queue_of_notifications_that_is_half_full_is_left_alone(erp: Erp) -> None:
    """A full one would fail the ERP's commit. (Filling it takes gigabytes: the condition itself is looked at.)"""
    source = await erp.sql.fetchval("SELECT prosrc FROM pg_proc WHERE proname = 'ring'")
    assert "pg_notification_queue_usage() < 0.5" in source


async def test_the_erp_is_not_held_up_by_an_intake_that_reads_or_rotates(place: Place, erp: Erp) -> None:
    await erp.sells()
    reader, keeper = await place.connect(), await place.connect()
    await reader.execute("BEGIN; SELECT stockrelay.take_changes('sekorm', 100)")
    await erp.sells()
    await reader.execute("COMMIT; SELECT stockrelay.take_changes('sekorm', 100)")
    await keeper.execute("SELECT stockrelay.rotate('0')")
    await keeper.execute("BEGIN; SELECT stockrelay.rotate('0')")
    await erp.sells()
    await keeper.execute("COMMIT")
    assert await erp.slots() == ([], ["A"])
