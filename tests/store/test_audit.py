"""What is done to the attempt log behind the daemon's back is found, and named."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.audit import Head, parsed_head
from daemon.store.audit import Audit
from tests.store.shop import CHANNEL, Shop

LOG = "stockrelay.attempt"
KEEP = timedelta(days=30)
DAY = "(now() AT TIME ZONE 'UTC')::date"


async def log(shop: Shop, first: int, last: int, chain: str = CHANNEL, days_ago: int = 0) -> None:
    """Append attempts as the daemon's statements do; odd ones have no identifiers and no duration."""
    await shop.sql.execute(
        "SELECT stockrelay.log_attempts($1, array_agg(ROW(now() - make_interval(days => $4), n, 'sekorm', 'SKU-' || n, "
        "CASE WHEN n % 2 = 0 THEN ARRAY['PN \"1\"', NULL] END, n, n, 1, 'applied', E'words, 快', "
        "CASE WHEN n % 2 = 0 THEN 1.5 END, now())::stockrelay.attempt)) FROM generate_series($2::bigint, $3) AS n",
        chain,
        first,
        last,
        days_ago,
    )


async def broken(shop: Shop) -> list[str]:
    """What verification finds, without the days."""
    audit = Audit(shop.database)
    return [str(found).partition(": ")[2] async for day in audit.verify() for found in day.breaks]


async def fill(shop: Shop) -> None:
    """Three batches of one chain, one of another, and two of the day before, one of them written late."""
    await log(shop, 1, 3, days_ago=1)
    await log(shop, 10, 14)
    await log(shop, 4, 5, days_ago=1)
    await log(shop, 20, 22)
    await log(shop, 30, 30)
    await log(shop, 40, 41, chain="ymatou")


async def test_what_the_daemon_writes_is_whole_in_any_session(shop: Shop) -> None:
    await shop.deliver("A", 5)
    await shop.deliver("B", 0)
    await fill(shop)
    await shop.sql.execute(
        "SET extra_float_digits = 0; SET DateStyle = 'German'; SET TimeZone = 'Asia/Kolkata'; SET bytea_output = escape"
    )
    await log(shop, 50, 52)
    audit = Audit(shop.database)
    found = [(day.batches, day.attempts, day.breaks) async for day in audit.verify()]
    assert found == [(2, 5, ()), (7, 16, ())]


@pytest.mark.parametrize(
    ("deed", "found"),
    [
        (
            f"UPDATE {LOG} SET quantity = 0 WHERE attempt_id = 12",
            "attempt 12 (sekorm, SKU-12) was altered; batch 1 of chain sekorm holds it",
        ),
        (
            f"UPDATE {LOG} SET duration_ms = 2 WHERE attempt_id = 12",
            "attempt 12 (sekorm, SKU-12) was altered; batch 1 of chain sekorm holds it",
        ),
        (f"DELETE FROM {LOG} WHERE attempt_id = 4", "attempt 4 was removed; batch 2 of chain sekorm holds it"),
        (
            f"INSERT INTO {LOG} SELECT at, 99, channel, 'X', identifiers, 1, 1, 1, outcome, reason FROM {LOG} LIMIT 1",
            "attempt 99 (sekorm, X) was added",
        ),
        (f"INSERT INTO {LOG} SELECT * FROM {LOG} WHERE attempt_id = 20", "attempt 20 (sekorm, SKU-20) was added"),
        (
            f"UPDATE {LOG} SET at = at - interval '1 day' WHERE attempt_id = 30",
            "attempt 30 (sekorm, SKU-30) was added",
        ),
        (
            (
                f"DELETE FROM stockrelay.attempt_batch WHERE number = 2 AND day = {DAY};"
                f"DELETE FROM {LOG} WHERE attempt_id BETWEEN 20 AND 22"
            ),
            "chain sekorm, batch 2: batch removed",
        ),
        (
            (
                f"DELETE FROM stockrelay.attempt_batch WHERE number = 3 AND day = {DAY};"
                f"DELETE FROM {LOG} WHERE attempt_id = 30"
            ),
            "chain sekorm, batch 2: head altered",
        ),
        (
            f"UPDATE stockrelay.attempt_batch SET logged_at = now() - interval '1 h' WHERE day = {DAY} AND number = 2",
            "chain sekorm, batch 2: batch altered",
        ),
        (
            f"DELETE FROM stockrelay.attempt_batch WHERE chain = 'ymatou'; DELETE FROM {LOG} WHERE attempt_id > 39",
            "chain ymatou, batch 1: batch removed",
        ),
        (
            (
                f"DELETE FROM stockrelay.attempt_batch WHERE day < {DAY}; DELETE FROM {LOG} WHERE at < {DAY};"
                f"UPDATE stockrelay.attempt_chain SET number = 0, hash = origin WHERE day < {DAY}"
            ),
            "chain sekorm, batch 0: batch removed",
        ),
    ],
)  # fmt: skip
async def test_whatever_was_done_to_the_log_is_named(shop: Shop, deed: str, found: str) -> None:
    await fill(shop)
    assert await broken(shop) == []
    await shop.sql.execute(deed)
    first, *_ = await broken(shop)
    assert first == found


async def test_a_chain_that_was_rewritten_as_a_whole_no_longer_holds_its_recorded_head(shop: Shop) -> None:
    await fill(shop)
    audit = Audit(shop.database)
    recorded = await audit.heads()
    assert [(head.chain, head.number) for head in recorded] == [("sekorm", 2), ("sekorm", 3), ("ymatou", 1)]
    await log(shop, 60, 60)
    assert all([await audit.holds(head, KEEP) for head in recorded])
    await shop.sql.execute(f"TRUNCATE {LOG}, stockrelay.attempt_batch, stockrelay.attempt_chain")
    await fill(shop)
    assert await broken(shop) == []
    assert [await audit.holds(head, KEEP) for head in recorded] == [False] * 3


async def test_a_head_that_is_gone_with_a_day_past_its_keeping_is_no_sign_of_tampering(shop: Shop) -> None:
    await log(shop, 1, 3, days_ago=1)
    audit, today = Audit(shop.database), datetime.now(UTC).date()
    (kept,) = await audit.heads()

    def at(days_ago: int) -> Head:
        return replace(kept, day=today - timedelta(days=days_ago), hash="0" * 64)

    assert [await audit.holds(at(days), KEEP) for days in (1, 29, 32)] == [False, False, None]
    assert await audit.holds(kept, timedelta(0)) is True
    assert await audit.holds(at(1), timedelta(0)) is False


async def test_chains_and_sessions_append_at_once(shop: Shop) -> None:
    async def append(number: int) -> None:
        session = await shop.place.connect()
        for n in range(10):
            first = number * 100 + n * 5
            await session.execute(
                "SELECT stockrelay.log_attempts($1, array_agg(ROW(now(), n, 'c', 's', NULL, 1, 1, 1, 'applied', '', "
                "NULL, NULL)::stockrelay.attempt)) FROM generate_series($2::bigint, $3) AS n",
                f"chain/{number % 2}",
                first,
                first + 4,
            )

    await asyncio.gather(*(append(number) for number in range(4)))
    assert await broken(shop) == []
    assert [(head.chain, head.number) for head in await Audit(shop.database).heads()] == [
        ("chain/0", 20),
        ("chain/1", 20),
    ]


async def test_days_that_are_dropped_leave_a_whole_log(shop: Shop) -> None:
    for days_ago in (40, 20, 9, 8, 0):
        await log(shop, 100 * days_ago, 100 * days_ago + 3, days_ago=days_ago)
    for days in (30, 8, 7):
        await shop.sql.execute("SELECT stockrelay.roll_attempts(3, make_interval(days => $1))", days)
        assert await broken(shop) == []
    assert len(await shop.attempts()) == 4


def test_a_head_is_read_as_it_is_written() -> None:
    head = Head(datetime.now(UTC).date(), "sekorm/3", 17, "0f" * 32)
    assert parsed_head(f" {head}\n") == head
    assert [parsed_head(text) for text in ("", "x", f"2026-13-01:a:1:{'0' * 64}", f"{head}0")] == [None] * 4
