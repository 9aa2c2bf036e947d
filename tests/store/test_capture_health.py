"""Whatever keeps changes from being captured is found, each fault by what it is; where nothing is wrong, nothing is."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from daemon.core.capture import Check
from daemon.core.doorbell import DoorbellState, judge_bell
from daemon.core.finding import Finding, Verdict
from daemon.ops.metrics import Metrics
from daemon.services.capture_health import CaptureHealth, catalog_findings
from daemon.store.capture_health import CaptureHealthStore
from daemon.store.database import Database
from daemon.store.definitions import definitions
from daemon.store.migrate import migrate
from tests.store.place import TIMEOUT, WATCHES, Connection, Place, logged, watch


class Health:
    """What is found in one database, by the superuser's session."""

    def __init__(self, place: Place, database: Database) -> None:
        self.place = place
        self.store = CaptureHealthStore(database)

    async def findings(self) -> list[Finding]:
        return await catalog_findings(self.store.capturing)

    async def only(self) -> Finding:
        (finding,) = await self.findings()
        return finding

    async def bell(self) -> DoorbellState:
        return await self.store.capturing.bell()


@pytest.fixture
async def health(place: Place) -> AsyncIterator[Health]:
    async for made in _opened(place):
        yield made


@pytest.fixture
async def broken(fresh: Place) -> AsyncIterator[Health]:
    """In a database whose schema may be broken."""
    async for made in _opened(fresh):
        yield made


async def _opened(place: Place) -> AsyncIterator[Health]:
    database = Database(place.options(), 2)
    await database.open()
    try:
        yield Health(place, database)
    finally:
        await database.close()


async def parted(sql: Connection) -> None:
    """A watched table with a partition, and a watched expression over several columns."""
    await sql.execute(
        "CREATE TABLE erp.parts (sku text, maker text, q int) PARTITION BY LIST (q);"
        "CREATE TABLE erp.parts_1 PARTITION OF erp.parts FOR VALUES IN (1)"
    )
    await watch(sql, ("shop.goods", "sku"), ("erp.parts", "maker || '/' || sku"))


# Nothing wrong


async def test_nothing_is_found_where_nothing_is_wrong(health: Health, sql: Connection) -> None:
    await parted(sql)
    assert await health.findings() == []
    assert judge_bell(await health.bell(), wants=True, poll_s=1) == []


async def test_every_function_of_the_schema_is_compared(sql: Connection) -> None:
    rows = await sql.fetch(
        "SELECT DISTINCT proname FROM pg_proc "
        "WHERE pronamespace = 'stockrelay'::regnamespace AND proname !~ '^capture_[0-9]'"
    )
    assert sorted(row["proname"] for row in rows) == [each.name for each in definitions()]


async def test_work_and_migrations_are_no_faults(broken: Health) -> None:
    sql = await broken.place.connect()
    assert not await broken.store.has_touched_triggers(), "nothing was known before"
    await sql.execute("INSERT INTO shop.goods SELECT 'S' || i FROM generate_series(1, 20000) AS i")
    await sql.execute("UPDATE shop.goods SET quantity = 1; TRUNCATE shop.goods")
    for _ in range(2):
        await migrate(broken.place.options(), WATCHES, has_doorbell=True)
        assert await broken.findings() == []
        assert not await broken.store.has_touched_triggers()
    await sql.execute("VACUUM (FULL, FREEZE) pg_catalog.pg_trigger")
    assert not await broken.store.has_touched_triggers()


async def test_what_was_dumped_and_restored_wants_a_migration_and_nothing_else(broken: Health) -> None:
    """The tables have other numbers then, which their triggers have to know."""
    place, copy = broken.place, Place(broken.place.server, f"{broken.place.name}_copy")
    server = place.server
    await (await place.connect()).execute("INSERT INTO shop.goods VALUES ('A')")
    dump = subprocess.run(  # noqa: ASYNC221 - the server's own program, in a test
        [str(server.bin_dir / "pg_dump"), "--dbname", place.dsn()],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    server.run_sql(f"CREATE DATABASE {copy.name} TEMPLATE template0")
    server.run_sql(dump.stdout, copy.name)
    async for restored in _opened(copy):
        sql = await copy.connect()
        found = {each.check: each for each in await restored.findings()}
        assert found.keys() == {Check.TABLES}, "functions, triggers and rights are what they were"
        assert "stockrelay migrate" in found[Check.TABLES].advice
        assert not found[Check.TABLES].is_lossy
        await logged(sql)
        await sql.execute("INSERT INTO shop.goods VALUES ('B')")
        assert await logged(sql) in (["B"], [None]), "it is true"
        await migrate(copy.options(), WATCHES, has_doorbell=True)
        assert await restored.findings() == []
        await sql.execute("INSERT INTO shop.goods VALUES ('C')")
        assert await logged(sql) == ["C"]
    await copy.close()
    server.run_sql(f"DROP DATABASE {copy.name} WITH (FORCE)")


# Tables


async def test_a_table_that_is_gone_is_named(health: Health, sql: Connection) -> None:
    await parted(sql)
    await sql.execute("DROP TABLE erp.parts")
    found = await health.only()
    assert (found.check, found.subject, found.is_lossy) == (Check.TABLES, "erp.parts", False)
    assert "gone" in found.found


async def test_a_table_that_was_made_anew_is_not_captured_until_a_migration(
    health: Health, sql: Connection
) -> None:
    await parted(sql)
    await sql.execute("DROP TABLE erp.parts; CREATE TABLE erp.parts (sku text, maker text)")
    found = await health.only()
    assert (found.check, found.is_error, found.is_lossy) == (Check.TABLES, True, True)
    assert "another one has its name" in found.found
    assert "stockrelay migrate" in found.advice
    await sql.execute("INSERT INTO erp.parts VALUES ('A', 'B')")
    assert await logged(sql) == [], "it is true"
    await watch(sql, ("shop.goods", "sku"), ("erp.parts", "sku"))
    assert await health.findings() == []


async def test_a_renamed_table_is_still_captured(health: Health, sql: Connection) -> None:
    await sql.execute('CREATE TABLE erp."Stock" (sku text)')
    await watch(sql, ('erp."Stock"', "sku"))
    assert await health.findings() == []
    await sql.execute('ALTER TABLE erp."Stock" RENAME TO shelf')
    found = await health.only()
    assert (found.check, found.is_error, found.is_lossy) == (Check.TABLES, False, False)
    assert "erp.shelf" in found.found
    await sql.execute("INSERT INTO erp.shelf VALUES ('A')")
    assert await logged(sql) == ["A"], "it is true"


@pytest.mark.parametrize("change", ["RENAME COLUMN sku TO code", "DROP COLUMN sku"])
async def test_a_sku_column_that_is_gone_has_everything_compared(
    health: Health, sql: Connection, change: str
) -> None:
    await sql.execute("CREATE TABLE erp.a (sku text, other text)")
    await watch(sql, ("erp.a", "sku"))
    await sql.execute(f"ALTER TABLE erp.a {change}")
    found = await health.only()
    assert (found.check, found.is_error, found.is_lossy) == (Check.TABLES, True, False)
    assert "the column sku is gone" in found.found
    await sql.execute("INSERT INTO erp.a (other) VALUES ('A')")
    assert await logged(sql) == [None], "it is true"


# Triggers


@pytest.mark.parametrize(
    ("change", "words", "is_error"),
    [
        ("ALTER TABLE erp.parts DISABLE TRIGGER stockrelay_update", "disabled", True),
        (
            "ALTER TABLE erp.parts ENABLE REPLICA TRIGGER stockrelay_update",
            "only in replicated sessions",
            True,
        ),
        ("ALTER TABLE erp.parts ENABLE TRIGGER stockrelay_update", "what a replicated session (", False),
        ("DROP TRIGGER stockrelay_update ON erp.parts", "missing", True),
        (
            (
                "CREATE OR REPLACE TRIGGER stockrelay_update AFTER UPDATE ON erp.parts "
                "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows "
                "FOR EACH STATEMENT EXECUTE FUNCTION stockrelay.ring();"
                "ALTER TABLE erp.parts ENABLE ALWAYS TRIGGER stockrelay_update"
            ),
            "calls another function",
            True,
        ),
        (
            (
                "DO $$ BEGIN EXECUTE format('DROP TRIGGER stockrelay_update ON erp.parts; "
                "CREATE TRIGGER stockrelay_update AFTER UPDATE OF q ON erp.parts FOR EACH STATEMENT "
                "EXECUTE FUNCTION stockrelay.capture_%s_update()', "
                "'erp.parts'::regclass::oid); END $$; ALTER TABLE erp.parts ENABLE ALWAYS TRIGGER stockrelay_update"
            ),
            "fires for other events",
            True,
        ),
    ],
)
async def test_a_trigger_that_is_switched_off_or_changed_is_named(
    health: Health, sql: Connection, change: str, words: str, is_error: bool
) -> None:
    await parted(sql)
    await sql.execute(change)
    found = await health.only()
    assert (found.check, found.subject, found.is_lossy) == (Check.TRIGGERS, "erp.parts", True)
    assert found.is_error is is_error
    assert words in found.found
    assert "stockrelay_update" in found.found
    if "DROP TRIGGER" in found.advice:
        await sql.execute(found.advice.partition(": ")[2].partition(" Then")[0])
    await watch(sql, ("shop.goods", "sku"), ("erp.parts", "maker || '/' || sku"))
    assert await health.findings() == [], "a migration puts it right"


async def test_a_partition_made_later_is_found(health: Health, sql: Connection) -> None:
    await parted(sql)
    await sql.execute("CREATE TABLE erp.parts_2 PARTITION OF erp.parts FOR VALUES IN (2)")
    found = await health.only()
    assert (found.check, found.subject, found.is_lossy) == (Check.PARTITIONS, "erp.parts", True)
    assert "partition erp.parts_2: missing" in found.found
    await sql.execute("INSERT INTO erp.parts_2 VALUES ('A', 'B', 2)")
    assert await logged(sql) == [], "it is true"
    await watch(sql, ("shop.goods", "sku"), ("erp.parts", "maker || '/' || sku"))
    assert await health.findings() == []


async def test_a_trigger_that_was_off_between_two_looks_is_noticed(health: Health, sql: Connection) -> None:
    await parted(sql)
    assert not await health.store.has_touched_triggers()
    assert not await health.store.has_touched_triggers()
    await sql.execute(
        "BEGIN; ALTER TABLE erp.parts_1 DISABLE TRIGGER ALL; INSERT INTO erp.parts_1 VALUES ('A', 'B', 1);"
        + "".join(
            f"ALTER TABLE erp.parts_1 ENABLE ALWAYS TRIGGER stockrelay_{event};"
            for event in ("insert", "update", "delete", "truncate")
        )
        + "COMMIT"
    )
    assert await logged(sql) == [], "a change was missed"
    assert await health.findings() == [], "and nothing is to be seen of it"
    assert await health.store.has_touched_triggers()
    assert not await health.store.has_touched_triggers()


# Functions and rights


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            (
                "CREATE OR REPLACE FUNCTION stockrelay.ring() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER "
                "SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'"
            ),
            "stockrelay.ring: another text",
        ),
        ("ALTER FUNCTION stockrelay.rotate SECURITY INVOKER", "stockrelay.rotate: with another's rights"),
        ("ALTER FUNCTION stockrelay.ring RESET search_path", "stockrelay.ring: with another search_path"),
        (
            "ALTER FUNCTION stockrelay.canary SET search_path = public",
            "stockrelay.canary: with another search_path",
        ),
        ("DROP FUNCTION stockrelay.set_doorbell", "stockrelay.set_doorbell: missing"),
        (
            (
                "CREATE OR REPLACE FUNCTION stockrelay.is_zero(rows integer, quantity integer) RETURNS boolean "
                "LANGUAGE sql AS 'SELECT false'"
            ),
            "stockrelay.is_zero: another text",
        ),
    ],
)
async def test_a_function_that_was_changed_is_named(broken: Health, change: str, words: str) -> None:
    await (await broken.place.connect()).execute(change)
    found = await broken.only()
    assert (found.check, found.subject, found.is_lossy) == (Check.FUNCTIONS, "", True)
    assert words in found.found
    assert "migrate --sql" in found.advice


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            (
                "CREATE OR REPLACE FUNCTION stockrelay.capture_%s_delete() RETURNS trigger LANGUAGE plpgsql "
                "SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS ''BEGIN RETURN NULL; END''"
            ),
            "_delete: another text",
        ),
        ("ALTER FUNCTION stockrelay.capture_%s_insert() SECURITY INVOKER", "_insert: with another's rights"),
        ("ALTER FUNCTION stockrelay.capture_%s_insert() RESET ALL", "_insert: with another search_path"),
    ],
)
async def test_a_trigger_function_that_was_changed_is_named_with_its_table(
    broken: Health, change: str, words: str
) -> None:
    sql = await broken.place.connect()
    await sql.execute(f"DO $$ BEGIN EXECUTE format('{change}', 'shop.goods'::regclass::oid); END $$")
    found = await broken.only()
    assert (found.check, found.subject, found.is_lossy) == (Check.FUNCTIONS, "shop.goods", True)
    assert words in found.found
    await migrate(broken.place.options(), WATCHES, has_doorbell=True)
    assert await broken.findings() == [], "a migration puts it right"


async def test_a_schema_of_another_version_is_not_compared(broken: Health) -> None:
    sql = await broken.place.connect()
    await sql.execute("ALTER FUNCTION stockrelay.rotate SECURITY INVOKER")
    await sql.execute("UPDATE stockrelay.alembic_version SET version_num = '9999'")
    assert await broken.findings() == []


async def test_an_owner_that_lost_its_rights_is_told_the_grants(broken: Health) -> None:
    sql, owner = await broken.place.connect(), f"{broken.place.name}_owner"
    await sql.execute(f"CREATE ROLE {owner}; GRANT CREATE ON DATABASE {broken.place.name} TO {owner}")
    try:
        for event in ("insert", "update", "delete", "truncate"):
            await sql.execute(
                f"DO $$ BEGIN EXECUTE format('ALTER FUNCTION stockrelay.capture_%s_{event}() OWNER TO {owner}', "
                "'shop.goods'::regclass::oid); END $$"
            )
        found = await broken.only()
        assert (found.check, found.subject, found.is_lossy) == (Check.RIGHTS, owner, True)
        await sql.execute(found.advice.partition(": ")[2])
        assert await broken.findings() == [], "the advised grants are enough"
        await sql.execute("INSERT INTO shop.goods VALUES ('A')")
        assert await logged(sql) == ["A"], "and it is true"
    finally:
        await sql.execute(f"REASSIGN OWNED BY {owner} TO postgres; DROP OWNED BY {owner}; DROP ROLE {owner}")


# Replicated sessions


async def test_replicated_sessions_lose_nothing_while_the_triggers_are_always_on(
    place: Place, health: Health, sql: Connection
) -> None:
    await sql.execute(f"ALTER DATABASE {place.name} SET session_replication_role = replica")
    try:
        writer = await place.connect()
        assert await writer.fetchval("SHOW session_replication_role") == "replica"
        await writer.execute("INSERT INTO shop.goods VALUES ('A')")
        assert await logged(sql) == ["A"]
        assert await health.findings() == []
        await sql.execute("ALTER TABLE shop.goods ENABLE TRIGGER stockrelay_insert")
        found = {each.check: each for each in await health.findings()}
        assert found.keys() == {Check.TRIGGERS, Check.REPLICATION}
        assert f"every session of the database {place.name}" in found[Check.REPLICATION].found
        assert found[Check.REPLICATION].is_error
        await writer.execute("INSERT INTO shop.goods VALUES ('B')")
        assert await logged(sql) == [], "it is true"
    finally:
        await sql.execute(f"ALTER DATABASE {place.name} RESET session_replication_role")
    assert [each.check for each in await health.findings()] == [Check.TRIGGERS]


async def test_a_role_that_always_works_in_replicated_sessions_is_named(
    place: Place, health: Health, sql: Connection
) -> None:
    loader = f"{place.name}_Loader"
    await sql.execute(
        f'CREATE ROLE "{loader}"; ALTER ROLE "{loader}" SET session_replication_role = replica;'
        f"ALTER ROLE \"{loader}\" IN DATABASE {place.name} SET session_replication_role = 'replica';"
        "ALTER TABLE shop.goods ENABLE TRIGGER stockrelay_insert"
    )
    try:
        found = {each.check: each.found for each in await health.findings()}[Check.REPLICATION]
        assert f'the role "{loader}"; the role "{loader}" in the database {place.name}' in found
    finally:
        await sql.execute(f'DROP ROLE "{loader}"')


async def test_triggers_that_never_fired_in_replicated_sessions_are_no_news(
    health: Health, sql: Connection
) -> None:
    """As where the owner role is no member of the table's owner; `stockrelay check` says so."""
    await sql.execute("ALTER TABLE shop.goods ENABLE TRIGGER stockrelay_insert")
    await sql.execute("UPDATE stockrelay.watch SET is_always = false")
    assert await health.findings() == []


# What became of the SKU


@pytest.mark.parametrize(
    ("sku", "change", "words"),
    [
        ("sku", "RENAME sku TO article", "the column sku is gone"),
        ("upper(sku)", "DROP sku", "the column sku is gone"),
        ("sku", "ALTER sku TYPE date USING '2026-01-01'", "the column sku has another type, date"),
        ("sku", "ALTER sku TYPE erp.mood USING 'sad'", "the column sku has another type, erp.mood"),
        ("upper(sku)", "ALTER sku TYPE erp.mood USING 'sad'", "the column sku has another type, erp.mood"),
        (
            "sku",
            "DROP sku, ADD sku text GENERATED ALWAYS AS ('S' || q) VIRTUAL",
            "sku is a virtual generated one",
        ),
        (
            "upper(sku)",
            "DROP sku, ADD sku text GENERATED ALWAYS AS ('S' || q) VIRTUAL",
            "sku is a virtual generated",
        ),
    ],
)
async def test_a_sku_that_cannot_be_captured_any_more_is_named(
    health: Health, sql: Connection, sku: str, change: str, words: str
) -> None:
    if "VIRTUAL" in change and health.place.server.major < 18:
        pytest.skip("no virtual columns")
    await sql.execute(
        "CREATE TABLE erp.stock (sku text, q integer DEFAULT 0); CREATE TYPE erp.mood AS ENUM ('sad')"
    )
    await watch(sql, ("erp.stock", sku))
    for harmless in ("ALTER sku TYPE varchar(40)", "ADD note text", "ALTER sku SET NOT NULL"):
        await sql.execute(f"ALTER TABLE erp.stock {harmless}")
    assert await health.findings() == []
    await sql.execute(f"ALTER TABLE erp.stock {change}")
    found = await health.only()
    assert (found.check, found.subject, found.is_lossy) == (Check.TABLES, "erp.stock", False)
    assert words in found.found
    assert "stockrelay migrate" in found.advice


# The doorbell


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE stockrelay.bell DISABLE TRIGGER stockrelay_ring", "disabled"),
        ("ALTER TABLE stockrelay.bell ENABLE TRIGGER stockrelay_ring", "not in replicated sessions"),
        ("DROP TRIGGER stockrelay_ring ON stockrelay.bell", "missing"),
        ("SELECT stockrelay.set_doorbell(false)", "off in the database, on in the configuration"),
        (
            "SELECT setval('stockrelay.capture_word', ((extract(epoch FROM now()) + 3600) * 1000)::bigint)",
            "silenced for longer than any intake does",
        ),
    ],
)
async def test_a_doorbell_that_cannot_ring_is_a_warning(broken: Health, change: str, words: str) -> None:
    await (await broken.place.connect()).execute(change)
    (found,) = judge_bell(await broken.bell(), wants=True, poll_s=1)
    assert (found.check, found.is_error, found.is_lossy) == (Check.DOORBELL, False, False)
    assert words in found.found
    assert "up to 1 s late" in found.found


async def test_a_doorbell_that_rings_although_it_should_not_is_a_warning(health: Health) -> None:
    (found,) = judge_bell(await health.bell(), wants=False, poll_s=1)
    assert "the ERP's commits still send notifications" in found.found


# The canary


async def test_a_canary_is_read_and_is_no_change(health: Health, sql: Connection) -> None:
    assert await health.store.send_canary() == "asked"
    await sql.execute("INSERT INTO shop.goods VALUES ('A')")
    read = "SELECT changes, is_everything, skus FROM stockrelay.take_changes('sekorm', 5000)"
    assert tuple(await sql.fetchrow(read) or ()) == (1, False, ["A"])
    assert tuple(await sql.fetchrow(read) or ()) == (0, False, None)
    await health.store.send_canary()
    before = await sql.fetchval("SELECT read_until::text FROM stockrelay.read_position")
    assert tuple(await sql.fetchrow(read) or ()) == (0, False, None)
    assert await sql.fetchval("SELECT read_until::text FROM stockrelay.read_position") != before


async def test_canaries_do_not_keep_the_log_from_being_emptied(health: Health, sql: Connection) -> None:
    await health.store.send_canary()
    steps = []
    for _ in range(3):
        await sql.execute("SELECT stockrelay.take_changes('sekorm', 5000)")
        steps.append(await sql.fetchval("SELECT stockrelay.rotate('0')"))
    assert steps == ["switched", "emptied", "empty"]
    await health.store.send_canary()
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.change_1") == 1, (
        "it takes the slot of the time"
    )


async def test_a_canary_says_what_becomes_of_the_bell(health: Health, sql: Connection) -> None:
    await sql.execute("SELECT stockrelay.stay_awake(60000)")
    assert await health.store.send_canary() == "awake"
    await sql.execute("SELECT stockrelay.set_doorbell(false)")
    assert await health.store.send_canary() == "off"


async def test_a_reading_that_does_not_come_is_late(place: Place, health: Health, sql: Connection) -> None:
    store = health.store
    await store.send_canary()
    since = await store.now()
    assert await store.is_reading_late(since, timedelta(minutes=1)) is None, "too early to say"
    await asyncio.wait_for(past(sql, "SELECT $1 < clock_timestamp()", since), TIMEOUT)
    assert await store.is_reading_late(since, timedelta(0)) is False, "what was sent before does not count"
    await store.send_canary()
    assert await store.is_reading_late(since, timedelta(minutes=1)) is None
    assert await store.is_reading_late(since, timedelta(0)) is True
    reader = await place.connect()
    await reader.execute("BEGIN; SELECT stockrelay.take_changes('sekorm', 5000)")
    assert await store.is_reading_late(since, timedelta(0)) is False, "a reader is at work"
    await reader.execute("COMMIT")
    assert await store.is_reading_late(since, timedelta(0)) is False
    await sql.execute("INSERT INTO shop.goods VALUES ('A')")
    assert await store.is_reading_late(since, timedelta(0)) is False, (
        "a change may come from a long transaction"
    )


async def past(sql: Connection, query: str, *arguments: object) -> None:
    # The server's clock is what is waited for.
    while not await sql.fetchval(query, *arguments):  # noqa: ASYNC110
        await asyncio.sleep(0.005)


# Kept and told


async def test_a_finding_is_told_once_and_once_more_when_it_is_over(health: Health, sql: Connection) -> None:
    async def notices() -> list[str]:
        return [row["kind"] for row in await sql.fetch("SELECT kind FROM stockrelay.notice ORDER BY id")]

    store, checks = health.store, [Check.TRIGGERS, Check.TABLES]
    bad = Finding(Check.TRIGGERS, "erp.a", "it is off", "switch it on")
    changed = await store.keep("", checks, [bad])
    assert [each.finding for each in changed.opened] == [bad]
    again = await store.keep("", checks, [bad])
    assert (list(again.opened), list(again.ended)) == ([], [])
    assert [each.finding for each in await store.open()] == [bad]
    worse = Finding(Check.TRIGGERS, "erp.a", "two are off", "switch them on")
    assert [each.finding for each in (await store.keep("", checks, [worse])).opened] == [worse]
    await store.keep("", [Check.DOORBELL], [])
    await store.keep("another", checks, [])
    assert [each.finding for each in await store.open()] == [worse]
    ended = (await store.keep("", checks, [])).ended
    assert [each.finding for each in ended] == [worse]
    assert await store.open() == []
    assert await notices() == ["capture_failed", "capture_failed", "capture_recovered"]


async def test_what_a_replica_reported_that_is_gone_is_over(health: Health) -> None:
    bad = Finding(
        Check.CANARY, "listener of gone", "not heard", "look", verdict=Verdict.WARNING, is_lossy=False
    )
    await health.store.keep("gone", [Check.CANARY], [bad])
    assert not (await health.store.expire(timedelta(hours=1))).ended
    assert [each.finding for each in (await health.store.expire(timedelta(0))).ended] == [bad]


async def test_what_only_a_newer_program_looks_at_is_left_to_it(health: Health, sql: Connection) -> None:
    await sql.execute(
        "INSERT INTO stockrelay.capture_finding (reporter, kind, subject, is_error, is_lossy, found, advice) "
        "VALUES ('', 'later', 'x', true, true, 'a', 'b')"
    )
    assert await health.store.open() == []
    assert not (await health.store.keep("", list(Check), [])).ended
    assert await sql.fetchval("SELECT count(*) FROM stockrelay.capture_finding") == 1


async def test_one_replica_looks_for_all(health: Health) -> None:
    turns = await asyncio.gather(*(health.store.claim_check(timedelta(hours=1)) for _ in range(8)))
    assert sorted(turns) == [False] * 7 + [True]
    assert not await health.store.claim_check(timedelta(hours=1))
    assert await health.store.claim_check(timedelta(0))
    assert await health.store.checked_at() is not None


# The service


class Checks(Metrics):
    """Notes which checks passed."""

    def __init__(self) -> None:
        super().__init__(())
        self.healthy: dict[str, float] = {}

    def set(self, name: str, value: float, *labels: str) -> None:
        assert name == "stockrelay_capture_healthy"
        self.healthy[labels[0]] = value


class Watched:
    """The service in a task, and what it asks for and counts."""

    def __init__(self, health: Health) -> None:
        self.resyncs: asyncio.Queue[str] = asyncio.Queue()
        self.checks = Checks()
        self.stop = asyncio.Event()
        self.store = health.store
        self.service = CaptureHealth(
            health.store,
            "me",
            timedelta(seconds=0.1),
            timedelta(seconds=1),
            lambda: True,
            self.resyncs.put_nowait,
            self.checks,
            wants_doorbell=True,
            heard_within=timedelta(seconds=0.2),
            read_within=timedelta(seconds=0.5),
        )

    async def until(self, check: Check, *, is_healthy: bool) -> None:
        """Wait until the service says so of that check."""
        async with asyncio.timeout(TIMEOUT):
            while self.checks.healthy.get(check) is not is_healthy:  # noqa: ASYNC110 - it says it every tenth of a second
                await asyncio.sleep(0.01)


@asynccontextmanager
async def watched(health: Health) -> AsyncIterator[Watched]:
    made = Watched(health)
    task = asyncio.create_task(made.service.run(made.stop))
    try:
        yield made
    finally:
        made.stop.set()
        await asyncio.wait_for(task, TIMEOUT)


async def test_nobody_who_reads_is_an_error_until_somebody_does(health: Health, sql: Connection) -> None:
    async with watched(health) as service:
        await service.until(Check.READING, is_healthy=False)
        (found,) = [each for each in await health.store.open() if each.finding.check == Check.READING]
        assert (found.finding.is_error, found.reporter) == (True, "")
        reader = asyncio.create_task(reading(sql))
        await service.until(Check.READING, is_healthy=True)
        reader.cancel()
    assert service.resyncs.empty(), "nothing was missed"


async def reading(sql: Connection) -> None:
    while True:
        await sql.execute("SELECT stockrelay.take_changes('sekorm', 5000)")
        await asyncio.sleep(0.01)


async def test_a_ring_that_is_not_heard_is_reported_by_the_replica_and_over_when_it_is(
    place: Place, health: Health
) -> None:
    async with watched(health) as service:
        await service.until(Check.CANARY, is_healthy=False)
        (found,) = [each for each in await health.store.open() if each.finding.check == Check.CANARY]
        assert (found.reporter, found.finding.is_error) == ("me", False)
        listener = await place.connect()
        await listener.add_listener("stockrelay", lambda *_: service.service.heard())
        await service.until(Check.CANARY, is_healthy=True)
    assert service.resyncs.empty(), "nothing was missed"


async def test_what_may_have_been_missed_has_everything_compared_when_found_and_when_over(
    health: Health, sql: Connection
) -> None:
    async with watched(health) as service:
        await service.until(Check.TRIGGERS, is_healthy=True)
        await sql.execute("ALTER TABLE shop.goods DISABLE TRIGGER stockrelay_insert")
        await service.until(Check.TRIGGERS, is_healthy=False)
        await sql.execute("ALTER TABLE shop.goods ENABLE ALWAYS TRIGGER stockrelay_insert")
        await service.until(Check.TRIGGERS, is_healthy=True)
        assert [await asyncio.wait_for(service.resyncs.get(), TIMEOUT) for _ in range(2)] == [
            "capture health: triggers shop.goods"
        ] * 2
        await sql.execute(
            "BEGIN; ALTER TABLE shop.goods DISABLE TRIGGER stockrelay_insert;"
            "ALTER TABLE shop.goods ENABLE ALWAYS TRIGGER stockrelay_insert; COMMIT"
        )
        reason = await asyncio.wait_for(service.resyncs.get(), TIMEOUT)
        assert reason == "capture health: triggers were switched or made anew"
    assert set(service.checks.healthy) == set(Check)


async def test_a_bell_that_is_silenced_for_long_rings_again(health: Health, sql: Connection) -> None:
    await sql.execute("SELECT stockrelay.stay_awake(3600000)")
    async with watched(health) as service:
        await service.until(Check.DOORBELL, is_healthy=False)
        await service.until(Check.DOORBELL, is_healthy=True)
    assert (await health.bell()).silenced_s < 60


async def test_a_database_that_refuses_is_said_and_asked_again(broken: Health) -> None:
    sql = await broken.place.connect()
    await sql.execute("ALTER TABLE stockrelay.capture_health RENAME TO elsewhere")
    with capture_logs() as lines:
        async with watched(broken) as service, asyncio.timeout(TIMEOUT):
            while not [line for line in lines if line["event"] == "capture.check_delayed"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await sql.execute("ALTER TABLE stockrelay.elsewhere RENAME TO capture_health")
            await service.until(Check.TRIGGERS, is_healthy=True)
    (level,) = {line["log_level"] for line in lines if line["event"] == "capture.check_delayed"}
    assert level == "error"
