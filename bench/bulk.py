"""One statement that changes every row: what capture adds to it."""

import time
from contextlib import AsyncExitStack
from typing import Final

from bench.captures import LISTING, OURS, PLAIN, ROWS, TEXTBOOK, all_three
from bench.place import CONDITIONS, Connection, Place, daemon_setup
from bench.results import Promise, Result, row

NAME: Final = "bulk"
_NOWHERE: Final = "http://127.0.0.1:1"


async def measure(place: Place) -> Result:
    """An UPDATE without WHERE, commit included, alternating over the tables."""
    dsn = place.database(NAME)
    rows = int(ROWS * place.size.scale)
    found: dict[str, list[float]] = {name: [] for name in (PLAIN, TEXTBOOK, OURS)}
    async with AsyncExitStack() as stack:
        setup = stack.enter_context(daemon_setup(dsn, _NOWHERE, LISTING))
        connection = await stack.enter_async_context(all_three(dsn, setup, rows))
        for schema in found:
            await _update(connection, schema)  # the first one grows the files
        for number in range(place.size.rounds):
            order = (PLAIN, OURS, TEXTBOOK) if number % 2 else (TEXTBOOK, OURS, PLAIN)
            for schema in order:
                found[schema].append(await _update(connection, schema))
    plain = found[PLAIN]
    ours = row("ours", "s", found[OURS], plain)
    assert ours.ratio is not None
    return Result(
        NAME,
        f"UPDATE of {rows:,} rows",
        f"one statement, commit included; {CONDITIONS}",
        [
            row("no capture", "s", plain, plain),
            row("a NOTIFY for each row", "s", found[TEXTBOOK], plain),
            ours,
        ],
        [Promise("bulk UPDATE with capture on", ours.ratio, 1.25, is_floor=False)],
    )


async def _update(connection: Connection, schema: str) -> float:
    """Return the seconds it takes. The table is vacuumed afterwards, so that each finds the same room."""
    began = time.perf_counter()
    await connection.execute(f"UPDATE {schema}.stock SET on_hand = on_hand + 1", timeout=120)
    took = time.perf_counter() - began
    await connection.execute(f"VACUUM {schema}.stock")
    return took
