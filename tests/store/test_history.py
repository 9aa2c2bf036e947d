"""The attempt log goes back as many days as are kept; a day that is past is dropped as a whole."""

import asyncio
from datetime import UTC, datetime, timedelta

from daemon.store.answers import Answers
from tests.store.place import Connection
from tests.store.shop import CHANNEL, Shop

DAYS = 12
KEPT = 7
A_DAY = 1_000


async def days(sql: Connection) -> list[str]:
    """The days that the log has a table for, the last one first, without those to come."""
    rows = await sql.fetch(
        "SELECT right(inhrelid::regclass::text, 8) AS day FROM pg_inherits "
        "WHERE inhparent = 'stockrelay.attempt'::regclass AND inhrelid::regclass::text ~ '[0-9]{8}$' "
        "AND right(inhrelid::regclass::text, 8) <= to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD') "
        "ORDER BY 1 DESC"
    )
    return [row["day"] for row in rows]


async def long_log(sql: Connection) -> None:
    """A table for each of the last days, with attempts at noon and before."""
    await sql.execute(
        f"""
        DO $$
        DECLARE
            day date;
        BEGIN
            FOR day IN SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date - n FROM generate_series(1, {DAYS}) AS n LOOP
                EXECUTE format('CREATE TABLE IF NOT EXISTS stockrelay.%I PARTITION OF stockrelay.attempt '
                               'FOR VALUES FROM (%L) TO (%L)', 'attempt_' || to_char(day, 'YYYYMMDD'),
                               day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
                INSERT INTO stockrelay.attempt
                SELECT day::timestamp AT TIME ZONE 'UTC' + make_interval(secs => i), i, '{CHANNEL}', 'A', '{{PN}}',
                       i, i, 1, 'applied', '', 7
                FROM generate_series(1, {A_DAY}) AS i;
            END LOOP;
        END $$;
        """
    )


async def test_days_past_their_keeping_are_dropped_as_a_whole(shop: Shop) -> None:
    await long_log(shop.sql)
    before = await days(shop.sql)
    assert len(before) == DAYS + 1
    size = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('stockrelay.attempt') WHERE isleaf"
    was = await shop.sql.fetchval(size)
    rows = "SELECT ctid::text, tableoid::text FROM stockrelay.attempt WHERE at >= $1 ORDER BY 2, 1"
    kept_from = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=KEPT)
    stay = await shop.sql.fetch(rows, kept_from)
    assert await shop.changelog.roll_attempts(timedelta(days=KEPT)) == DAYS - KEPT
    assert await days(shop.sql) == before[: KEPT + 1], "whole days and today"
    assert await shop.sql.fetch(rows, kept_from) == stay, "what is kept is not rewritten"
    assert await shop.sql.fetchval(size) < was * 0.8, "the space is free again"
    kept = await Answers(shop.database).attempts([CHANNEL], sku=None, since=None, outcomes=(), limit=100_000)
    assert len(kept) == KEPT * A_DAY
    assert min(one.attempt.at for one in kept) > datetime.now(UTC) - timedelta(days=KEPT + 1)


async def test_who_may_only_call_the_retention_cannot_empty_the_log(shop: Shop) -> None:
    await long_log(shop.sql)
    await shop.deliver("B", 1)
    for keep in ("0", "-400 days"):
        await shop.sql.execute("SELECT stockrelay.roll_attempts(1000000, $1::text::interval)", keep)
    assert len(await days(shop.sql)) == KEPT + 1, "a week is always kept"
    partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'stockrelay.attempt'::regclass"
    assert await shop.sql.fetchval(partitions) < 50, "and days ahead are not made without end"


async def test_somebody_who_reads_the_log_is_not_waited_for_and_outcomes_are_not_held_up(shop: Shop) -> None:
    await long_log(shop.sql)
    reader = await shop.place.connect()
    transaction = reader.transaction()
    await transaction.start()
    await reader.fetchval("SELECT count(*) FROM stockrelay.attempt")
    async with asyncio.timeout(10):
        assert await shop.changelog.roll_attempts(timedelta(days=KEPT)) == 0
        await shop.deliver("B", 1)
    await transaction.rollback()
    assert await shop.changelog.roll_attempts(timedelta(days=KEPT)) == DAYS - KEPT
