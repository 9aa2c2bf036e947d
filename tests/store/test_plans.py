"""The hot queries look at what they need, however much there is. Buffers are counted, not time."""

import json
from typing import Any

import pytest

from daemon.store import queries
from daemon.store.ledger.claims import CAPTURE_DUE
from tests.store.place import Connection, forget_statistics
from tests.store.shop import CHANNEL, DEBOUNCE, EVERY_SLOT, SETTLE, Shop

MANY = 200_000
_SQL = queries.load("ledger")


async def explained(sql: Connection, query: str, *arguments: object) -> tuple[str, int]:
    """The plan as text, and how many pages were looked at."""
    found = await sql.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}", *arguments)
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    return found, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]


@pytest.fixture
async def long_log(sql: Connection) -> Connection:
    """A log of many rows that have been read, in either slot, and a few that have not."""
    await forget_statistics(sql, "stockrelay.change_0", "stockrelay.change_1")
    await sql.execute(
        f"""
        INSERT INTO stockrelay.change_0 (xid, at, sku) SELECT (3 + i % 500)::text::xid8, clock_timestamp(), 'S' || i
        FROM generate_series(1, {MANY}) AS i;
        INSERT INTO stockrelay.change_1 SELECT * FROM stockrelay.change_0 LIMIT 5000;
        UPDATE stockrelay.read_position SET read_until = pg_current_snapshot();
        """
    )
    for number in range(5):
        await sql.execute("INSERT INTO shop.goods VALUES ($1)", f"new-{number}")
    return sql


async def test_reading_does_not_look_at_what_was_read(long_log: Connection) -> None:
    pages = await long_log.fetchval("SELECT pg_relation_size('stockrelay.change_0') / 8192")
    assert pages > 1000
    read_until = await long_log.fetchval("SELECT read_until::text FROM stockrelay.read_position")
    # As if another transaction had been running then: it is looked for, too.
    xmax = int(read_until.split(":")[1])
    for statistics in ("", "ANALYZE stockrelay.change_0, stockrelay.change_1"):
        await long_log.execute(statistics or "SELECT 1")
        for then in (read_until, f"{xmax - 1}:{xmax}:{xmax - 1}"):
            _, looked_at = await explained(
                long_log, "SELECT * FROM stockrelay.unread($1::text::pg_snapshot)", then
            )
            assert looked_at < 300, (statistics, then)
    row = await long_log.fetchrow("SELECT * FROM stockrelay.take_changes('sekorm', 100)")
    assert row is not None
    assert sorted(row["skus"]) == [f"new-{number}" for number in range(5)]


@pytest.fixture
async def long_ledger(shop: Shop) -> Shop:
    """Many rows: a third is due, a third is not yet, a third is clean."""
    await forget_statistics(shop.sql, "stockrelay.ledger")
    await shop.sql.execute(
        f"""
        INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', 1 FROM generate_series(1, {MANY}) AS i;
        INSERT INTO stockrelay.ledger
            (channel, sku, want_seq, acked_seq, listed_rows, listed_identifiers, listed_quantity,
                                       acked_quantity, due_at, urgent)
        SELECT '{CHANNEL}', 'S' || i, 1, i % 3 / 2, 1, ARRAY['P' || i, 'b'], 1, 9,
               CASE i % 3 WHEN 0 THEN clock_timestamp() - interval '1 h'
                          WHEN 1 THEN clock_timestamp() + interval '1 h' END,
               i % 3 < 2 AND i % 100 = 0
        FROM generate_series(1, {MANY}) AS i;
        """
    )
    return shop


async def test_claiming_and_marking_look_at_what_they_need(long_ledger: Shop) -> None:
    shop, sql = long_ledger, long_ledger.sql
    owner = shop.owner
    for statistics in ("", "ANALYZE stockrelay.ledger, shop.goods"):
        await sql.execute(statistics or "SELECT 1")
        await sql.execute("BEGIN")
        is_guarded = shop.ledger._guard is not None
        _plan, looked_at = await explained(sql, CAPTURE_DUE, CHANNEL, *owner.columns, is_guarded, 50, 50)
        await sql.execute("ROLLBACK")
        assert looked_at < 2000
    _, looked_at = await explained(sql, _SQL["next_due"], CHANNEL, EVERY_SLOT, shop.ledger._guard is not None)
    # Three looks into each slot's part of an index.
    assert looked_at < 200
    # A replica with a quarter of the slots looks at nothing of what waits in the others.
    some = owner.of(EVERY_SLOT[4:8])
    _, looked_at = await explained(sql, CAPTURE_DUE, CHANNEL, *some.columns, False, 20, 20)  # noqa: FBT003
    assert looked_at < 100
    claim = await shop.claim(limit=50)
    assert len(claim.attempts) == 50
    done = [
        {
            "sku": a.push.sku,
            "slot": a.slot,
            "attempt_id": a.attempt_id,
            "outcome": "unknown",
            "reason": "",
            "wait_s": 0,
        }
        for a in claim.attempts
    ]
    _, looked_at = await explained(sql, _SQL["complete"], CHANNEL, owner.holder, SETTLE, json.dumps(done))
    assert looked_at < 4000
    skus = [f"S{number}" for number in range(3, 60, 3)]
    defers_waiting, is_filling = True, False
    _, looked_at = await explained(
        sql,
        shop.ledger._statements[False, False],
        CHANNEL,
        skus,
        DEBOUNCE.quiet,
        DEBOUNCE.max_wait,
        0,
        defers_waiting,
        defers_waiting,
        shop.ledger._factor,
        is_filling,
        [],
    )
    assert looked_at < 1500
    assert await names_cost(sql) < 1500


async def names_cost(sql: Connection) -> int:
    """How many pages are looked at to find out who else has twenty SKUs' identifiers."""
    names = json.dumps([[f"P{number}", "b"] for number in range(20)])
    query = "SELECT stockrelay.note_twins($1, $2::text::jsonb, 'park', interval '0')"
    _, looked_at = await explained(sql, query, CHANNEL, names)
    return looked_at
