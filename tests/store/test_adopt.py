"""A restored copy that takes over: nothing is left of what holds on the old server alone; every number is confirmed."""

import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from daemon.core.errors import ForeignDatabase, StoreRefused
from daemon.store.live import LiveChannels
from daemon.store.migrate import migrate
from tests.store.place import OTHER_IDS, WATCHES, Place
from tests.store.shop import CHANNEL, SETTLE, Shop, opened

RESTORES = Path(__file__).parents[2] / "docs" / "deployment.md"
NO_AGE = timedelta(0)


@asynccontextmanager
async def restored(source: Place) -> AsyncIterator[Place]:
    """A dump of the database, restored beside it."""
    server, copy = source.server, Place(source.server, f"{source.name}_copy")
    dump = subprocess.run(  # noqa: ASYNC221 - the server's own program, in a test
        [str(server.bin_dir / "pg_dump"), "--dbname", source.dsn()],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    server.run_sql(f"CREATE DATABASE {copy.name} TEMPLATE template0")
    server.run_sql(dump.stdout, copy.name)
    try:
        yield copy
    finally:
        await copy.close()
        server.run_sql(f"DROP DATABASE {copy.name} WITH (FORCE)")


async def is_silent_and_empties_its_log(shop: Shop) -> None:
    """Nothing is new and nothing is compared, reading after reading; the log is emptied, and a change is read once."""
    for _ in range(3):
        drained = await shop.drain()
        assert (drained.changes, drained.is_everything, drained.wants_resync) == (0, False, False)
    steps = [await shop.changelog.rotate(NO_AGE) for _ in range(6)]
    assert steps[-1] == "empty", steps
    assert await shop.sql.fetchval("SELECT count(*) FROM stockrelay.change") == 0
    await shop.sells("new", 3)
    assert (await shop.drain()).changes == 1
    assert (await shop.drain()).changes == 0


@pytest.mark.parametrize("ids", [10_000_000, -500], ids=["younger", "older"])
async def test_a_copy_restored_into_a_younger_or_older_server_is_silent_once_adopted(
    fresh: Place, ids: int
) -> None:
    async with opened(fresh) as old:
        await old.take()
        await old.deliver("A", 5)
        await old.sells("B", 7)
        await old.sql.execute("TRUNCATE shop.goods")
        await old.sql.execute(OTHER_IDS.format(ids))
    async with restored(fresh) as copy, opened(copy) as shop:
        await shop.sells("C", 9)
        await migrate(copy.options(), WATCHES, has_doorbell=True)
        with pytest.raises(ForeignDatabase):
            await shop.identity.check(10, SETTLE)
        await shop.identity.adopt(10, SETTLE)
        assert (await shop.drain()).wants_resync
        assert (await shop.resync()).is_compared
        assert await shop.find("C") is not None
        await is_silent_and_empties_its_log(shop)


async def test_transaction_ids_that_ran_backwards_have_everything_compared_once(shop: Shop) -> None:
    for sku in ("A", "B"):
        await shop.sells(sku, 5)
    await shop.sql.execute(OTHER_IDS.format(10_000_000))
    drained = await shop.drain()
    assert (drained.is_everything, drained.is_compared) == (True, True)
    await shop.sql.execute("UPDATE stockrelay.intake SET switched_at = clock_timestamp() + interval '1 day'")
    await is_silent_and_empties_its_log(shop)


FUTURE = "clock_timestamp() + interval '1 day'"
OLD_SERVERS = f"""
UPDATE stockrelay.intake SET system_identifier = 42, switched_at = {FUTURE};
UPDATE stockrelay.lease SET holder = 'old', until = {FUTURE};
INSERT INTO stockrelay.replica (holder, channels, until) VALUES ('old', '{{sekorm}}', {FUTURE});
INSERT INTO stockrelay.notice (kind, key, data, taken_until, next_try_at) VALUES ('k', 'k', '{{}}', {FUTURE}, {FUTURE});
INSERT INTO stockrelay.reconcile_run (channel, day, kind, holder, until, retry_at)
    VALUES ('sekorm', '2026-01-02', 'manual', 'old', {FUTURE}, {FUTURE});
INSERT INTO stockrelay.guard (channel, pass_until) VALUES ('sekorm', {FUTURE});
UPDATE stockrelay.capture_health SET checked_at = {FUTURE};
UPDATE stockrelay.ledger SET want_seq = 7000000000, acked_seq = 7000000000, retry_at = {FUTURE};
SELECT stockrelay.stay_awake(86400), setval('stockrelay.want_seq', 1), setval('stockrelay.attempt_id', 1),
       setval('stockrelay.notice_id_seq', 1, false);
"""
"""Times of another server's clock, its replicas, and the sequences of a logical copy, which begin anew."""
IN_THE_WAY = """
SELECT 'lease' FROM stockrelay.lease WHERE holder IS NOT NULL OR until > clock_timestamp()
UNION ALL SELECT 'replica' FROM stockrelay.replica
UNION ALL SELECT 'notice' FROM stockrelay.notice WHERE taken_until IS NOT NULL OR next_try_at > clock_timestamp()
UNION ALL SELECT 'run' FROM stockrelay.reconcile_run
          WHERE holder IS NOT NULL OR greatest(until, retry_at) > clock_timestamp()
UNION ALL SELECT 'guard' FROM stockrelay.guard WHERE pass_until > clock_timestamp()
UNION ALL SELECT 'health' FROM stockrelay.capture_health WHERE checked_at > clock_timestamp()
UNION ALL SELECT 'word' FROM stockrelay.capture_word WHERE last_value > 1
UNION ALL SELECT 'switch' FROM stockrelay.intake WHERE switched_at > clock_timestamp()
"""


async def test_what_the_old_servers_clock_and_sequences_said_holds_up_nothing(shop: Shop) -> None:
    await shop.deliver("A", 5)
    last = (await shop.attempts())[-1]["attempt_id"]
    await shop.sql.execute(OLD_SERVERS)
    await shop.identity.adopt(10, SETTLE)
    assert [row[0] for row in await shop.sql.fetch(IN_THE_WAY)] == []
    await shop.resync()
    await shop.sells("A", 6)
    await shop.drain()
    row = await shop.row("A")
    assert row["is_wanted"], "a change would be taken for acknowledged"
    assert row["retry_at"] is None
    await shop.pass_time(100)
    owner = await shop.take_free("one")
    claim = await shop.claim(owner=owner)
    assert [one.push.quantity for one in claim.attempts] == [6]
    assert claim.attempts[0].attempt_id > last + 1_000_000
    new = "INSERT INTO stockrelay.notice (kind, key, data) VALUES ('k', 'l', '{}')"
    await shop.sql.execute(new)


async def test_while_a_subscription_writes_our_tables_nothing_is_adopted(shop: Shop) -> None:
    await shop.sql.execute(
        "CREATE SUBSCRIPTION old CONNECTION '' PUBLICATION old WITH (connect = false, slot_name = NONE);"
        "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
        "SELECT oid, 'stockrelay.ledger'::regclass, 'r' FROM pg_subscription WHERE subname = 'old'"
    )
    try:
        with pytest.raises(StoreRefused, match=r"subscription old writes .* DROP SUBSCRIPTION old"):
            await shop.identity.adopt(10, SETTLE)
    finally:
        await shop.sql.execute("DROP SUBSCRIPTION old")
    await shop.identity.adopt(10, SETTLE)


async def test_adopting_the_database_that_is_pushed_from_keeps_owners_and_numbers(shop: Shop) -> None:
    await shop.deliver("A", 5)
    before = await shop.sql.fetchrow(
        "SELECT l.*, s.last_value FROM stockrelay.lease AS l, stockrelay.want_seq AS s"
    )
    await shop.identity.adopt(10, SETTLE)
    after = await shop.sql.fetchrow(
        "SELECT l.*, s.last_value FROM stockrelay.lease AS l, stockrelay.want_seq AS s"
    )
    assert before == after


async def test_every_number_of_an_adopted_copy_is_confirmed_a_few_at_a_time(shop: Shop) -> None:
    for sku in ("A", "B", "C"):
        await shop.deliver(sku, 5)
    await shop.identity.adopt(10, SETTLE)
    rows = [await shop.row(sku) for sku in ("A", "B", "C")]
    dues = [row["due_at"] for row in rows]
    assert dues == sorted(dues)
    assert 0.05 < (dues[2] - dues[1]).total_seconds() < 0.2
    await shop.pass_time(10)
    claim = await shop.claim()
    assert sorted((one.push.sku, one.push.quantity) for one in claim.attempts) == [
        ("A", 5),
        ("B", 5),
        ("C", 5),
    ]
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    assert not (await shop.claim()).attempts
    # A request of which the copy knows nothing may have landed after that.
    await shop.pass_time(SETTLE.total_seconds())
    claim = await shop.claim()
    assert [one.push.sku for one in claim.attempts] == ["A", "B", "C"]
    for attempt in claim.attempts:
        await shop.complete(attempt, "applied")
    assert (await shop.row("A"))["doubt_at"] is None
    await shop.pass_time(SETTLE.total_seconds())
    assert not (await shop.claim()).attempts


async def test_the_document_on_restores_has_every_column_and_sequence(shop: Shop) -> None:
    table = RESTORES.read_text("utf-8").partition("## What a restore makes")[2]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE)
    told = [(name, each) for name, cells in rows for each in re.findall(r"`(\w+)`", cells) or ["sequence"]]
    found = await shop.sql.fetch(
        "SELECT c.relname::text, CASE c.relkind WHEN 'S' THEN 'sequence' ELSE a.attname::text END "
        "FROM pg_class AS c LEFT JOIN pg_attribute AS a "
        "ON c.relkind <> 'S' AND a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.relnamespace = 'stockrelay'::regnamespace AND c.relkind IN ('r', 'p', 'S') AND NOT c.relispartition"
    )
    assert sorted(told) == sorted(tuple(row) for row in found)


async def test_an_adopted_copy_that_lacks_its_live_channels_sends_nothing_before_they_go_live(
    shop: Shop,
) -> None:
    await shop.deliver("A", 5)
    await shop.sql.execute("DELETE FROM stockrelay.live")
    await shop.identity.adopt(10, SETTLE)
    await shop.resync()
    await shop.sells("A", 6)
    await shop.drain()
    await shop.pass_time(100)
    owner = await shop.take_free("one")
    claim = await shop.claim(owner=owner)
    assert (claim.captured, claim.attempts, claim.is_live) == (1, [], False)
    assert await LiveChannels(shop.database).begin(CHANNEL, "ann", "here") is not None
    await shop.ledger.end_shadow(owner.epochs, 10)
    assert [one.push.quantity for one in (await shop.claim(owner=owner)).attempts] == [6]
