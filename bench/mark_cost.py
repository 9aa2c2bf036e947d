"""What the exposure clock costs marking: the statement as it is, and without the clock's columns."""

import math
import re
import time
from datetime import timedelta
from typing import Final

from bench.place import Place, connected
from bench.programs import BenchError
from bench.results import Row, row
from daemon.store.listing import ChannelListing
from tests.acceptance.harness import LISTINGS
from tests.channels import SEKORM

_MARKED: Final = 1_000
_ROUNDS: Final = 15
_RULES: Final = (timedelta(seconds=2), timedelta(seconds=10), 0, True, True, math.inf, False)
"""Debounce, changes and no resync, guarded, no factor, no first filling."""
_CLOCK: Final = re.compile(
    r"\n +exposed_at = CASE WHEN d\.exposed_at IS NULL.*?(?=\n +zero_at = CASE)", re.DOTALL
)


async def mark_cost(place: Place, database: str) -> tuple[list[Row], float]:
    """Mark 1,000 waiting SKUs with each statement alternately; return rows, and the ratio of the times."""
    listing = ChannelListing(SEKORM, LISTINGS[SEKORM], ("pn_code", "brand_name"))
    ours = listing.statement("mark", is_whole=False)
    bare, replaced = _CLOCK.subn("", ours)
    if replaced != 1:
        raise BenchError("the clock's columns are not found in the statement that marks")
    took: dict[str, list[float]] = {ours: [], bare: []}
    async with connected(place.server.dsn(database)) as connection:
        await connection.execute(
            "INSERT INTO erp.stock SELECT 'MORE-' || i, 'MORE-' || i, 'AMS', 100 FROM generate_series(1, $1) AS i",
            _MARKED,
        )
        skus = [f"MORE-{number}" for number in range(1, _MARKED + 1)]
        arguments = (SEKORM, skus, *_RULES, [None] * _MARKED)
        await connection.fetch(ours, *arguments)
        await connection.execute(
            "UPDATE stockrelay.ledger SET acked_quantity = 150, acked_seq = 0 WHERE sku LIKE 'MORE-%'"
        )
        await connection.execute("ANALYZE stockrelay.ledger")
        statements = {text: await connection.prepare(text) for text in took}
        for number in range(_ROUNDS):
            for text in (ours, bare)[:: 1 if number % 2 else -1]:
                await connection.execute("UPDATE erp.stock SET on_hand = on_hand - 1 WHERE sku LIKE 'MORE-%'")
                began = time.perf_counter()
                await statements[text].fetch(*arguments)
                took[text].append((time.perf_counter() - began) / _MARKED * 1e6)
                await connection.execute("VACUUM stockrelay.ledger")
    rows = [
        row("marking a SKU that waits, without the clock", "µs", took[bare]),
        row("marking a SKU that waits", "µs", took[ours], took[bare]),
    ]
    ratio = rows[1].ratio
    assert ratio is not None
    return rows, ratio
