"""A claim looks at its own rows, also in a ledger that has just been filled and has no statistics."""

import json
from typing import Any

from daemon.store import queries
from daemon.store.ledger.claims import CAPTURE_DUE
from tests.store.place import forget_statistics
from tests.store.shop import CHANNEL, SETTLE, Shop

MANY = 50_000
FEW = 20
_SQL = queries.load("ledger")


async def pages(shop: Shop, query: str, *arguments: object) -> int:
    """How many pages a statement looks at."""
    found = await shop.sql.fetchval(
        f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {query}", *arguments
    )
    plan: dict[str, Any] = json.loads(found)[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


async def test_a_claim_does_not_read_the_backlog_when_there_are_no_statistics(shop: Shop) -> None:
    await forget_statistics(shop.sql, "stockrelay.ledger")
    await shop.sql.execute(
        f"""
        INSERT INTO shop.goods SELECT 'S' || i, 'P' || i, 'b', 1 FROM generate_series(1, {MANY}) AS i;
        INSERT INTO stockrelay.ledger (channel, sku, want_seq, listed_rows, listed_identifiers, listed_quantity, due_at)
        SELECT '{CHANNEL}', 'S' || i, 1, 1, ARRAY['P' || i, 'b'], 1, clock_timestamp() - interval '1 h'
        FROM generate_series(1, {MANY}) AS i;
        """
    )
    whole = await shop.sql.fetchval("SELECT pg_relation_size('stockrelay.ledger') / 8192")
    owner = shop.owner
    due = (CHANNEL, *owner.columns, False, FEW, FEW)
    claimed = [
        {"sku": row["sku"], "version": row["version"], "want_seq": row["want_seq"], "was": row["identifiers"],
         "quantity": 1, "identifiers": ["P", "b"], "is_delisting": False, "is_zero": False}
        for row in await shop.sql.fetch(CAPTURE_DUE, *due)
    ]  # fmt: skip
    is_sync = False
    looked_at = {
        "capture_due": await pages(shop, CAPTURE_DUE, *due),
        "open_attempts": await pages(
            shop,
            _SQL["open_attempts"],
            CHANNEL,
            *owner.columns,
            json.dumps(claimed),
            is_sync,
        ),
    }
    open_rows = await shop.sql.fetch(
        "SELECT sku, slot, attempt_id FROM stockrelay.ledger WHERE attempt_id IS NOT NULL"
    )
    assert len(open_rows) == FEW
    done = [{**row, "outcome": "applied", "reason": ""} for row in open_rows]
    outcomes = (CHANNEL, owner.holder, SETTLE)
    # A session's first call of the log's function reads the catalogs; what is counted here is the backlog.
    await shop.sql.fetch(_SQL["complete"], *outcomes, json.dumps(done[:1]))
    looked_at["complete"] = await pages(shop, _SQL["complete"], *outcomes, json.dumps(done[1:]))
    assert all(count < whole / 3 for count in looked_at.values()), (whole, looked_at)
